from __future__ import annotations

import io

import pytest
import torch

from cvr_plugins.objectives._memory import RowMemory


def append(memory, rows, chosen=None):
    count = len(next(iter(rows.values())))
    memory.append(rows, torch.ones(count, dtype=torch.bool) if chosen is None else torch.tensor(chosen))


def ids(*values):
    return {"id": torch.tensor(values)}


def held(memory, latest=1000):
    """Ids of the latest rows, oldest first."""
    return memory.embed(lambda rows: rows["id"].double()[:, None], latest).squeeze(1).tolist()


def saved_and_loaded(memory, fresh):
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def test_first_in_first_out_up_to_the_capacity():
    memory = RowMemory(4)
    assert memory.fill == 0
    expected = []
    for batch, chosen in (
        ([1, 2, 3], [True, False, True]),
        ([4, 5], [False, False]),
        ([6, 7], [True, True]),
        ([8], [True]),
        ([9, 10, 11, 12, 13, 14], [True] * 6),
        ([15], [True]),
    ):
        append(memory, ids(*batch), chosen)
        expected = (expected + [row for row, take in zip(batch, chosen, strict=True) if take])[-4:]
        assert held(memory) == expected
        assert memory.fill == len(expected)
    assert memory.seen == 12
    assert held(memory, 2) == [14, 15]


def test_rows_are_copies_that_take_no_more_room_than_they_need():
    memory = RowMemory(3)
    batch = torch.arange(1000)
    for _ in range(3):
        append(memory, {"id": batch})
    batch.zero_()
    assert held(memory) == [997, 998, 999]
    (buffer,) = (buffer for name, buffer in memory.named_buffers() if name != "seen")
    assert buffer.untyped_storage().nbytes() == 3 * 8


def test_embedding_needs_a_row():
    memory = RowMemory(3)
    with pytest.raises(ValueError, match="no row to embed: 0 held, the latest 2 asked for"):
        memory.embed(lambda rows: rows["id"], 2)
    append(memory, ids(1))
    with pytest.raises(ValueError, match="no row to embed: 1 held, the latest 0 asked for"):
        memory.embed(lambda rows: rows["id"], 0)


@pytest.mark.parametrize("widths", [[1, 2, 4], [4, 3, 1], [2, 4, 2, 1, 4]], ids=str)
def test_sequences_are_embedded_as_wide_as_they_came(widths):
    # The mean over all columns, as of an encoder for which 0 is a token like any other: padding would show.
    generator = torch.Generator().manual_seed(0)
    memory, expected = RowMemory(7), []
    for number, width in enumerate(widths):
        rows = {
            "id": torch.arange(2) + 10 * number,
            "history": torch.randint(0, 9, (2, width), generator=generator),
            "vector": torch.randn(2, 3, generator=generator),
        }

        def embed(rows):
            means = [rows["history"].double().mean(1), rows["vector"].double().sum(1)]
            return torch.stack([rows["id"].double(), *means], dim=1)

        expected.append(embed(rows))
        append(memory, rows)
        latest = torch.cat(expected)[-7:]
        assert torch.equal(memory.embed(embed, 7), latest)
        assert torch.equal(memory.embed(embed, 3), latest[-3:])


@pytest.mark.parametrize("batches", [0, 3])
def test_rows_survive_being_saved(batches):
    memory = RowMemory(5)
    names = ("id", "a.b", "100%", "%2E", "training", "forward", "seen", "")
    for number in range(batches):
        rows = {name: torch.arange(2) + 2 * number + 100 * place for place, name in enumerate(names)}
        append(memory, {**rows, "history": torch.full((2, number + 1), number)})
    twin = saved_and_loaded(memory, RowMemory(5))
    assert twin.fill == memory.fill == min(5, 2 * batches)
    assert twin.state_dict().keys() == memory.state_dict().keys()
    found = []
    for each in (memory, twin):
        append(each, {**{name: torch.tensor([7]) for name in names}, "history": torch.ones(1, 2)})
        each.embed(lambda rows: found.append(rows) or torch.zeros(len(rows["id"]), 1), 5)
    half = len(found) // 2
    for one, other in zip(found[:half], found[half:], strict=True):
        assert set(one) == {*names, "history"}
        assert all(torch.equal(values, other[name]) for name, values in one.items())
    assert memory.seen == twin.seen == 2 * batches + 1


