"""What to say where RecBole cannot run on the installed packages, in one sentence instead of a library's traceback."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cvr_plugins.wording import one_line

_STOCK_PYTHON = (3, 11)
_RUNNER = "use `from cvr_plugins.recbole import run_recbole` (or `cvr-plugins run`), which needs none of them"
_HYPEROPT = "0.2.5"
_NEEDED = ("colorama", "colorlog", "psutil", "tensorboard", "texttable", "thop")
"""What RecBole imports in any run, beyond what this package requires."""


class StockRecBoleError(ImportError):
    """RecBole's own code cannot run on the installed packages; the message is one sentence that says what to do."""


class RecBoleMissing(ModuleNotFoundError):
    """RecBole is not installed."""


def require_recbole() -> None:
    """Raise RecBoleMissing, saying how to install it on this version of Python, unless RecBole can be imported."""
    problem = missing()
    if problem:
        raise RecBoleMissing(problem, name="recbole")


def missing() -> str:
    """Return what is to be installed before RecBole can be imported, "" if nothing is; imports nothing."""
    if find_spec("recbole") is None:
        if sys.version_info[:2] <= _STOCK_PYTHON:
            how = "install it with: pip install recbole==1.2.1"
        else:
            how = (
                "it asks for a ray that Python 3.12 and later have not, so install it in two steps: "
                "pip install 'cvr-plugins[recbole-needs]' and then pip install --no-deps recbole==1.2.1"
            )
        return f"RecBole is not installed; {how}."
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        names = " and ".join([", ".join(lacking[:-1]), lacking[-1]] if lacking[1:] else lacking)
        return f"RecBole needs {names}, not installed here: pip install 'cvr-plugins[recbole-needs]'."
    return ""


def loading(subject: str) -> AbstractContextManager[None]:
    """Return what a watched module of RecBole is imported within."""
    if subject != "sine":
        return nullcontext()
    # It turns torch's anomaly detection on, for every model of the process and for a third of a training step's time;
    # importing any sequential model imports it.
    from cvr_plugins.recbole.compat.process_state import anomaly_mode_kept

    return anomaly_mode_kept()


def failed(subject: str, error: Exception) -> None:
    """Raise StockRecBoleError for what a watched module of RecBole raised while it was imported."""
    if subject == "quick_start" and not isinstance(error, StockRecBoleError):
        _raise_stock("RecBole's own quick_start", error)


def loaded(subject: str, module: ModuleType) -> None:
    """Prepare a watched module of RecBole that was just imported."""
    if subject == "config":
        from cvr_plugins.recbole.compat.binding import extend_config

        config = vars(module)["Config"]
        extend_config(config)
        config.compatibility_settings = _says_so(config.compatibility_settings, AttributeError, _config_fails)
    elif subject == "quick_start":
        for name in ("run_recbole", "load_data_and_model", "objective_function"):
            if vars(module).get(name) is not None and vars(module)[name].__module__ == module.__name__:
                setattr(module, name, _says_so(vars(module)[name], pickle.UnpicklingError, _loading_fails))
    elif subject == "guarded":
        # Importing it here would import RecBole, in the midst of RecBole's own import.
        guards = sys.modules.get("cvr_plugins.recbole.compat.guards")
        if guards is not None:
            guards.loaded(module)
    elif subject == "hyper_tuning":
        tuning = vars(module)["HyperTuning"]
        tuning.__init__ = _says_so(tuning.__init__, ImportError, _tuning_fails)
        tuning.run = _says_so(tuning.run, Exception, _tuning_fails)


def _says_so(
    function: Callable[..., Any], expected: type[Exception], explain: Callable[[Exception], None]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except expected as error:
            explain(error)
            raise

    return explained


def _config_fails(error: Exception) -> None:
    # The names that NumPy 2 has dropped; Config does nothing else here.
    _raise_stock("RecBole's own Config", error)


def _raise_stock(what: str, error: Exception) -> None:
    reasons = _reasons()
    where = f"on these packages ({', '.join(reasons)})" if reasons else f"here ({one_line(error)})"
    if sys.version_info[:2] <= _STOCK_PYTHON:
        install = "install the older packages it needs with pip install 'cvr-plugins[stock-recbole]', or "
    else:
        install = "it needs Python 3.11 or older; "
    message = f"{what} does not run {where}: {install}{_RUNNER}."
    # A cause that is understood is not shown: its traceback would bury the sentence.
    raise StockRecBoleError(message) from (None if reasons else error)


def _reasons() -> list[str]:
    """Return the installed packages that RecBole 1.2.1 and ray 2.6.3 are known not to run with, and those missing."""
    reasons = []
    numpy = _version("numpy")
    if numpy is not None and int(numpy.partition(".")[0]) >= 2:
        reasons.append(f"NumPy {numpy}")
    if find_spec("pkg_resources") is None:
        setuptools = _version("setuptools")
        reasons.append(f"setuptools {setuptools}" if setuptools else "no setuptools")
    if find_spec("ray") is None:
        reasons.append("no ray")
    return reasons


def _loading_fails(error: Exception) -> None:
    # torch's own message names the option that its error is about.
    if "weights_only" not in str(error) and "eights only" not in str(error):
        return
    raise pickle.UnpicklingError(
        f"torch {_version('torch')} does not read a checkpoint as RecBole writes it: set the environment variable "
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 if you trust the file, for reading it executes what it holds, or use "
        "`from cvr_plugins.recbole import run_recbole, load_data_and_model`, whose checkpoints are safe to read."
    ) from None


def _tuning_fails(error: Exception) -> None:
    installed = _version("hyperopt")
    missing = isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "hyperopt"
    if not missing and not _asks_an_old_generator(error):
        return
    what = f"with hyperopt {installed}" if installed else "without hyperopt"
    raise StockRecBoleError(
        f"RecBole's HyperTuning does not run {what}: install the version it needs, {_HYPEROPT}, with "
        "pip install 'cvr-plugins[stock-recbole]'."
    ) from None


def _asks_an_old_generator(error: BaseException | None) -> bool:
    """Whether hyperopt of 0.2.6 or later got the random generator of NumPy that RecBole's exhaustive search has."""
    while error is not None:
        if isinstance(error, AttributeError) and "RandomState" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
