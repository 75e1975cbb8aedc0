"""Masked-item prediction as a model of its own: its loss, its scores, and that both ask the same question."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins.sequential import MaskedItemCore, SessionEncoder, latest_events, mask_items

N_ITEMS, LENGTH = 20, 7
OPTIONS = {
    "max_length": LENGTH,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_size": 8,
    "inner_size": 12,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "initializer_range": 0.5,
}
HEADS = [{"tie_mlm": True, "mlm_transform": False}, {"tie_mlm": False, "mlm_transform": True}]


def core_of(encoder=None, **options):
    torch.manual_seed(0)
    core = MaskedItemCore(SessionEncoder(N_ITEMS, **{**OPTIONS, **(encoder or {})}), **options).double()
    torch.nn.init.normal_(core.mlm_head.bias)
    return core


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_the_loss_is_the_mean_over_sessions_of_the_mean_over_masked_positions(head, sessions, make_generator):
    core = core_of(mask_ratio=0.4, ft_ratio=0.3, **head)
    loss = core.step(sessions, make_generator(5))["mlm"]
    batch = latest_events(sessions, LENGTH)
    masked = mask_items(batch, mask_ratio=0.4, mask_id=N_ITEMS, ft_ratio=0.3, generator=make_generator(5))
    hidden = core.mlm_head.transform(core.encoder(masked.sequences))
    table = core.encoder.item_embedding.weight[:N_ITEMS] if head["tie_mlm"] else core.mlm_head.weight
    logits = hidden @ table.T + core.mlm_head.bias
    log_probability = logits[:, :, 1:].log_softmax(-1)
    expected = []
    for row in range(len(batch)):
        places = masked.masked[row].nonzero()[:, 0]
        expected.append(-torch.stack([log_probability[row, p, batch[row, p] - 1] for p in places]).mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_last_item_sample_asks_what_prediction_asks(head, sessions):
    """Hiding the last event and putting a mask after the events before it are one and the same."""
    core = core_of(ft_ratio=1.0, **head)
    count = (sessions != 0).sum(1, keepdim=True)
    last = sessions.gather(1, count - 1)
    history = sessions.scatter(1, count - 1, 0)
    scores = core.score_catalogue(history)
    assert (scores[:, 0] == -torch.inf).all()
    expected = torch.nn.functional.cross_entropy(scores, last[:, 0])
    torch.testing.assert_close(core.step(sessions)["mlm"], expected)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_scores_of_items_are_those_of_the_catalogue(head, sessions):
    core = core_of(**head)
    items = torch.randint(0, N_ITEMS, (len(sessions), 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(core.score_items(sessions, items), core.score_catalogue(sessions).gather(1, items))


def test_padding_and_events_that_are_too_old_change_nothing(sessions):
    core = core_of()
    older = torch.randint(1, N_ITEMS, (len(sessions), 4), generator=torch.Generator().manual_seed(0))
    full = torch.randint(1, N_ITEMS, (len(sessions), LENGTH), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(core.score_catalogue(torch.cat([older, full], 1)), core.score_catalogue(full))
    spread = torch.zeros(len(sessions), 3 * LENGTH, dtype=torch.long)
    spread[:, 2::3] = sessions
    torch.testing.assert_close(core.score_catalogue(spread), core.score_catalogue(sessions))


@pytest.mark.parametrize("n_layers", [1, 2])
def test_states_asked_for_alone_are_those_of_all_and_so_are_their_gradients(n_layers, sessions):
    encoder = core_of({"n_layers": n_layers}).encoder
    wanted = (sessions != 0) & (torch.rand(sessions.shape, generator=torch.Generator().manual_seed(0)) < 0.4)
    wanted[0] = False
    weights = torch.randn(int(wanted.sum()), OPTIONS["hidden_size"], dtype=torch.float64)
    found = []
    for hidden in (encoder(sessions)[wanted], encoder(sessions, wanted)):
        gradients = torch.autograd.grad((hidden * weights).sum(), list(encoder.parameters()), allow_unused=True)
        found.append([hidden, *(each for each in gradients if each is not None)])
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense)


def test_sessions_of_one_event_have_no_part_in_the_loss(sessions, make_generator):
    core = core_of(ft_ratio=1.0)
    single = torch.zeros_like(sessions[:3])
    single[:, 0] = 5
    both = core.step(torch.cat([sessions, single]), make_generator(0))["mlm"]
    torch.testing.assert_close(both, core.step(sessions, make_generator(0))["mlm"])
    assert core.step(single)["mlm"].item() == 0


def test_chunks_change_nothing(sessions, make_generator):
    whole = core_of().step(sessions, make_generator(0))["mlm"]
    for chunk_size in (1, 3, 100):
        torch.testing.assert_close(core_of(chunk_size=chunk_size).step(sessions, make_generator(0))["mlm"], whole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: core_of({"max_length": 1}), "max_length must be at least 2"),
        (lambda: core_of().step(torch.full((2, 3), N_ITEMS)), f"hold the item id {N_ITEMS}, outside 0"),
        (
            lambda: core_of().score_items(torch.ones(2, 3).long(), torch.ones(1, 3).long()),
            "1 rows of items came with 2",
        ),
        (
            lambda: core_of().score_items(torch.ones(1, 3).long(), torch.full((1, 1), N_ITEMS)),
            "The items to score hold",
        ),
        (lambda: core_of().score_catalogue(torch.ones(0, 3).long()), "A batch needs at least one session"),
    ],
)
def test_what_cannot_be_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