def test_loading_replaces_the_rows_held():
    empty, few = RowMemory(5).state_dict(), RowMemory(5)
    append(few, ids(1, 2))
    memory = RowMemory(5)
    append(memory, {"other": torch.arange(4), "history": torch.ones(4, 2)})
    memory.load_state_dict(few.state_dict())
    assert held(memory) == [1, 2]
    assert memory.seen == 2
    memory.load_state_dict(empty)
    assert memory.fill == 0
    assert memory.seen == 0
    append(memory, {"third": torch.arange(3)})
    assert memory.fill == 3


def test_loading_into_a_smaller_memory_keeps_the_latest():
    memory = RowMemory(5)
    append(memory, ids(1, 2, 3, 4, 5))
    smaller = saved_and_loaded(memory, RowMemory(2))
    assert held(smaller) == [4, 5]
    append(smaller, ids(6))
    assert held(smaller) == [5, 6]


def test_loading_by_assignment():
    memory = RowMemory(5)
    append(memory, ids(1, 2))
    with torch.device("meta"):
        fresh = RowMemory(5)
    fresh.load_state_dict(memory.state_dict(), assign=True)
    assert held(fresh) == [1, 2]


def test_a_state_that_is_not_of_a_memory_changes_nothing():
    memory = RowMemory(5)
    append(memory, ids(1, 2))
    with pytest.raises(RuntimeError, match=r"Missing key.*seen"):
        memory.load_state_dict({})
    assert memory.load_state_dict({}, strict=False).missing_keys == ["seen", "values:id"]
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        memory.load_state_dict({**memory.state_dict(), "other": torch.ones(2)})
    assert held(memory) == [1, 2]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"values:id": torch.arange(3)}, "different numbers of rows"),
        ({"width:id": torch.arange(2)}, "sequences and their widths do not fit together"),
        ({"width:history": None}, "sequences and their widths do not fit together"),
        ({"values:id": torch.zeros(2, 2, 2)}, "an entry has the wrong number of dimensions"),
        ({"values:id": [1, 2]}, "an entry is not a tensor"),
    ],
)
def test_an_inconsistent_state_is_refused_and_changes_nothing(changes, problem):
    memory = RowMemory(5)
    append(memory, {"id": torch.tensor([1, 2]), "history": torch.ones(2, 3)})
    state = {name: value for name, value in {**memory.state_dict(), **changes}.items() if value is not None}
    with pytest.raises(RuntimeError, match=problem):
        memory.load_state_dict(state)
    assert held(memory) == [1, 2]


def test_ids_stay_integers_when_the_type_changes():
    memory = RowMemory(5)
    big = 2**53 + 1
    append(memory, {"id": torch.tensor([big]), "price": torch.tensor([0.5]), "history": torch.tensor([[big, 3]])})
    memory.double().half().float()
    kinds = {name: buffer.dtype for name, buffer in memory.named_buffers()}
    assert kinds["values:price"] == torch.float32
    assert {kind for name, kind in kinds.items() if name != "values:price"} == {torch.int64}
    memory.embed(lambda rows: torch.testing.assert_close(rows["id"], torch.tensor([big])) or torch.zeros(1, 1), 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"id": torch.ones(2)}, r"features \['price'\] are not those of the rows in memory"),
        ({"id": torch.ones(2), "price": torch.ones(2), "x": torch.ones(2)}, r"features \['x'\] are not"),
        ({"id": torch.ones(2, 3), "price": torch.ones(2)}, r"features \['id'\] are not"),
        ({"id": torch.ones(2), "price": torch.ones(2, 1, 1)}, r"'price' has the shape \[2, 1, 1\]"),
    ],
)
def test_other_features_are_refused(rows, message):
    memory = RowMemory(5)
    append(memory, {"id": torch.tensor([1.0]), "price": torch.tensor([1.0])})
    with pytest.raises(ValueError, match=message):
        append(memory, rows)
    assert held(memory) == [1]
