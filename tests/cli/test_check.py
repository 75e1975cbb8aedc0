"""`cvr-plugins check`: what TARGET may be, what is printed, and how it exits."""

from __future__ import annotations

import json
import sys

import pytest

from cvr_plugins.cli._group import run

MODULE = """
from cvr_plugins import Method, hookimpl
from cvr_plugins.objectives import Naive

class Mine(Naive):
    pass

MINE = Method("Mine", Mine, summary="Made for a test", reference="A test, 2026")
BARE = Method("Bare", Mine)
BOTH = [MINE, BARE]
"""
PLUGIN = (
    MODULE
    + """
@hookimpl
def cvr_register_methods():
    return BOTH
"""
)
BROKEN_DATASETS = """
@hookimpl
def cvr_register_datasets():
    raise RuntimeError("no network")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a module in it; forgotten after the test."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def make(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)

    before = set(sys.modules)
    yield make
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def checked(capsys, *arguments):
    """Exit code and the report of a command with --json."""
    code = run(["check", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def failed(report):
    return {m["name"]: [c["name"] for c in m["checks"] if c["status"] == "failed"] for m in report["methods"]}


def test_a_builtin_method(capsys):
    code, report = checked(capsys, "esmm")
    assert code == 0
    assert report["target"] == "esmm"
    assert report["passed"] is True
    assert failed(report) == {"ESMM": []}
    checks = report["methods"][0]["checks"]
    assert len(checks) == 25
    assert set(checks[0]) == {"name", "description", "status", "expected", "found", "cause", "seconds"}


def test_the_table_and_what_it_says_of_a_failure(capsys, here):
    here("my_module", MODULE)
    assert run(["check", "my_module:BARE", "--only", "metadata", "--only", "terms"]) == 1
    shown = capsys.readouterr().out
    assert "Bare: 1 of 2 checks passed" in shown
    rows = [" ".join(line.replace("│", " ").split()) for line in shown.splitlines()]
    assert [row.startswith("metadata failed the method says what it is") for row in rows].count(True) == 1
    assert "\nmetadata: the method says what it is" in shown
    assert "\n  expected: a summary of one line" in shown
    assert "\n  usual cause: a field of Method left out" in shown


def test_chosen_checks_and_options(capsys):
    code, report = checked(capsys, "DR_JL", "architecture=mmoe", "lambda_cvr=2", "--only", "stops", "--only", "terms")
    assert code == 0
    assert [check["name"] for check in report["methods"][0]["checks"]] == ["terms", "stops"]


def test_a_module_that_is_not_registered(capsys, here):
    here("my_module", MODULE)
    assert "my_module" not in sys.modules
    path = list(sys.path)
    code, report = checked(capsys, "my_module:MINE", "--only", "metadata")
    assert (code, failed(report)) == (0, {"Mine": []})
    assert sys.path == path
    code, report = checked(capsys, "my_module:BOTH", "--only", "metadata")
    assert (code, failed(report)) == (1, {"Mine": [], "Bare": ["metadata"]})
    assert [method["passed"] for method in report["methods"]] == [True, False]


def test_one_method_and_all_methods_of_a_plugin(capsys, plugin):
    plugin("acme", PLUGIN)
    for target in ("acme:Mine", "mine"):
        code, report = checked(capsys, target, "--only", "metadata")
        assert (code, failed(report)) == (0, {"Mine": []})
    code, report = checked(capsys, "acme", "--only", "metadata")
    assert (code, failed(report), report["failures"]) == (1, {"Mine": [], "Bare": ["metadata"]}, [])


@pytest.mark.filterwarnings("ignore::cvr_plugins.plugins.PluginWarning")
def test_a_plugin_of_which_something_failed_does_not_pass(capsys, plugin):
    plugin("acme", PLUGIN + BROKEN_DATASETS)
    code, report = checked(capsys, "acme", "--only", "terms")
    assert (code, report["passed"], failed(report)) == (1, False, {"Mine": [], "Bare": []})
    assert report["failures"] == [{"stage": "cvr_register_datasets", "message": "RuntimeError: no network"}]
    assert run(["check", "acme", "--only", "terms"]) == 1
    assert "Plugin 'acme' (cvr_register_datasets): RuntimeError: no network." in capsys.readouterr().out


def test_a_plugin_that_cannot_be_imported_does_not_pass(capsys, plugin):
    plugin("acme", "import nothing_of_this_name")
    code, report = checked(capsys, "acme")
    assert (code, report["methods"]) == (1, [])
    assert report["failures"][0]["stage"] == "import"


def test_a_plugin_that_is_left_out(capsys, plugin, monkeypatch):
    plugin("acme", PLUGIN)
    monkeypatch.setenv("CVR_PLUGINS_LOAD", "")
    assert run(["check", "acme"]) == 2
    assert "the plugin 'acme' is left out by CVR_PLUGINS_LOAD." in capsys.readouterr().err


WITHOUT_METHODS = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_datasets():
    return {}
"""
WRONG = [
    (["ESM"], "Unknown method 'ESM'. Did you mean ESM2 or ESMM?"),
    (["acme:Min"], "Plugin 'acme' has no method 'Min'. Did you mean Mine?"),
    (["zeta"], "the plugin 'zeta' brings no method"),
    (["nowhere:METHOD"], "'nowhere' is no plugin ('cvr-plugins plugins' lists them), and cannot be imported"),
    (["my_module:THIS"], "the module 'my_module' has no 'THIS'"),
    (["my_module:Mine"], "'Mine' of 'my_module' must be a cvr_plugins.Method or a list of them; got a type."),
    (["leaving:METHOD"], "cannot be imported as a module from "),
    (["ESMM", "--only", "stop"], "Unknown check 'stop'. Did you mean stops?"),
    (["ESMM", "alpha=1"], "Unknown option 'alpha' for ESMM on towers/mlp."),
    (["ESMM", "architecture=mmo"], "Unknown architecture 'mmo'. Did you mean mmoe?"),
    (["ESMM", "mmoe"], "Expected key=value"),
    ([], "Missing argument 'TARGET'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda part: " ".join(part) if type(part) is list else "")
def test_what_is_wrong_with_the_command_is_said_on_one_line(capsys, plugin, here, arguments, message):
    plugin("acme", PLUGIN)
    plugin("zeta", WITHOUT_METHODS)
    here("my_module", MODULE)
    here("leaving", "raise SystemExit('not today')\n")
    assert run(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
