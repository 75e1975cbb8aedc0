"""Where RecBole itself cannot run, one sentence says what to do, and where it can, nothing is changed."""

from __future__ import annotations

import importlib
import sys
import textwrap
import types

import numpy as np
import pytest

pytest.importorskip("recbole")

from cvr_plugins.recbole.compat import finder, messages
from cvr_plugins.recbole.compat.messages import StockRecBoleError

ADVICE = (
    "install the older packages it needs with pip install 'cvr-plugins[stock-recbole]', or use "
    "`from cvr_plugins.recbole import run_recbole` (or `cvr-plugins run`), which needs none of them."
)
NUMPY_2 = int(np.__version__.partition(".")[0]) >= 2

PACKAGE = {
    "recbole/__init__.py": "",
    "recbole/quick_start/__init__.py": "from recbole.quick_start.quick_start import run_recbole, load_data_and_model\n",
    "recbole/quick_start/quick_start.py": """
        {failing}
        import pickle

        def run_recbole(problem=None):
            if problem:
                raise problem
            return "ran"

        def load_data_and_model(file):
            raise pickle.UnpicklingError("Weights only load failed. In PyTorch 2.6 the default of weights_only changed")
    """,
}


@pytest.fixture
def stand_in(distributions):
    """A package called recbole whose quick_start begins with a line of its own, tried in a process of its own."""

    def tried(failing: str, code: str) -> tuple[str, str]:
        for name, source in PACKAGE.items():
            path = distributions.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source).format(failing=failing))
        done = distributions.python(textwrap.dedent(code))
        return done.stdout, done.stderr

    return tried


@pytest.mark.parametrize(
    ("failing", "imported"),
    [
        ("raise AttributeError('`np.bool8` was removed in the NumPy 2.0 release.')", "recbole.quick_start"),
        ("import a_ray_that_is_missing", "recbole.quick_start.quick_start"),
    ],
)
def test_what_quick_start_raises_on_import_becomes_one_sentence(stand_in, failing, imported):
    out, err = stand_in(
        failing,
        f"""
        import cvr_plugins
        from cvr_plugins.recbole.compat import messages
        messages._reasons = lambda: ["NumPy 2.4.6", "setuptools 84.2.1"]
        import {imported}
        """,
    )
    assert out == ""
    assert err.splitlines()[-1] == (
        "cvr_plugins.recbole.compat.messages.StockRecBoleError: RecBole's own quick_start does not run on these "
        f"packages (NumPy 2.4.6, setuptools 84.2.1): {ADVICE}"
    )
    assert "np.bool8" not in err.replace("raise ", "")
    assert err.count("Traceback") == 1


def test_a_cause_that_is_not_known_is_shown(stand_in):
    _, err = stand_in(
        "raise OSError('the disk is full')",
        """
        import cvr_plugins
        from cvr_plugins.recbole.compat import messages
        messages._reasons = lambda: []
        import recbole.quick_start
        """,
    )
    assert "does not run here (OSError: the disk is full): install the older packages" in err.splitlines()[-1]
    assert err.count("Traceback") == 2


def test_a_quick_start_that_can_be_imported_is_itself(stand_in):
    out, err = stand_in(
        "",
        """
        import inspect, pickle, sys
        import cvr_plugins
        import recbole.quick_start
        from recbole.quick_start import quick_start
        print(type(quick_start.__spec__.loader).__name__, quick_start.__loader__ is quick_start.__spec__.loader)
        print(recbole.quick_start.run_recbole(), recbole.quick_start.__path__ is not None)
        print(pickle.loads(pickle.dumps(quick_start.run_recbole)) is recbole.quick_start.run_recbole)
        print(list(inspect.signature(quick_start.run_recbole).parameters), "problem" in inspect.getsource(quick_start))
        for problem in (pickle.UnpicklingError("truncated"), ValueError("weights_only")):
            try:
                quick_start.run_recbole(problem)
            except Exception as error:
                print(error is problem)
        """,
    )
    assert err == ""
    assert out.splitlines() == ["SourceFileLoader True", "ran True", "True", "['problem'] True", "True", "True"]


def test_torchs_refusal_of_a_checkpoint_becomes_one_sentence(stand_in):
    _, err = stand_in("", "import cvr_plugins, recbole.quick_start as q\nq.load_data_and_model('x.pth')")
    assert err.count("Traceback") == 1
    message = err.splitlines()[-1]
    assert message.startswith("_pickle.UnpicklingError: torch 2.")
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 if you trust the file" in message
    assert "from cvr_plugins.recbole import run_recbole, load_data_and_model" in message


def test_the_installed_quick_start_and_config_run_or_say_what_to_do(fresh):
    done = fresh(
        """
        import warnings
        warnings.simplefilter("ignore")
        import cvr_plugins
        from recbole.config import Config

        def quick_start():
            import recbole.quick_start

        for function in (quick_start, lambda: Config("BPR", "ml-100k")):
            try:
                function()
                print("runs")
            except ImportError as error:
                print(type(error).__name__, error, error.__suppress_context__)
        """
    )
    assert done.stderr == ""
    shown = done.stdout.splitlines()
    assert len(shown) == 2
    for what, line in zip(("quick_start", "Config"), shown, strict=True):
        assert line == "runs" or line.endswith(f"): {ADVICE} True")
        if NUMPY_2:
            expected = f"StockRecBoleError RecBole's own {what} does not run on these packages (NumPy {np.__version__}"
            assert line.startswith(expected)


