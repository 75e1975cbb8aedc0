"""Names compare without case, built-ins win, a contested name is nobody's, and `plugin:Name` always works."""

import pytest

from cvr_plugins import plugins

DATASETS = """
from cvr_plugins import hookimpl

def builder():
    return "{plugin}"

@hookimpl
def cvr_register_datasets():
    return {{name: builder for name in {names!r}}}
"""


def add_datasets(distributions, plugin, *names):
    distributions.add(plugin, DATASETS.format(plugin=plugin, names=names))


def test_names_compare_without_case(distributions):
    distributions.add_methods("acme", "Foo")
    registry = distributions.load()
    for name in ("Foo", "foo", "FOO", "acme:Foo", "ACME:foo"):
        assert registry.method(name).name == "Foo"
        assert registry.find("method", name).qualified == "acme:Foo"


def test_a_built_in_keeps_its_name_and_the_plugin_s_stays_reachable(distributions, info):
    distributions.add_methods("acme", "Esmm", "Foo")
    registry = distributions.load()
    assert registry.find("method", "ESMM").plugin == registry.find("method", "esmm").plugin == "builtin"
    assert registry.method("acme:ESMM").summary == "of acme"
    assert {"ESMM", "acme:Esmm", "Foo"} <= {entry.key for entry in registry.entries("method")}
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage) == ("acme", "name")
    assert failure.message == "The method name 'Esmm' is a built-in's; ask for 'acme:Esmm'."
    assert len(distributions.messages) == 1
    assert info(registry, "acme").contributed["method"] == ("Esmm", "Foo")


def test_of_two_plugins_with_one_name_neither_gets_it(distributions):
    add_datasets(distributions, "acme", "toy", "only-acme")
    add_datasets(distributions, "zeta", "TOY", "only-zeta")
    registry = distributions.load()
    with pytest.raises(plugins.AmbiguousName, match=r"'Toy' .*'acme' and 'zeta'; ask for acme:toy or zeta:TOY\."):
        registry.dataset("Toy")
    for plugin, own in (("acme", "toy"), ("zeta", "TOY")):
        assert registry.dataset(f"{plugin}:toy")() == registry.dataset(f"only-{plugin}")() == plugin
        (failure,) = [each for each in registry.failures if each.plugin == plugin]
        assert f"'{own}' is used by plugin" in failure.message
        assert f"ask for '{plugin}:{own}'" in failure.message
    assert len(registry.failures) == len(distributions.messages) == 2


def test_the_outcome_of_a_clash_does_not_depend_on_the_search_path(distributions, tmp_path_factory, monkeypatch):
    add_datasets(distributions, "zeta", "toy")
    first = type(distributions)(tmp_path_factory.mktemp("first"))
    monkeypatch.syspath_prepend(first.folder)
    add_datasets(first, "acme", "toy")
    registry = distributions.load()
    assert [plugin.name for plugin in registry.plugins if plugin.name in ("acme", "zeta")] == ["acme", "zeta"]
    with pytest.raises(plugins.AmbiguousName):
        registry.dataset("toy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Quokka", "Unknown method 'Quokka'. Did you mean Quokka2_DR or Quokka2_IPS? 'cvr-plugins methods' lists all."),
        ("quoka2-dr", "Unknown method 'quoka2-dr'. Did you mean Quokka2_DR?"),
        ("xyzzy", "Unknown method 'xyzzy'. 'cvr-plugins methods' lists all."),
        ("", "Unknown method ''. 'cvr-plugins methods' lists all."),
        (None, "The name of a method is text; got None."),
        ("acmee:Quokka2_DR", "Unknown plugin 'acmee' in 'acmee:Quokka2_DR'. Did you mean acme? 'cvr-plugins plugins'"),
        ("acme:Quokka", "Plugin 'acme' has no method 'Quokka'. Did you mean Quokka2_DR or Quokka2_IPS?"),
        ("acme:xyzzy", "Plugin 'acme' has no method 'xyzzy'. It has Quokka2_DR, Quokka2_IPS."),
        (":Quokka2_DR", "Unknown plugin '' in ':Quokka2_DR'."),
        ("acme:quokka2_dr:x", "Plugin 'acme' has no method 'quokka2_dr:x'."),
        ("C:\\logs\\Quokka2_DR", "Unknown plugin 'C' in "),
    ],
)
def test_unknown_methods(distributions, name, message):
    distributions.add_methods("acme", "Quokka2_IPS", "Quokka2_DR")
    registry = distributions.load()
    with pytest.raises(plugins.UnknownName) as caught:
        registry.method(name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_plugin_without_any_of_a_kind_says_so(distributions):
    distributions.add_methods("acme", "Foo")
    with pytest.raises(plugins.UnknownName, match=r"no data set 'Foo'\. It has no data set at all\.$"):
        distributions.load().dataset("acme:Foo")


def test_what_has_no_listing_command_is_listed_in_the_message(distributions):
    distributions.add(
        "acme",
        """
        from cvr_plugins import hookimpl

        @hookimpl
        def cvr_register_backbones():
            return {"acme-net": dict}
        """,
    )
    with pytest.raises(plugins.UnknownName, match=r"Unknown backbone 'qqq'\. Known: acme-net, .*mlp"):
        distributions.load("acme").backbone("qqq")


def test_a_kind_that_does_not_exist_is_a_mistake_of_the_caller(distributions):
    with pytest.raises(ValueError, match="There is no kind 'methods'; the kinds are method, architecture, backbone"):
        distributions.load("").entries("methods")


def test_what_a_framework_reserves_is_nobody_elses_on_the_shelf_of_models(distributions):
    distributions.add_methods("acme", "Taken", "Free")
    registry = distributions.load()
    assert registry.find("model", "Taken").plugin == "acme"
    for _ in range(2):
        registry.reserve("RecBole", {"TAKEN": "theirs"})
        assert registry.find("model", "taken").value == "theirs"
    with pytest.raises(plugins.PluginFailed, match=r"'acme:taken' is not available.*RecBole's own model TAKEN"):
        registry.find("model", "acme:taken")
    assert registry.find("model", "free").value is registry.method("Free")
    assert registry.method("Taken").name == "Taken"
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.kind, failure.names) == ("acme", "name", "method", ("Taken",))
    with pytest.raises(plugins.UnknownName, match=r"Did you mean TAKEN\?"):
        registry.find("model", "Takn")
