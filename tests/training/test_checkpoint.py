"""What a checkpoint may hold comes back as it was; what could only be read by executing it is refused, either way."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from cvr_plugins.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)

VALUES = {
    "config": {"seed": 1},
    "state_dict": {"weight": torch.arange(3.0)},
    "nothing": None,
    "text": "a",
    "bytes": b"a",
    "nested": {"list": [1, (2.5, True)], "set": {1, 2}},
    "size": torch.Size([2]),
    "type": torch.float64,
    "device": torch.device("cpu"),
}


def test_plain_values_come_back_as_they_were(tmp_path):
    save_checkpoint(tmp_path / "a.pt", VALUES)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found.pop("format") == 1
    assert torch.equal(found.pop("state_dict")["weight"], torch.arange(3.0))
    assert found == {key: value for key, value in VALUES.items() if key != "state_dict"}
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "a.pt") == []


@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "F"])
def test_arrays_of_numbers_come_back_as_they_were(kind, tmp_path):
    array = np.array([[0, 1], [1, 0]]).astype(kind).T
    save_checkpoint(tmp_path / "a.pt", {"config": {}, "state_dict": {}, "array": array, "scalar": array[0, 1]})
    found = load_checkpoint(tmp_path / "a.pt")
    assert found["array"].dtype == array.dtype
    assert np.array_equal(found["array"], array)
    assert found["scalar"] == array[0, 1]


@pytest.mark.parametrize("value", [print, np.array(["a"]), [{"a": type}]], ids=["function", "text", "class"])
def test_what_could_not_be_read_back_is_not_written(value, tmp_path):
    with pytest.raises(CheckpointError, match="give numbers, text, lists, mappings or tensors"):
        save_checkpoint(tmp_path / "a.pt", {"config": {}, "state_dict": {}, "value": value})
    assert list(tmp_path.iterdir()) == []


def test_random_numbers_go_on_where_they_were(tmp_path):
    own = {"own": torch.Generator(), "none": None}

    def drawn() -> list[float]:
        numbers = np.random.rand()  # noqa: NPY002 - the state that is kept
        return [random.random(), numbers, torch.rand(()).item(), torch.rand((), generator=own["own"]).item()]

    save_checkpoint(tmp_path / "a.pt", {"config": {}, "state_dict": {}, "random": random_state(own)})
    first = drawn()
    assert drawn() != first
    set_random_state(load_checkpoint(tmp_path / "a.pt")["random"], {**own, "another": torch.Generator()})
    assert drawn() == first
