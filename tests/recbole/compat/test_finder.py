"""RecBole's own look-up finds what is registered, by any spelling, and its own names come first."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import time

import pytest

pytest.importorskip("recbole")

import cvr_plugins
from cvr_plugins.recbole import models, names
from cvr_plugins.recbole.compat import finder

pytestmark = pytest.mark.usefixtures("distributions", "recbole_as_it_was")

MODEL = """
from cvr_plugins import hookimpl
from recbole.model import abstract_recommender as bases

class {name}(bases.{base}):
    pass

@hookimpl
def cvr_register_recbole_models():
    return [{name}]
"""


def get_model(name):
    from recbole.utils import get_model

    return get_model(name)


def add(distributions, plugin, name, base="GeneralRecommender"):
    distributions.add(plugin, MODEL.format(name=name, base=base))


def test_importing_the_package_loads_no_library_and_takes_no_time():
    code = """
    import sys, time
    before = time.process_time()
    import cvr_plugins
    spent = time.process_time() - before
    heavy = {"torch", "recbole", "torch_rechub", "pandas", "numpy", "pluggy", "importlib.metadata"} & set(sys.modules)
    print(sorted(heavy), type(sys.meta_path[0]).__name__, type(sys.meta_path[-1]).__name__, spent)
    """
    spent = []
    for _ in range(3):
        source = "\n".join(line.strip() for line in code.splitlines())
        done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        *shown, seconds = done.stdout.split()
        assert shown == ["[]", "Watcher", "ModelFinder"]
        spent.append(float(seconds))
    assert min(spent) < 0.1


def test_importing_the_package_anew_adds_no_finder(fresh):
    done = fresh(
        """
        import sys
        import cvr_plugins
        for name in [name for name in sys.modules if name.partition(".")[0] == "cvr_plugins"]:
            del sys.modules[name]
        import cvr_plugins
        import recbole.config
        from recbole.utils import get_model
        ours = [type(each).__name__ for each in sys.meta_path if type(each).__module__.startswith("cvr_plugins")]
        print(*ours, get_model("PARS").__name__)
        """
    )
    assert (done.stderr, done.stdout) == ("", "Watcher ModelFinder PARS\n")


def test_other_names_are_left_to_others_at_once():
    finders = [finder.ModelFinder(lambda: names), finder.Watcher()]
    others = ["recbole", "recbole.model", "recbole.model.layers", "recbole.model.sequential_recommender", "json", "a.b"]
    before = time.process_time()
    found = [finder.find_spec(name) for name in others * 100 for finder in finders]
    assert not any(found)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("GeneralRecommender", "general_recommender"),
        ("ContextRecommender", "context_aware_recommender"),
        ("SequentialRecommender", "sequential_recommender"),
        ("KnowledgeRecommender", "knowledge_aware_recommender"),
    ],
)
def test_a_plugins_model_is_found_in_the_package_of_its_kind(distributions, base, kind):
    add(distributions, "acme", "Quaint", base)
    found = get_model("Quaint")
    assert (found.__module__, found.__name__) == ("acme_module", "Quaint")
    assert get_model("qUAINT") is found, "the second time out of sys.modules, in any spelling"
    places = [each for each in finder.KINDS[:-1] if importlib.util.find_spec(f"recbole.model.{each}.quaint")]
    assert places == [kind]
    module = importlib.import_module(f"recbole.model.{kind}.quaint")
    assert module.Quaint is found
    assert module.__spec__.origin == "RecBole model acme:Quaint of cvr-plugins"


def test_the_module_has_nothing_but_the_model(distributions):
    add(distributions, "acme", "Quaint")
    get_model("Quaint")
    module = sys.modules["recbole.model.general_recommender.quaint"]
    for name in ("__path__", "__file__", "__all__", "Quainter", "BPR", "path"):
        assert not hasattr(module, name), name


def test_our_own_models_and_every_method_are_found():
    assert get_model("PARS").__module__ == "cvr_plugins.recbole.sequential.pars"
    assert get_model("maskedrec").__name__ == "MaskedRec"
    from cvr_plugins.methods import METHODS

    for method in METHODS:
        found = get_model(method.name)
        assert (found.__module__, found.__name__) == ("cvr_plugins.recbole.models", method.name)
        module = importlib.import_module(f"recbole.model.context_aware_recommender.{method.name.lower()}")
        assert getattr(module, method.name.upper()) is found


def test_recboles_own_names_win(distributions):
    add(distributions, "acme", "Sasrec")
    assert get_model("SASRec").__module__.startswith("recbole.model.")
    with pytest.raises(ModuleNotFoundError, match="own model SASRec"):
        get_model("acme:Sasrec")


def test_recboles_own_names_are_looked_up_without_loading_a_plugin(distributions):
    distributions.add("acme", "raise SystemExit('imported')")
    assert get_model("SASRec").__name__ == "SASRec"
    assert get_model("KGAT").__name__ == "KGAT"
    assert distributions.messages == []
    with pytest.raises(ImportError):
        get_model("Quaint")
    assert len(distributions.messages) == 1


def test_names_of_recboles_exlib_models_are_not_taken(distributions):
    add(distributions, "acme", "XGBoost")
    for kind in finder.KINDS[:-1]:
        assert importlib.util.find_spec(f"recbole.model.{kind}.xgboost") is None


def test_a_failed_plugins_model_raises_that_plugins_error(distributions):
    distributions.add(
        "acme",
        MODEL.format(name="Quaint", base="GeneralRecommender").replace("    pass", "    recbole_trainer = dict"),
    )
    with pytest.raises(ModuleNotFoundError, match=r"Plugin 'acme' .*Quaint\.recbole_trainer must be a RecBole trainer"):
        get_model("Quaint")


def test_a_name_nobody_knows_is_left_to_recbole_until_it_would_ask_for_lightgbm(monkeypatch):
    for kind in finder.KINDS[:-2]:
        assert importlib.util.find_spec(f"recbole.model.{kind}.parz") is None
    monkeypatch.setattr(models, "importable", lambda kind: False)
    with pytest.raises(ModuleNotFoundError, match=r"Unknown model 'parz'. Did you mean PARS\?"):
        get_model("ParZ")
    monkeypatch.setattr(models, "importable", lambda kind: True)
    assert importlib.util.find_spec("recbole.model.knowledge_aware_recommender.parz") is None


def test_a_plugin_may_look_for_modules_while_it_is_imported(distributions):
    distributions.add(
        "acme",
        "import importlib.util\n"
        "assert importlib.util.find_spec('recbole.model.general_recommender.quaint') is None\n"
        + MODEL.format(name="Quaint", base="GeneralRecommender"),
    )
    assert get_model("Quaint").__name__ == "Quaint"
    assert distributions.messages == []


def test_the_module_does_not_outlive_the_registration(distributions):
    add(distributions, "acme", "Quaint")
    get_model("Quaint")
    cvr_plugins.plugins.reset()
    distributions.folder.joinpath("acme_dist-1.0.dist-info/entry_points.txt").unlink()
    with pytest.raises(cvr_plugins.plugins.UnknownName):
        _ = sys.modules["recbole.model.general_recommender.quaint"].Quaint
