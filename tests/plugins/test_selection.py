"""CVR_PLUGINS_LOAD: unset loads all plugins, empty none, `a,b` those two."""

import pytest

from cvr_plugins import plugins

LEAVES_A_MARK = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_datasets():
    return {"of-%s": dict}
"""


@pytest.fixture
def three(distributions):
    for plugin in ("acme", "beta", "zeta"):
        distributions.add(plugin, LEAVES_A_MARK % plugin)
    return distributions


@pytest.mark.parametrize(
    ("selection", "loaded"),
    [
        (None, {"acme", "beta", "zeta"}),
        ("", set()),
        (" , ", set()),
        ("acme", {"acme"}),
        ("zeta, ACME", {"acme", "zeta"}),
        ("builtin,beta,", {"beta"}),
    ],
)
def test_only_the_selected_plugins_are_imported(three, monkeypatch, selection, loaded):
    if selection is not None:
        monkeypatch.setenv("CVR_PLUGINS_LOAD", selection)
    registry = plugins.registry()
    status = {plugin.name: plugin.status for plugin in registry.plugins}
    for name in ("acme", "beta", "zeta"):
        assert (status[name] == "ok") == (name in loaded)
        assert (status[name] == "skipped") == (name not in loaded)
        assert (three.folder / f"{name}_module.imported").exists() == (name in loaded)
    names = {entry.plugin for entry in registry.entries("dataset")}
    assert names & {"acme", "beta", "zeta"} == loaded
    assert status["builtin"] == "ok"
    assert registry.method("ESMM").name == "ESMM"
    assert three.messages == []


def test_a_name_that_is_not_installed_is_reported(three):
    registry = three.load("acme,betta,quux")
    assert [(failure.plugin, failure.stage) for failure in registry.failures] == [
        ("betta", "select"),
        ("quux", "select"),
    ]
    assert registry.failures[0].message == (
        "CVR_PLUGINS_LOAD names it, but no installed plugin has this name. Did you mean beta?"
    )
    assert "Installed: builtin, " in registry.failures[1].message
    assert len(three.messages) == 2
    assert registry.dataset("of-acme") is dict
    with pytest.raises(plugins.UnknownName) as caught:
        registry.dataset("unknown")
    assert "betta" not in str(caught.value)


def test_asking_for_what_was_left_out_says_that_it_was(three):
    registry = three.load("beta")
    with pytest.raises(plugins.UnknownName) as caught:
        registry.dataset("acme:of-acme")
    assert str(caught.value) == "The data set 'acme:of-acme' is not available: CVR_PLUGINS_LOAD leaves out 'acme'."
    with pytest.raises(plugins.UnknownName, match=r"CVR_PLUGINS_LOAD leaves out 'acme'.* and 'zeta'"):
        registry.dataset("quux")


def test_the_variable_is_read_when_the_registry_is_built(three, monkeypatch):
    monkeypatch.setenv("CVR_PLUGINS_LOAD", "")
    first = plugins.registry()
    monkeypatch.setenv("CVR_PLUGINS_LOAD", "acme")
    assert plugins.registry() is first
    plugins.reset()
    assert plugins.registry().dataset("of-acme") is dict
