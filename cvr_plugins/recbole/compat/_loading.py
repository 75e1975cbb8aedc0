"""Reading checkpoints without executing them, and what may be kept in one."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import EvaluatorType, InputType, ModelType
from scipy import sparse

from cvr_plugins.recbole import names

_PROTOCOL = 2
_CONFIG = "recbole.config.configurator.Config"
_ENUMS = (ModelType, InputType, EvaluatorType)
_PLAIN = (bool, int, float, complex, str, bytes, torch.device, torch.dtype, torch.Size, *_ENUMS, sparse.csr_matrix)
_TORCHS_OWN = ("torch.", "collections.", "_codecs.", "builtins.")
_KEYS = ("config", "epoch", "state_dict")


class CheckpointError(ValueError):
    """A checkpoint cannot be read safely, does not fit, or would have to hold what cannot be read back safely."""


def load_checkpoint(
    path: str | Path, model_class: type | None = None, *, map_location: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Return the content of a checkpoint that `SafeCheckpoints` wrote; nothing in it is executed.

    Types that a checkpoint may hold are fixed: tensors, NumPy arrays of numbers, SciPy's CSR matrices, RecBole's
    configuration and enumerations, and a reference to one model class, which is `model_class` or, if that is None, the
    one that `cvr_plugins.recbole.names` knows by the name in the configuration. Neither the configuration's nor the
    model's class can be called by what the file says.
    Raises CheckpointError saying what the file holds instead.
    """
    path = Path(path)
    reference = _model_reference(path, model_class)
    try:
        with _only([*_allowed(), *([_inert(reference)] if reference else [])]):
            state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a broken file may raise anything
        raise CheckpointError(f"The checkpoint {path} cannot be read: {_first_line(error)}.") from error
    if not isinstance(state, dict) or not all(key in state for key in _KEYS) or not _is_config(state["config"]):
        raise CheckpointError(f"{path} is not a checkpoint of a RecBole model: it needs {', '.join(_KEYS)}.")
    config = RecBoleConfig.__new__(RecBoleConfig)
    vars(config).update(vars(state["config"]))
    config.model_class = model_class or _known(config, reference, path)
    return {**state, "config": config}


