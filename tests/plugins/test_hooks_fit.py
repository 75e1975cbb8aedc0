"""Entry points that are no modules, and hooks that are misspelt, unmarked or do not fit their specification."""

import pytest

from cvr_plugins import plugins

GOOD = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_datasets():
    return {"toy": dict}
"""

UNMARKED = "cvr_register_methods is not a function marked with @hookimpl, so it is never called; mark it."
MISSPELT = [
    ("@hookimpl\ndef cvr_register_backbons():\n    ...", "There is no hook 'cvr_register_backbons'.", "backbone"),
    ("@hookimpl\ndef register_commands(cli):\n    ...", "There is no hook 'register_commands'.", "command"),
    ("@hookimpl\ndef zzz():\n    ...", "There is no hook 'zzz'. The hooks are cvr_register_architectures,", None),
    ("def cvr_register_methods():\n    return []", UNMARKED, "method"),
    ("cvr_register_methods = []", UNMARKED, "method"),
    ("def cvr_regster_methods():\n    ...", "There is no hook 'cvr_regster_methods', and it is not mark", "method"),
    ("def cvr_register_model():\n    ...", "There is no hook 'cvr_register_model', and it is not marked with", None),
]


@pytest.mark.parametrize(("source", "message", "kind"), MISSPELT)
def test_misspelt_and_unmarked_hooks_are_reported_and_the_others_stand(distributions, info, source, message, kind):
    distributions.add("acme", GOOD + source)
    registry = distributions.load()
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage) == ("acme", "register")
    assert failure.message.startswith(message)
    if kind:
        assert failure.kind == kind
    assert len(distributions.messages) == 1
    assert registry.dataset("toy") is dict
    assert info(registry, "acme").status == "partial"


def test_asking_for_what_a_misspelt_hook_would_have_given_says_so(distributions):
    distributions.add("acme", GOOD + "@hookimpl\ndef cvr_register_method():\n    return []")
    registry = distributions.load()
    with pytest.raises(plugins.PluginFailed, match="There is no hook 'cvr_register_method'"):
        registry.method("acme:Foo")
    with pytest.raises(plugins.UnknownName, match="plugin 'acme', which failed: There is no hook"):
        registry.method("Foo")
    with pytest.raises(plugins.UnknownName) as caught:
        registry.backbone("Foo")
    assert "acme" not in str(caught.value)


def test_helpers_of_a_plugin_are_not_taken_for_hooks(distributions):
    helpers = """
def cvr_loss():
    ...

class cvr_registered:
    ...

@hookimpl(optionalhook=True)
def cvr_register_things_of_a_later_version():
    ...
"""
    distributions.add("acme", GOOD + helpers)
    assert distributions.load().failures == ()


KEPT_OUT = [
    ("@hookimpl\ndef cvr_register_commands(group):\n    ...", None, "register", "Argument(s) {'group'} are declared"),
    ("@hookimpl(wrapper=True)\ndef cvr_register_methods():\n    yield", None, "register", "each plugin is asked alone"),
    (
        "@hookimpl(specname='cvr_register_methods')\ndef mine():\n    ...",
        None,
        "register",
        "mine: each plugin is asked",
    ),
    ("class Plugin:\n    ...", "acme_module:Plugin", "import", "'acme_module:Plugin' is a type."),
    ("def function():\n    ...", "acme_module:function", "import", "'acme_module:function' is a function."),
    ("", "acme_module:missing", "import", "AttributeError: module 'acme_module' has no attribute 'missing'"),
    ("", "acme module", "import", "got 'acme module'."),
    ("del cvr_register_datasets", None, "register", "'acme_module' has no function marked with @hookimpl."),
]
"""Source beside a good hook, the entry point's value, the stage at which the plugin is kept out and what is said."""


