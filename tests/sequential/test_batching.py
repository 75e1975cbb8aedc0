from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from cvr_plugins.sequential import LengthBucketSampler


def lengths_like_sessions(n, seed=0):
    """Mean of about 15, at most 50, a long tail: as YooChoose's."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(n).log_normal_(2.4, 0.8, generator=generator).long().clamp(2, 50)


def padding_share(batches, lengths):
    """Share of the positions that hold no event, each batch being as wide as its longest session."""
    positions = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - int(lengths.sum()) / positions


@pytest.mark.parametrize(("n", "window"), [(1, 1), (16, 3), (17, 50), (1000, 3)])
def test_every_session_comes_once_per_epoch(n, window):
    sampler = LengthBucketSampler(lengths_like_sessions(n), 16, window=window, seed=3)
    for _ in range(3):
        batches = list(sampler)
        assert sorted(index for batch in batches for index in batch) == list(range(n))
        assert len(batches) == len(sampler)
        assert sorted(map(len, batches), reverse=True)[:-1] == [16] * (len(batches) - 1)


def test_little_of_a_bucketed_batch_is_padding():
    lengths = lengths_like_sessions(20_000)
    shares = {
        window: padding_share(list(LengthBucketSampler(lengths, 256, window=window)), lengths) for window in (1, 50)
    }
    assert shares[1] > 0.6
    assert shares[50] < 0.1


def test_one_batch_a_window_is_plain_shuffling():
    lengths = torch.arange(1000)
    first = [index for batch in LengthBucketSampler(lengths, 10, window=1) for index in batch]
    firsts_of_batches = torch.tensor(first).view(100, 10).double().mean(1)
    # Means of ten of a thousand: their standard deviation is 288.7 / sqrt(10), of sorted batches it would be 290.
    assert firsts_of_batches.std().item() == pytest.approx(91.3, rel=0.3)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = lengths_like_sessions(500)

    def epochs(seed, count, *, start=0):
        sampler = LengthBucketSampler(lengths, 16, seed=seed)
        sampler.epoch = start
        return [list(sampler) for _ in range(count)]

    torch.manual_seed(1)
    run = epochs(7, 3)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert epochs(7, 3) == run
    assert epochs(7, 1, start=2) == run[2:]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({str(epoch) for epoch in run + epochs(8, 3)}) == 6


def test_batches_come_in_no_order_of_length():
    lengths = torch.arange(2000)
    means = torch.tensor([lengths[batch].double().mean() for batch in LengthBucketSampler(lengths, 10, window=50)])
    steps = means.diff()
    assert 0.4 < (steps > 0).double().mean() < 0.6


def test_dropping_the_last_batch_drops_long_sessions_no_more_than_others():
    lengths = torch.arange(105)
    sampler = LengthBucketSampler(lengths, 10, drop_last=True)
    assert len(sampler) == 10
    dropped = []
    for _ in range(200):
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [10] * 10
        kept = {index for batch in batches for index in batch}
        assert len(kept) == 100
        dropped += set(range(105)) - kept
    assert torch.tensor(dropped).double().mean().item() == pytest.approx(52, abs=5)


def test_sessions_beyond_the_maximum_length_count_as_equally_long():
    lengths = torch.cat([torch.full((50,), 5), torch.arange(50, 100)])
    sampler = LengthBucketSampler(lengths, 10, max_length=50, window=10)
    long = [batch for batch in sampler if min(batch) >= 50]
    assert len(long) == 5
    # Sorted by their full lengths, each would span exactly ten.
    assert max(max(batch) - min(batch) for batch in long) > 20


def test_a_data_loader_takes_it():
    lengths = lengths_like_sessions(40)
    sampler = LengthBucketSampler(lengths, 16, seed=1)
    batches = [batch.tolist() for batch in DataLoader(torch.arange(40), batch_sampler=sampler)]
    again = LengthBucketSampler(lengths.numpy(), 16, seed=1)
    assert batches == list(again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(0, dtype=torch.int64), 4), "There is no session to make batches of"),
        (([1.5], 4), "lengths of the sessions must be whole numbers in 1 dimension"),
        (([3], 0), "batch_size must be a whole number of at least 1; got 0"),
        (([3], 2, {"window": 0}), "^window must be .*; got 0"),
        (([3], 2, {"max_length": -1}), "^max_length must be .*; got -1"),
        (([3], 2, {"seed": "7"}), "^seed must be .*; got '7'"),
        (([3], 2, {"drop_last": None}), "^drop_last must be .*; got None"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments, message):
    lengths, batch_size, *options = arguments
    with pytest.raises(ValueError, match=message):
        LengthBucketSampler(lengths, batch_size, **dict(*options))
