from __future__ import annotations

import pytest
import torch

from cvr_plugins.sequential import append_mask, mask_items, mask_last

MASK = 99


def sessions_of(*lengths, width=None, rows=1):
    """Sessions 1, 2, 3 ... of the given lengths, each `rows` times."""
    column = torch.arange(1, (width or max(lengths)) + 1)
    counts = torch.tensor(lengths).repeat_interleave(rows)[:, None]
    return torch.where(column <= counts, column, 0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mask_ratio", [0.001, 0.2, 0.5, 0.999])
def test_at_least_one_event_and_never_all_of_a_session(mask_ratio):
    sessions = sessions_of(2, 3, 5, 20, rows=500)
    masked = mask_items(sessions, mask_ratio=mask_ratio, mask_id=MASK, generator=seeded(0))
    hidden, events = masked.masked.sum(1), (sessions != 0).sum(1)
    assert (hidden >= 1).all()
    assert (hidden < events).all()
    assert not (masked.masked & (sessions == 0)).any()


def test_what_is_hidden_is_the_target_and_nothing_else_changes():
    sessions = sessions_of(2, 3, 9, rows=40) + 10 * (sessions_of(2, 3, 9, rows=40) > 0)
    masked = mask_items(sessions, mask_ratio=0.3, mask_id=MASK, generator=seeded(0))
    assert torch.equal(masked.masked, masked.sequences == MASK)
    assert torch.equal(masked.sequences[~masked.masked], sessions[~masked.masked])
    assert torch.equal(masked.targets, sessions[masked.masked])
    assert (masked.targets > 0).all()


@pytest.mark.parametrize(("length", "mask_ratio"), [(2, 0.3), (5, 0.2), (50, 0.2), (3, 0.8)])
def test_the_rate_is_that_of_the_closed_form(length, mask_ratio):
    rows = 20_000
    masked = mask_items(sessions_of(length, rows=rows), mask_ratio=mask_ratio, mask_id=MASK, generator=seeded(3)).masked
    expected = length * mask_ratio + (1 - mask_ratio) ** length - mask_ratio**length
    # Five standard errors of the mean of a count with a variance of at most n r (1 - r).
    error = 5 * (length * mask_ratio * (1 - mask_ratio) / rows) ** 0.5
    assert masked.sum(1).double().mean().item() == pytest.approx(expected, abs=error)
    by_position = masked.double().mean(0)
    assert by_position.tolist() == pytest.approx([expected / length] * length, abs=5 * (0.25 / rows) ** 0.5)


def test_a_session_of_one_event_or_none_stays_as_it_is():
    sessions = sessions_of(1, 0, 4, rows=50)
    for masked in (
        mask_items(sessions, mask_ratio=0.9, mask_id=MASK, ft_ratio=0.5, generator=seeded(0)),
        mask_last(sessions, mask_id=MASK),
    ):
        assert torch.equal(masked.sequences[:100], sessions[:100])
        assert masked.masked[100:].any(1).all()


def test_the_generator_decides():
    sessions = sessions_of(4, 9, 30, rows=20)

    def masked(generator):
        return mask_items(sessions, mask_ratio=0.3, mask_id=MASK, ft_ratio=0.3, generator=generator).masked

    generator = seeded(7)
    first, second = masked(generator), masked(generator)
    torch.manual_seed(1)
    assert torch.equal(masked(seeded(7)), first)
    assert not torch.equal(first, second)
    assert not torch.equal(masked(seeded(8)), first)
    torch.manual_seed(7)
    assert torch.equal(masked(None), first)


def test_drawing_from_a_generator_leaves_the_global_one_alone():
    before = torch.random.get_rng_state()
    mask_items(sessions_of(4), mask_ratio=0.3, mask_id=MASK, ft_ratio=0.5, generator=seeded(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_last_event_is_that_before_the_padding():
    sessions = torch.tensor([[5, 6, 7, 0], [5, 6, 0, 0], [5, 6, 7, 8], [0, 5, 0, 6]])
    masked = mask_last(sessions, mask_id=MASK)
    assert masked.sequences.tolist() == [[5, 6, MASK, 0], [5, MASK, 0, 0], [5, 6, 7, MASK], [0, 5, 0, MASK]]
    assert masked.targets.tolist() == [7, 6, 8, 6]


def test_a_share_of_the_sessions_has_its_last_event_hidden():
    sessions = sessions_of(30, rows=4000)
    last = mask_last(sessions, mask_id=MASK).masked
    for share in (0.0, 0.25, 1.0):
        masked = mask_items(sessions, mask_ratio=0.4, mask_id=MASK, ft_ratio=share, generator=seeded(0)).masked
        # By chance, one event hidden and that the last: 4000 * 0.4 * 0.6 ** 29, about 6e-4 sessions.
        found = (masked == last).all(1).double().mean().item()
        assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (50, [[5, 6, 7, MASK], [5, MASK, 0, 0], [MASK, 0, 0, 0]]),
        (4, [[5, 6, 7, MASK], [5, MASK, 0, 0], [MASK, 0, 0, 0]]),
        (3, [[6, 7, MASK], [5, MASK, 0], [MASK, 0, 0]]),
        (2, [[7, MASK], [5, MASK], [MASK, 0]]),
    ],
)
def test_the_mask_of_the_next_event_stands_after_the_last(max_length, expected):
    sessions = torch.tensor([[5, 6, 0, 7], [0, 0, 0, 5], [0, 0, 0, 0]])
    assert append_mask(sessions, mask_id=MASK, max_length=max_length).tolist() == expected
