"""What RecBole would execute, unpickle or fetch of a configuration or a data folder: checked or refused in its runs.

RecBole itself is left alone: each guard stands in one of its modules as long as a run of ours lasts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np
from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import ConfigError
from cvr_plugins.options import check_choice
from cvr_plugins.recbole.compat.numpy_names import numpy_with
from cvr_plugins.training.checkpoint import plain_values
from cvr_plugins.wording import flat

_TEACHERS = ("CrossNet", "CIN", "DAGFM")
_PRETRAINED = ("pre_model_path", "mf_pretrain_path", "mlp_pretrain_path", "pretrain_path", "warm_up")
"""Keys by which RecBole's models name checkpoints that they begin with."""
_FORCE, _FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def guarded() -> Iterator[None]:
    """Run RecBole in the block without its executing or fetching anything.

    In the block `torch.load` reads weights alone, whatever the environment says: its variables are put back afterwards.

    Raises
    ------
    ConfigError
        In the block, for what RecBole would have executed, unpickled or fetched.
    """
    with ExitStack() as stack:
        stack.enter_context(_weights_only())
        for name in _GUARDS:
            if name in sys.modules:
                _guard(sys.modules[name], stack)
        _open.append(stack)
        stack.callback(_open.remove, stack)
        yield


def loaded(module: ModuleType) -> None:
    """Guard a module of RecBole that is imported, or imported anew, while a run of ours lasts."""
    if _open:
        _guard(module, _open[0])


def _guard(module: ModuleType, stack: ExitStack) -> None:
    name, guard = _GUARDS[module.__name__]
    stack.enter_context(_instead(module, name, guard(module)))


def check_pretrained(config: RecBoleConfig) -> None:
    """Raise CheckpointError for weights that a model is to begin with, if reading them would execute anything."""
    for key in _PRETRAINED:
        if isinstance(config[key], str) and os.path.isfile(config[key]):
            plain_values(config[key])


@contextmanager
def _weights_only() -> Iterator[None]:
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextmanager
def _instead(module: ModuleType, name: str, guard: Any) -> Iterator[None]:
    """Let a module have a guard under a name, which may be a built-in's, that it has not itself."""
    names = vars(module)
    had, before = name in names, names.get(name)
    names[name] = guard
    try:
        yield
    finally:
        if had:
            names[name] = before
        else:
            del names[name]


def _teacher(module: ModuleType) -> Callable[[str], Any]:
    """Return what finds KD_DAGFM's teacher, which RecBole evaluates as code, by its name."""
    return lambda text: getattr(module, check_choice("teacher", text, _TEACHERS, error=ConfigError))


def _numbers(module: ModuleType) -> ModuleType:
    """Return NumPy for LDiffRec, whose file of embeddings RecBole unpickles."""

    def load(path: str, **_: object) -> np.ndarray:
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
            raise ConfigError(f"LDiffRec cannot read {str(path)!r}: {flat(error)}. {_SAVED}") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            raise ConfigError(f"LDiffRec cannot read {str(path)!r}: it is no array of numbers. {_SAVED}")
        return found

    return numpy_with(load=load)


_SAVED = "Save the items' embeddings with numpy.save, as an array of floats with a row for each item."


def _unread(_: ModuleType) -> SimpleNamespace:
    def load(file: Any) -> NoReturn:
        raise ConfigError(f"{file.name!r} is a pickled file, and reading one executes it; leave it out.")

    return SimpleNamespace(load=load, dump=_unwritten)


def _unwritten(*_: object) -> NoReturn:
    raise ConfigError("save_dataset and save_dataloaders write pickled files, which are never read; leave them out.")


def _offline(_: ModuleType) -> SimpleNamespace:
    def urlopen(url: str) -> NoReturn:
        raise ConfigError(
            f"RecBole would fetch {url}, and nothing is fetched here: fetch and unpack it yourself, and give the "
            "folder that holds the data set's folder as data_path."
        )

    return SimpleNamespace(urlopen=urlopen)


_GUARDS: dict[str, tuple[str, Callable[[ModuleType], Any]]] = {
    "recbole.model.context_aware_recommender.kd_dagfm": ("eval", _teacher),
    "recbole.model.general_recommender.ldiffrec": ("np", _numbers),
    "recbole.data.utils": ("pickle", _unread),
    "recbole.utils.url": ("ur", _offline),
}
"""Module of RecBole, which the finder watches, too -> name in it, what makes the guard that stands there."""
_open: list[ExitStack] = []
"""Of the runs that last, the outermost first."""