def storable(value: Any) -> Any:
    """Return a value as a checkpoint can hold it: scalars of NumPy as Python's, paths as text.

    Raises CheckpointError for what could not be read back without executing it.
    """
    if value is None or type(value) in _PLAIN or isinstance(value, (torch.Tensor, *_ENUMS)):
        return value
    if isinstance(value, np.generic):
        return storable(value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, RecBoleConfig):
        kept = {key: each for key, each in vars(value).items() if key != "model_class"}
        stored = RecBoleConfig.__new__(RecBoleConfig)
        vars(stored).update(storable(kept), model_class=value.model_class)
        return stored
    if isinstance(value, Mapping):
        return type_of(value)((storable(key), storable(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(storable, value)) if isinstance(value, tuple) else list(map(storable, value))
    if isinstance(value, (set, frozenset)):
        return set(map(storable, value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return np.asarray(value)
    if isinstance(value, sparse.spmatrix):
        # One of several forms is enough to allow; lists of lists are objects to pickle.
        return sparse.csr_matrix(value)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise CheckpointError(f"{value!r:.80} is a {kind}; give numbers, text, lists, mappings or tensors.")


@contextmanager
def readable(paths: Iterable[str | Path]) -> Iterator[None]:
    """Let RecBole's models read these checkpoints by torch.load in the block, as S3Rec reads its pre-trained weights.

    Raises CheckpointError for a file that `load_checkpoint` would refuse.
    """
    references = {reference for path in paths if (reference := _model_reference(Path(path), None))}
    with _only([*_allowed(), *map(_inert, sorted(references))]):
        yield


def type_of(value: Mapping[Any, Any]) -> Callable[..., Any]:
    """Return the type a mapping is kept as: that of the weights is an OrderedDict, anything else a dict."""
    from collections import OrderedDict

    return OrderedDict if isinstance(value, OrderedDict) else dict


def _model_reference(path: Path, model_class: type | None) -> str | None:
    """Return the one type in a checkpoint that is not on the fixed list; it must be the model's class."""
    allowed = {f"{each.__module__}.{each.__qualname__}" for each in _allowed()}
    found = _referred(path)
    unknown = sorted(name for name in found if name not in allowed and not name.startswith(_TORCHS_OWN))
    expected = model_class and f"{model_class.__module__}.{model_class.__qualname__}"
    if expected:
        strange = [name for name in unknown if name != expected]
    else:
        models = {each.name for each in names.available()}
        strange = unknown if len(unknown) > 1 else [name for name in unknown if _last_part(name) not in models]
    if strange:
        of_a = f"the model {expected}" if expected else "one model"
        raise CheckpointError(
            f"The checkpoint {path} is refused, nothing of it was executed: it holds {', '.join(strange)}, and beside "
            f"a fixed list of types only the class of {of_a} may be in one."
        )
    return unknown[0] if unknown else None


def _last_part(full_name: str) -> str:
    # Of a contested name the class is `module.plugin:Name`.
    return full_name.rpartition(".")[2].rpartition(":")[2]


def _referred(path: Path) -> set[str]:
    """Return the full names that a checkpoint's pickle refers to, found without unpickling it."""
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
        found = set()
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "PROTO" and argument != _PROTOCOL:
                raise CheckpointError(
                    f"The checkpoint {path} is refused: it is written as RecBole itself writes them (pickle protocol "
                    f"{argument}), and reading that would execute what it holds. If you trust it, read it with "
                    "recbole.quick_start.load_data_and_model; checkpoints of cvr_plugins.recbole are read by both."
                )
            if operation.name == "GLOBAL":
                found.add(str(argument).replace(" ", "."))
    except (zipfile.BadZipFile, StopIteration, ValueError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a checkpoint, or is cut short: {_first_line(error)}.") from error
    return found


def _known(config: RecBoleConfig, reference: str | None, path: Path) -> type:
    found = names.find(config["model"])
    name = f"{found.__module__}.{found.__qualname__}"
    if reference is not None and name != reference:
        raise CheckpointError(
            f"The checkpoint {path} is of the model {reference}; the model {config['model']} here is {name}. "
            "Load it by its own class."
        )
    return found


def _allowed() -> list[Any]:
    return [_inert(_CONFIG), _empty_config, *_ENUMS, sparse.csr_matrix, np.ndarray, np.dtype, *_NUMBERS, *_RECONSTRUCT]


def _inert(full_name: str) -> type:
    """Return an empty class under another's name: a file may fill in its attributes, calling it does nothing."""
    module, _, name = full_name.rpartition(".")
    return type(name, (), {"__module__": module, "__qualname__": name})


def _is_config(value: Any) -> bool:
    return f"{type(value).__module__}.{type(value).__qualname__}" == _CONFIG and isinstance(
        vars(value).get("final_config_dict"), dict
    )


def _empty_config(config_class: Any, model_class: type | None, name: str) -> Any:
    """Stand for `binding.bound_config`, as which RecBole reads it; here nothing is bound because a file says so."""
    if f"{config_class.__module__}.{config_class.__qualname__}" != _CONFIG:
        raise ValueError(f"a configuration of type {config_class!r}")
    return config_class.__new__(config_class)


_empty_config.__module__, _empty_config.__qualname__ = "cvr_plugins.recbole.compat.binding", "bound_config"


def _reconstructing(module: str) -> Callable[..., Any]:
    # NumPy 1 and 2 write one function under two names.
    def _reconstruct(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if kind is not np.ndarray:
            raise ValueError(f"an array of type {kind!r}")
        return np.ndarray(shape, "b" if isinstance(dtype, bytes) else dtype)

    _reconstruct.__module__, _reconstruct.__qualname__ = module, "_reconstruct"
    return _reconstruct


_NUMBERS = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDG"]
_RECONSTRUCT = [_reconstructing("numpy.core.multiarray"), _reconstructing("numpy._core.multiarray")]


@contextmanager
def _only(allowed: list[Any]) -> Iterator[None]:
    """Let torch.load know these types and its own, and no others that the process may have allowed."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".") or type(error).__name__