@pytest.mark.parametrize(("source", "value", "stage", "message"), KEPT_OUT)
def test_a_plugin_that_does_not_fit_is_kept_out(distributions, info, source, value, stage, message):
    distributions.add("acme", GOOD + source, value=value)
    distributions.add("zeta", GOOD.replace("toy", "other"))
    registry = distributions.load()
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.kind) == ("acme", stage, None)
    assert message in failure.message
    assert "\n" not in failure.message
    assert info(registry, "acme").status == "failed"
    assert [entry.key for entry in registry.entries("dataset") if entry.plugin != "builtin"] == ["other"]
    with pytest.raises(plugins.PluginFailed, match=rf"'acme' \({stage}\)"):
        registry.dataset("acme:toy")


def test_a_plugin_name_with_a_colon_is_refused(distributions):
    distributions.add("a:b", GOOD, module="impostor", distribution="impostor")
    (failure,) = distributions.load().failures
    assert failure.message == "A plugin's name is letters, digits and '_', '-', '.', '+'; got 'a:b'."


def test_a_hook_may_leave_out_arguments_it_does_not_need(distributions):
    import click

    distributions.add("acme", GOOD + "@hookimpl\ndef cvr_register_commands():\n    ...")
    registry = distributions.load()
    registry.add_commands(click.Group())
    assert registry.failures == ()


def test_a_module_reached_through_its_package_is_a_module(distributions):
    package = distributions.folder / "acme_package"
    package.mkdir()
    package.joinpath("__init__.py").write_text("from acme_package import hooks\n")
    package.joinpath("hooks.py").write_text(GOOD)
    distributions.add_metadata("acme-dist", "acme = acme_package:hooks")
    assert distributions.load().dataset("acme:toy") is dict


def test_one_module_under_two_plugin_names_is_registered_once(distributions, info):
    distributions.add("acme", GOOD)
    distributions.add_metadata("second-dist", "beta = acme_module", "gamma = cvr_plugins.builtin")
    registry = distributions.load()
    assert registry.dataset("toy") is registry.dataset("acme:toy") is dict
    assert [(failure.plugin, failure.message) for failure in registry.failures] == [
        ("beta", "Its module 'acme_module' is already registered as plugin 'acme'."),
        ("gamma", "Its module 'cvr_plugins.builtin' is already registered as plugin 'builtin'."),
    ]
    assert info(registry, "beta").status == "failed"


def test_two_plugins_of_one_name_are_both_left_out(distributions, info):
    distributions.add("acme", GOOD, module="one", distribution="acme-one", version="1.5")
    distributions.add("Acme", GOOD, module="two", distribution="acme-two", version="2.0")
    distributions.add("zeta", GOOD.replace("toy", "other"))
    registry = distributions.load()
    (failure,) = registry.failures
    assert failure.stage == "discover"
    assert "acme-one 1.5 (one) and acme-two 2.0 (two)" in failure.message
    assert info(registry, failure.plugin).module == "one, two"
    assert registry.dataset("other") is dict
    with pytest.raises(plugins.PluginFailed, match=r"acme-one 1\.5"):
        registry.dataset("acme:toy")


def test_stale_metadata_of_a_renamed_distribution_is_no_clash(distributions):
    distributions.add("acme", GOOD)
    distributions.add_metadata("acme-before", "acme = acme_module")
    registry = distributions.load()
    assert registry.failures == ()
    assert registry.dataset("toy") is dict


def test_no_plugin_can_pass_for_the_built_ins(distributions, info):
    name = "BuiltIn"
    distributions.add(name, GOOD, module="impostor", distribution="impostor")
    registry = distributions.load()
    (failure,) = registry.failures
    assert failure.plugin == f"impostor/{name}"
    assert failure.message == f"The name '{name}' is this package's own; impostor 1.0 (impostor) must choose another."
    assert info(registry, "builtin").status == "ok"
    assert info(registry, f"impostor/{name}").status == "failed"
    with pytest.raises(plugins.UnknownName, match="Plugin 'builtin' has no data set 'toy'"):
        registry.dataset("builtin:toy")


def test_every_hook_has_a_kind_that_is_checked():
    from cvr_plugins import hookspecs
    from cvr_plugins.plugins._checks import COMMAND, KINDS

    specified = {name for name in vars(hookspecs) if name.startswith("cvr_")}
    assert {kind.hook for kind in (*KINDS.values(), COMMAND)} == specified
