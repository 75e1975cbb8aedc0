"""Checkpoints of both sides: plain dictionaries, written whole or not at all, read without executing anything."""

from __future__ import annotations

import random
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvr_plugins.files import OutputError, whole_file
from cvr_plugins.wording import one_line

FORMAT = 1
"""The number of the format, which `load_checkpoint` asks for."""

_ARRAY = "cvr_plugins.array"
_PLAIN = (bool, int, float, complex, str, bytes, torch.device, torch.dtype, torch.Size)
_NUMBERS = "?bhilqBHILQefdFD"


class CheckpointError(ValueError):
    """A checkpoint cannot be read safely, does not fit, or would have to hold what cannot be read back safely."""


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path
        The file; what was there is replaced once all is written.
    content
        What `storable` takes. Of both sides it has ``framework``, ``model`` and ``plugin`` (text), ``config`` (the keys
        from which the model is built again) and ``state_dict`` (the weights); what else it has, its side knows.

    Raises
    ------
    CheckpointError
        For a value that could not be read back safely.
    OutputError
        If it cannot be written.
    """
    stored = storable(content)
    # Not by its name: torch writes that into the file, and the one aside has another.
    with whole_file(path) as aside, aside.open("wb") as file:
        try:
            torch.save({"format": FORMAT, **stored}, file)
        except RuntimeError as error:
            # As which torch tells what the system said of a full disk.
            reason = error.__context__ if isinstance(error.__context__, OSError) else error
            raise OutputError(
                f"Cannot write {str(path)!r}: {getattr(reason, 'strerror', None) or one_line(reason)}."
            ) from error


def load_checkpoint(
    path: str | Path, *, framework: str | None = None, map_location: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return what `save_checkpoint` was given; nothing that the file holds is executed.

    Parameters
    ----------
    path
        The file.
    framework
        The side that it must be of, None for either.
    map_location
        The device that tensors are put on.

    Raises
    ------
    CheckpointError
        If there is no such file, it is damaged, holds anything but plain values, was written by another program or by
        the other side.
    """
    state = plain_values(path, map_location=map_location)
    found = state.get("format") if isinstance(state, dict) else None
    if found is None or not all(isinstance(state.get(key), dict) for key in ("config", "state_dict")):
        raise CheckpointError(f"{path} is not a checkpoint of a run: it needs format, config and state_dict.")
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has the checkpoint format {found!r}; this version of cvr-plugins reads {FORMAT}."
        )
    if framework is not None and state.get("framework") != framework:
        raise CheckpointError(f"{path} is a checkpoint of {state.get('framework')}, not of {framework}.")
    values: dict[str, Any] = _arrays(state)
    return values


def plain_values(path: str | Path, *, map_location: torch.device | str = "cpu") -> Any:
    """Return what a file of torch's holds, where that is plain values and tensors.

    Parameters
    ----------
    path, map_location
        As in `load_checkpoint`.

    Raises
    ------
    CheckpointError
        If there is no such file, it is damaged, or it holds anything else: reading that would execute it.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        # torch reads past the checksums that it wrote.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"the checksum of {broken} is wrong")
        with warnings.catch_warnings():
            # About the pickle protocol of a file that is then refused.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=map_location, weights_only=True)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged or cut short.") from error
    except Exception as error:  # a damaged file raises a dozen types
        raise CheckpointError(
            f"The checkpoint {path} is refused, nothing of it was executed: it is damaged, or holds more than numbers, "
            "text and tensors, as what RecBole itself writes does; if you trust it, torch.save(torch.load("
            f"{str(path)!r}, weights_only=False)['state_dict'], 'weights.pt') gets its weights out, which "
            "load_state_dict of a model with the same options takes."
        ) from error


def storable(value: Any) -> Any:
    """Return a value as a checkpoint holds it: NumPy's scalars and paths as Python's numbers and text.

    Parameters
    ----------
    value
        Numbers, text, paths, tensors, NumPy arrays of numbers, and lists, tuples, sets and mappings of such.

    Raises
    ------
    CheckpointError
        For anything else: reading it back would execute what a file says.
    """
    if value is None or type(value) in _PLAIN or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return storable(value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {storable(key): storable(each) for key, each in value.items()}
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(map(storable, value))
    if isinstance(value, np.ndarray) and value.dtype.char in _NUMBERS:
        # One of two types of equal size, and of two orders of bytes, is torch's.
        return {_ARRAY: torch.from_numpy(value.astype(f"={value.dtype.str[1:]}", order="C"))}
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise CheckpointError(f"{value!r:.80} is a {name}; give numbers, text, lists, mappings or tensors.")


def _arrays(value: Any) -> Any:
    """Return what was read with NumPy's arrays in their places."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return value[_ARRAY].cpu().numpy()
        return {key: _arrays(each) for key, each in value.items()}
    return type(value)(map(_arrays, value)) if type(value) in (list, tuple) else value


def random_state(generators: Mapping[str, torch.Generator | None] | None = None) -> dict[str, Any]:
    """Return the states of all random numbers, as a checkpoint holds them.

    Parameters
    ----------
    generators
        Those that are not the process's own, by name, such as a loader's; None for a name that has none.
    """
    drawn: Any = np.random.get_state()  # noqa: NPY002 - the generator that RecBole draws from
    kind, keys, position, has_gauss, gauss = drawn
    version, words, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, keys, int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), spare],
        "generators": {name: each.get_state() for name, each in (generators or {}).items() if each is not None},
    }


def set_random_state(state: Mapping[str, Any], generators: Mapping[str, torch.Generator | None] | None = None) -> None:
    """Put the random numbers where `random_state` found them.

    Parameters
    ----------
    state
        What it returned, read back.
    generators
        As there; a name that is missing on either side is passed over.
    """
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    version, words, spare = state["python"]
    random.setstate((version, tuple(words), spare))
    for name, saved in state["generators"].items():
        generator = (generators or {}).get(name)
        if generator is not None:
            generator.set_state(saved)
