"""Who gets which name in RecBole, and what is said where a name finds nothing."""

from __future__ import annotations

import pickle
import sys

import pytest

pytest.importorskip("recbole")

from cvr_plugins import plugins
from cvr_plugins.recbole import models, names
from cvr_plugins.recbole.compat import finder, messages

pytestmark = pytest.mark.usefixtures("distributions", "recbole_as_it_was")

MODELS = """
from cvr_plugins import hookimpl, Method, Objective
from recbole.model.abstract_recommender import SequentialRecommender

class Silent(Objective):
    def loss(self, out, y):
        return {{}}

@hookimpl
def cvr_register_recbole_models():
    return [type(name, (SequentialRecommender,), {{"__module__": __name__}}) for name in {models!r}]

@hookimpl
def cvr_register_methods():
    return [Method(name=name, objective=Silent) for name in {methods!r}]
"""


def add(distributions, plugin, *, models=(), methods=()):
    distributions.add(plugin, MODELS.format(models=list(models), methods=list(methods)))


def listed(name):
    return {
        (each.key, each.owner, each.kind, each.origin)
        for each in names.available()
        if each.name.casefold() == name.casefold()
    }


def test_everything_that_recbole_takes_is_listed(distributions):
    add(distributions, "acme", models=["Quaint"], methods=["Odd"])
    assert listed("sasrec") == {("SASRec", "recbole", "sequential", "RecBole")}
    assert listed("XGBoost") == {("XGBoost", "recbole", "exlib", "RecBole")}
    assert listed("FEARec") == {("FEARec", "recbole", "sequential", "RecBole")}, "in no __init__ of RecBole"
    assert listed("PARS") == {("PARS", "builtin", "sequential", "RecBole model")}
    assert listed("NISE") == {("NISE", "builtin", "context_aware", "method")}
    assert listed("Quaint") == {("Quaint", "acme", "sequential", "RecBole model")}
    assert listed("Odd") == {("Odd", "acme", "context_aware", "method")}
    keys = [each.key for each in names.available()]
    assert len(keys) == len({key.casefold() for key in keys})
    assert len(keys) > 95
    assert keys == sorted(keys, key=str.casefold)


def test_the_names_of_recboles_files_are_those_recbole_finds():
    from recbole.utils import get_model

    own = [each for each in names.available() if each.origin == "RecBole" and each.kind != "exlib"]
    for each in own:
        found = get_model(each.name)
        assert found.__module__ == f"recbole.model.{each.kind}_recommender.{each.name.lower()}"
        assert names.find(each.name.swapcase()) is found


def test_ours_are_found_in_any_case_and_made_known_to_recbole(distributions):
    import recbole.trainer

    found = names.find("maskedREC")
    assert found.__name__ == "MaskedRec"
    assert recbole.trainer.MaskedRecTrainer is found.recbole_trainer
    assert names.find("builtin:maskedrec") is found
    assert names.find("escm2_ips").__name__ == "ESCM2_IPS"
    assert recbole.trainer.ESCM2_IPSTrainer is names.find("ESCM2_IPS").recbole_trainer


def test_a_model_that_needs_a_missing_package_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "recbole.model.exlib_recommender", raising=False)
    with pytest.raises(ModuleNotFoundError, match="RecBole's model LightGBM needs the package lightgbm, which is not"):
        names.find("LightGBM")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("PAR", "Unknown model 'PAR'. Did you mean PARS?"),
        ("ESCM2", "Unknown model 'ESCM2'. Did you mean ESCM2_DR or ESCM2_IPS?"),
        ("SASRex", "Unknown model 'SASRex'. Did you mean SASRec or SASRecF?"),
        ("Quaintt", "Unknown model 'Quaintt'. Did you mean Quaint?"),
        ("", "Unknown model ''. cvr_plugins.recbole.names.available() lists all."),
        ("acne:Quaint", "Unknown plugin 'acne' in 'acne:Quaint'. Did you mean acme?"),
        ("acme:Quain", "Plugin 'acme' has no model 'Quain'. Did you mean Quaint?"),
        ("acme:Zzz", "Plugin 'acme' has no model 'Zzz'. It has Odd, Quaint."),
        ("zeta:Zzz", "Plugin 'zeta' has no model 'Zzz'. It has no model"),
        ("recbole:BPR", "Unknown plugin 'recbole' in 'recbole:BPR'."),
        (3, "The name of a model is text; got 3."),
    ],
)
def test_unknown_names(distributions, asked, message):
    add(distributions, "acme", models=["Quaint"], methods=["Odd"])
    add(distributions, "zeta")
    with pytest.raises(plugins.UnknownName) as caught:
        names.find(asked)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(("models", "methods"), [(["sasREC"], []), ([], ["SASRec"])], ids=["model", "method"])
