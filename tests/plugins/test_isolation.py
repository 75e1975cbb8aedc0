"""What one plugin breaks on import or in a hook stays with that plugin."""

import pickle

import pytest

from cvr_plugins import plugins

RAISES_IN_METHODS = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_methods():
    raise {error}

@hookimpl
def cvr_register_datasets():
    return {{"toy": dict}}
"""


def test_built_ins_come_through_the_same_hooks(distributions, monkeypatch):
    from cvr_plugins import builtin

    registry = distributions.load()
    first = registry.plugins[0]
    assert (first.name, first.module, first.distribution) == ("builtin", "cvr_plugins.builtin", "cvr-plugins")
    of_the_hook = {method.name: method for method in builtin.cvr_register_methods()}
    ours = {entry.name: entry.value for entry in registry.entries("method") if entry.plugin == "builtin"}
    assert ours == of_the_hook
    assert registry.method("ESMM") is registry.method("builtin:ESMM") is of_the_hook["ESMM"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", "SyntaxError: invalid syntax (acme_module.py, line 1)"),
        ("raise RuntimeError('first line\\n\\n  second line')", "RuntimeError: first line second line"),
        (
            """
            class Odd(Exception):
                def __str__(self):
                    raise ValueError

            raise Odd
            """,
            "Odd: its message cannot be shown",
        ),
    ],
)
def test_a_plugin_that_fails_on_import_fails_alone(distributions, info, source, message):
    distributions.add("acme", source)
    distributions.add_methods("zeta", "Foo")
    registry = distributions.load()

    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.message) == ("acme", "import", message)
    assert failure.traceback.startswith("Traceback")
    assert "acme_module" in failure.traceback
    found = info(registry, "acme")
    assert (found.status, found.failures) == ("failed", (failure,))
    assert registry.method("Foo").summary == "of zeta"
    assert registry.method("ESMM").name == "ESMM"

    (warning,) = distributions.messages
    assert warning == f"Plugin 'acme' (import): {message}. 'cvr-plugins plugins --debug' shows more."


def test_asking_for_something_of_a_failed_plugin_raises_that_plugin_s_error(distributions):
    distributions.add("acme", "import no_such_module")
    registry = distributions.load()
    with pytest.raises(plugins.PluginFailed) as caught:
        registry.architecture("acme:Foo")
    assert "'acme:Foo' is not available. Plugin 'acme' (import): ModuleNotFoundError: " in str(caught.value)
    assert caught.value.failures == registry.failures
    assert pickle.loads(pickle.dumps(caught.value)).failures == registry.failures


def test_an_unknown_name_is_put_down_to_the_plugins_that_failed(distributions):
    distributions.add("acme", "import no_such_module")
    distributions.add("beta", RAISES_IN_METHODS.format(error="OSError('disk')"))
    distributions.add_methods("zeta", "Foo")
    registry = distributions.load()
    with pytest.raises(plugins.UnknownName) as caught:
        registry.method("Fooo")
    for part in (
        "Did you mean Foo?",
        "plugin 'acme', which failed: Module",
        "plugin 'beta', which failed: OSError: disk",
    ):
        assert part in str(caught.value)
    with pytest.raises(plugins.UnknownName, match="'acme'") as caught:
        registry.dataset("nowhere")
    assert "beta" not in str(caught.value)


def test_a_hook_that_raises_loses_its_own_kind_only(distributions, info):
    distributions.add("acme", RAISES_IN_METHODS.format(error="SystemExit('boom')"))
    distributions.add_methods("zeta", "Foo")
    registry = distributions.load()
    assert registry.failures == ()
    assert registry.method("Foo").summary == "of zeta"

    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.kind) == ("acme", "cvr_register_methods", "method")
    assert failure.message == "SystemExit: boom"
    assert "in cvr_register_methods" in failure.traceback
    assert registry.dataset("toy") is dict
    assert info(registry, "acme").status == "partial"
    with pytest.raises(plugins.PluginFailed, match="boom"):
        registry.method("acme:Anything")
    with pytest.raises(plugins.UnknownName, match=r"Plugin 'acme' has no data set 'Anything'\. It has toy\."):
        registry.dataset("acme:Anything")


def test_each_failure_is_warned_about_once(distributions):
    distributions.add("acme", RAISES_IN_METHODS.format(error="RuntimeError('boom')"))
    registry = distributions.load()
    for _ in range(3):
        registry.entries("method")
        registry.collect()
        with pytest.raises(plugins.UnknownName):
            registry.method("Nothing")
    assert len(registry.failures) == 1
    assert distributions.messages == [
        "Plugin 'acme' (cvr_register_methods): RuntimeError: boom. 'cvr-plugins plugins --debug' shows more."
    ]


def test_a_keyboard_interrupt_on_import_passes_through(distributions):
    distributions.add("acme", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        distributions.load()


def test_a_keyboard_interrupt_in_a_hook_passes_through_and_the_next_call_starts_over(distributions):
    distributions.add(
        "acme",
        """
        from cvr_plugins import hookimpl
        interrupts = [KeyboardInterrupt()]

        @hookimpl
        def cvr_register_datasets():
            if interrupts:
                raise interrupts.pop()
            return {"toy": dict}
        """,
    )
    registry = distributions.load()
    with pytest.raises(KeyboardInterrupt):
        registry.dataset("toy")
    assert registry.dataset("toy") is dict
    assert registry.failures == ()


def test_unreadable_metadata_of_another_distribution_hides_no_plugin(distributions):
    distributions.add_methods("acme", "Foo")
    distributions.add_metadata("garbled", "no equals sign")
    registry = distributions.load()
    assert registry.method("Foo").summary == "of acme"
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage) == ("garbled", "discover")
    assert failure.message.startswith("its metadata cannot be read: ")


@pytest.mark.parametrize("readable", [True, False])
def test_the_first_of_two_copies_of_a_distribution_counts(distributions, tmp_path_factory, monkeypatch, readable):
    distributions.add_methods("acme", "Old", module="acme_old")
    newer = type(distributions)(tmp_path_factory.mktemp("newer"))
    monkeypatch.syspath_prepend(newer.folder)
    newer.add_methods("acme", "New", module="acme_new", version="2.0")
    if not readable:
        distributions.add_metadata("garbled", "no equals sign")
    registry = distributions.load()
    assert registry.method("acme:New").summary == "of acme"
    assert [failure.plugin for failure in registry.failures] == ([] if readable else ["garbled"])


def test_a_distribution_without_metadata_is_a_plugin_all_the_same(distributions, info):
    distributions.add_methods("acme", "Foo")
    (path,) = distributions.folder.glob("*.dist-info/METADATA")
    path.unlink()
    registry = distributions.load()
    assert registry.method("Foo").summary == "of acme"
    assert info(registry, "acme").status == "ok"
