"""What one plugin breaks on import or in a hook stays with that plugin."""

import pickle
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

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


CTRL_C = "import signal; signal.raise_signal(signal.SIGINT)"
"""What a process does when the user presses Ctrl-C."""


@pytest.mark.parametrize("pressed", [CTRL_C, f"try:\n    {CTRL_C}\nexcept BaseException:\n    pass"])
def test_ctrl_c_during_an_import_ends_it_even_if_the_plugin_keeps_it(distributions, pressed):
    distributions.add("acme", pressed)
    with pytest.raises(KeyboardInterrupt):
        distributions.load()


def test_ctrl_c_in_a_hook_ends_the_look_up_and_the_next_one_starts_over(distributions):
    distributions.add(
        "acme",
        """
        import signal
        from cvr_plugins import hookimpl
        presses = [signal.SIGINT]

        @hookimpl
        def cvr_register_datasets():
            if presses:
                signal.raise_signal(presses.pop())
            return {"toy": dict}
        """,
    )
    registry = distributions.load()
    with pytest.raises(KeyboardInterrupt):
        registry.dataset("toy")
    assert registry.dataset("toy") is dict
    assert registry.failures == ()


@pytest.mark.parametrize(
    "error",
    [
        "SystemExit(3)",
        "KeyboardInterrupt",
        "GeneratorExit",
        "BaseException('odd')",
        "type('Odd', (BaseException,), {})",
    ],
)
def test_whatever_a_plugin_raises_is_its_failure_and_ends_nothing(distributions, info, typed, error):
    distributions.add("acme", f"raise {error}")
    distributions.add("beta", RAISES_IN_METHODS.format(error=error))
    distributions.add_methods("zeta", "Foo")
    registry = distributions.load()
    assert registry.method("Foo").summary == "of zeta"
    assert [(each.plugin, each.stage) for each in registry.failures] == [
        ("acme", "import"),
        ("beta", "cvr_register_methods"),
    ]
    assert (info(registry, "acme").status, info(registry, "beta").status) == ("failed", "partial")
    code, shown, _ = typed("methods")
    assert (code, "Foo" in shown, "ESMM" in shown) == (0, True, True)


def test_a_plugin_s_own_interrupt_is_its_failure_off_the_main_thread_too(distributions):
    distributions.add("acme", "raise KeyboardInterrupt")
    with ThreadPoolExecutor(1) as other:
        registry = other.submit(distributions.load).result()
    assert [failure.plugin for failure in registry.failures] == ["acme"]


LEAVES_CHANGED = """
from cvr_plugins import hookimpl

{on_import}

@hookimpl
def cvr_register_datasets():
    {in_hook}
    return {{"toy": dict}}
"""

LEFT = {
    "import torch; torch.set_grad_enabled(False)": "torch's gradient mode",
    "import torch; torch.no_grad().__enter__()": "torch's gradient mode",
    "import torch; globals().update(kept=torch.inference_mode()); kept.__enter__()": "torch's inference mode",
    "import torch; torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "import torch; torch.set_default_device('meta')": "torch's default device",
    "import torch; torch.autograd.set_detect_anomaly(True)": "torch's search for NaN gradients",
    "import signal; signal.signal(signal.SIGTERM, lambda *_: None)": "the handler of SIGTERM",
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)": "the handler of SIGINT",
}
"""What a plugin does -> what it leaves changed."""


def state_of_the_process() -> tuple:
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled())
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    new = torch.ones(1, requires_grad=True)
    return (*modes, torch.get_default_dtype(), new.device, (2 * new).requires_grad, (2 * new).is_inference(), handlers)


@pytest.mark.parametrize("where", ["its import", "cvr_register_datasets"])
@pytest.mark.parametrize(("done", "left"), LEFT.items(), ids=LEFT.values())
def test_what_a_plugin_leaves_changed_is_put_back_and_told(distributions, info, where, done, left):
    on_import, in_hook = (done, "pass") if where == "its import" else ("pass", done)
    distributions.add("acme", LEAVES_CHANGED.format(on_import=on_import, in_hook=in_hook))
    before = state_of_the_process()
    registry = distributions.load()
    assert registry.dataset("toy") is dict
    assert state_of_the_process() == before
    (failure,) = registry.failures
    assert str(failure) == f"Plugin 'acme' (state): {left} changed by {where}, and put back."
    assert info(registry, "acme").status == "partial"
    with pytest.raises(plugins.UnknownName, match="has no data set 'Other'"):
        registry.dataset("acme:Other")


def test_torch_imported_by_a_plugin_is_as_it_is_when_anyone_imports_it(distributions):
    distributions.add("acme", "import torch\ntorch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)")
    done = distributions.python(
        """
        import sys, warnings
        from cvr_plugins.plugins import registry
        warnings.simplefilter("ignore")
        assert "torch" not in sys.modules
        registry()
        torch = sys.modules["torch"]
        print(torch.is_grad_enabled(), torch.get_default_dtype())
        """
    )
    assert done.stdout.split() == ["True", "torch.float32"], done.stderr


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