def test_on_later_pythons_the_sentence_does_not_send_one_to_packages_that_are_not_there(monkeypatch):
    monkeypatch.setattr(messages.sys, "version_info", (3, 12, 1, "final", 0))
    monkeypatch.setattr(messages, "_reasons", lambda: ["no ray"])
    with pytest.raises(StockRecBoleError) as caught:
        messages.failed("quick_start", ImportError("No module named 'ray'"))
    assert "stock-recbole" not in str(caught.value)
    assert "(no ray): it needs Python 3.11 or older; use `from cvr_plugins.recbole import" in str(caught.value)


def test_the_reasons_are_those_that_hold(monkeypatch):
    versions = {"numpy": "2.4.6", "setuptools": "84.2.1"}
    monkeypatch.setattr(messages, "_version", versions.get)
    monkeypatch.setattr(messages, "find_spec", lambda name: None)
    assert messages._reasons() == ["NumPy 2.4.6", "setuptools 84.2.1", "no ray"]
    versions.pop("setuptools")
    assert messages._reasons() == ["NumPy 2.4.6", "no setuptools", "no ray"]
    versions["numpy"] = "1.26.4"
    monkeypatch.setattr(messages, "find_spec", lambda name: object())
    assert messages._reasons() == []


class Tuning:
    """As RecBole's HyperTuning, which imports hyperopt when it is made and when it runs."""

    def __init__(self, problem=None):
        self.problem = None
        if isinstance(problem, ImportError):
            raise problem
        self.problem = problem

    def run(self):
        if self.problem:
            raise RuntimeError("outer") from self.problem


@pytest.fixture
def tuning():
    module = types.ModuleType("recbole.trainer.hyper_tuning")
    module.HyperTuning = type("HyperTuning", (Tuning,), dict(vars(Tuning)))
    messages.loaded("hyper_tuning", module)
    return module.HyperTuning


@pytest.mark.parametrize(
    ("problem", "installed", "how"),
    [
        (ModuleNotFoundError("No module named 'hyperopt'", name="hyperopt"), None, "without hyperopt"),
        (ImportError("cannot import name", name="hyperopt.pyll"), "0.3.0", "with hyperopt 0.3.0"),
        (AttributeError("'RandomState' object has no attribute 'integers'"), "0.3.0", "with hyperopt 0.3.0"),
    ],
)
def test_what_hyper_tuning_raises_for_want_of_the_right_hyperopt(tuning, monkeypatch, problem, installed, how):
    monkeypatch.setattr(messages, "_version", lambda name: installed)
    with pytest.raises(StockRecBoleError) as caught:
        tuning(problem).run()
    assert str(caught.value) == (
        f"RecBole's HyperTuning does not run {how}: install the version it needs, 0.2.5, with "
        "pip install 'cvr-plugins[stock-recbole]'."
    )
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "problem", [ModuleNotFoundError("No module named 'thing'", name="thing"), AttributeError("of a trial"), OSError()]
)
def test_other_errors_of_hyper_tuning_are_its_own(tuning, problem):
    with pytest.raises((type(problem), RuntimeError)) as caught:
        tuning(problem).run()
    assert problem in (caught.value, caught.value.__cause__)
    tuning().run()


def test_only_the_watched_modules_are_touched():
    loaded = {"json": sys.modules["json"], "recbole.data": types.ModuleType("recbole.data")}
    for name in loaded:
        assert finder.Watcher().find_spec(name) is None
    spec = finder.Watcher().find_spec("recbole.config.configurator", sys.modules["recbole"].__path__)
    assert spec is None, "not in that folder, and then nobody has it"


def test_a_thread_that_imports_meanwhile_does_not_disturb(monkeypatch):
    from cvr_plugins.recbole.compat import numpy_names as _libraries

    class Changing(dict):
        """Modules of which one more is imported while they are looked through."""

        def items(self):
            for item in super().items():
                self[f"imported meanwhile {len(self)}"] = types.ModuleType("imported_meanwhile")
                yield item

    module = importlib.import_module("recbole.model.layers")
    monkeypatch.setattr(_libraries, "sys", types.SimpleNamespace(modules=Changing(sys.modules)))
    monkeypatch.setattr(module, "np", np)
    _libraries.give_old_names()
    assert module.np is not np
    assert module.np.float is np.float64


def test_importing_sequential_models_leaves_anomaly_detection_as_it_was(fresh):
    done = fresh(
        """
        import sys
        import cvr_plugins, torch
        for wanted in (False, True):
            torch.autograd.set_detect_anomaly(wanted)
            for name in [name for name in sys.modules if name.startswith("recbole.model.sequential")]:
                del sys.modules[name]
            import recbole.model.sequential_recommender.sine
            print(torch.is_anomaly_enabled())
        """
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