def test_a_name_of_recboles_own_is_an_error_that_names_both(distributions, models, methods):
    add(distributions, "acme", models=[*models, "Quaint"], methods=methods)
    assert listed("SASRec") == {("SASRec", "recbole", "sequential", "RecBole")}
    (message,) = distributions.messages
    name, label = (models[0], "RecBole model") if models else (methods[0], "method")
    expected = f"Plugin 'acme' (name): The name of its {label} '{name}' is that of RecBole's own model SASRec"
    assert message.startswith(expected)
    assert names.find("SASRec").__module__ == "recbole.model.sequential_recommender.sasrec"
    for asked in ("acme:SASRec", f"ACME:{name}"):
        with pytest.raises(plugins.PluginFailed, match=r"Plugin 'acme' .* own model SASRec") as caught:
            names.find(asked)
        assert caught.value.failures[0].plugin == "acme"
    assert names.find("Quaint").__name__ == "Quaint", "the plugin's other models stand"
    if methods:
        assert plugins.registry().method("acme:SASRec").name == "SASRec", "outside of RecBole it is no clash"


def test_a_built_in_keeps_its_name_against_another_kind(distributions):
    add(distributions, "acme", models=["nise"], methods=["Pars"])
    assert names.find("NISE").__module__ == "cvr_plugins.recbole.models"
    assert names.find("PARS").__module__ == "cvr_plugins.recbole.sequential.pars"
    assert len(distributions.messages) == 2
    for name in ("nise", "Pars"):
        expected = f"The model name '{name}' is a built-in's; ask for 'acme:{name}'."
        assert any(expected in message for message in distributions.messages)
    assert names.find("acme:NISE").__name__ == "nise"
    assert names.find("acme:pars").method.name == "Pars"
    assert listed("nise") == {
        ("NISE", "builtin", "context_aware", "method"),
        ("acme:nise", "acme", "sequential", "RecBole model"),
    }


def test_a_method_of_one_plugin_and_a_model_of_another(distributions):
    add(distributions, "acme", models=["Quaint"])
    add(distributions, "zeta", methods=["quaint"])
    with pytest.raises(plugins.AmbiguousName, match=r"'QUAINT' .*ask for zeta:quaint or acme:Quaint"):
        names.find("QUAINT")
    assert names.find("acme:Quaint").__module__ == "acme_module"
    assert names.find("zeta:Quaint").method.name == "quaint"
    assert plugins.registry().method("quaint").name == "quaint", "outside of RecBole it is no clash"


def test_a_method_and_a_model_of_one_plugin(distributions):
    add(distributions, "acme", models=["Quaint", "Other"], methods=["Quaint"])
    for asked in ("Quaint", "acme:quaint"):
        with pytest.raises(plugins.PluginFailed, match="'Quaint' is another's of the same plugin, too"):
            names.find(asked)
    assert names.find("Other").__name__ == "Other"
    assert listed("Quaint") == set()


def test_each_clash_is_reported_once(distributions):
    add(distributions, "acme", models=["BPR"])
    for _ in range(3):
        names.available()
        names.find("PARS")
    assert len(distributions.messages) == 1
    (failure,) = plugins.registry().failures
    assert (failure.stage, failure.kind, failure.names) == ("name", "recbole_model", ("BPR",))


def test_listing_imports_no_model_of_recboles(distributions):
    done = distributions.python(
        """
        import sys
        from cvr_plugins.recbole import models, names
        print(len(models.own_files()), models.class_name(models.own_files()["bert4rec"]))
        print([name for name in sys.modules if name.split(".")[0] in ("recbole", "torch", "pandas")])
        """
    )
    assert (done.stderr, done.stdout.splitlines()[1]) == ("", "[]")
    assert done.stdout.startswith("9")
    assert "BERT4Rec" in done.stdout


NOT_INSTALLED = [
    ({"recbole"}, (3, 11), "RecBole is not installed; install it with: pip install recbole==1.2.1."),
    ({"recbole"}, (3, 13), "'cvr-plugins[recbole-needs]' and then pip install --no-deps recbole==1.2.1."),
    ({"thop"}, (3, 11), "RecBole needs thop, not installed here: pip install 'cvr-plugins[recbole-needs]'."),
    ({"psutil", "thop", "colorlog"}, (3, 11), "RecBole needs colorlog, psutil and thop, not installed here: pip ins"),
]


@pytest.mark.parametrize(("lacking", "python", "expected"), NOT_INSTALLED)
def test_what_is_not_installed_is_said_and_how_to_install_it(monkeypatch, lacking, python, expected):
    monkeypatch.setattr(messages, "find_spec", lambda name: None if name in lacking else object())
    monkeypatch.setattr(messages.sys, "version_info", (*python, 0, "final", 0))
    with pytest.raises(messages.RecBoleMissing) as caught:
        names.find("PARS")
    assert expected in str(caught.value)
    assert str(caught.value).count(". ") == 0
    assert caught.value.name == "recbole"


def test_without_recbole_our_models_are_not_offered_and_nothing_fails(distributions, monkeypatch):
    monkeypatch.setattr(messages, "find_spec", lambda name: None)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert plugins.registry().entries("recbole_model") == ()
    assert plugins.registry().failures == ()
    assert finder.ModelFinder(lambda: names).find_spec("recbole.model.sequential_recommender.pars") is None


def test_the_errors_can_be_pickled():
    for error in (messages.RecBoleMissing("a", name="recbole"), messages.StockRecBoleError("b")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
