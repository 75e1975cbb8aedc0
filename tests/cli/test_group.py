"""The command line as a whole: what it costs to start, exit codes, one line per error, plugins' commands."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib.metadata import version

import click
import pytest

from cvr_plugins import plugins
from cvr_plugins.cli import _group
from cvr_plugins.cli._group import run

COMMANDS = list(_group._COMMANDS)
HEAVY = ("torch", "pandas", "numpy", "recbole", "torch_rechub", "sklearn", "scipy", "pyarrow", "pluggy", "yaml", "rich")


def _line(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from cvr_plugins.cli import main; main()", *arguments]


HELP = [["--help"], [], ["-h"], *([name, "--help"] for name in COMMANDS)]
LISTS = [["--version"], ["configs"], ["keys"]]


def test_help_loads_none_of_the_libraries_and_lists_only_what_they_are_made_with():
    lines = [*HELP, *LISTS]
    code = (
        "import contextlib, io, json, sys\n"
        "from cvr_plugins.cli._group import run\n"
        "found = []\n"
        f"for line in {lines!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        code = run(line)\n"
        f"    found.append(([m for m in {HEAVY!r} if m in sys.modules], code, out.getvalue()))\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, (loaded, code, text) in zip(lines, json.loads(done.stdout), strict=True):
        assert code == 0, line
        assert "Usage:" in text if line in HELP else text, line
        assert set(loaded) <= (set() if line in HELP else {"yaml", "rich"}), line


def test_the_version_is_the_packages(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"cvr-plugins {version('cvr-plugins')}\n"


def test_every_command_is_listed_with_what_it_does(capsys):
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed[: len(COMMANDS)]] == COMMANDS
    assert all(len(line.split()) > 2 for line in listed[: len(COMMANDS)])


CODES = [
    ([], 0, ""),
    (["mehtods"], 2, "No such command 'mehtods'. Did you mean methods? Try 'cvr-plugins --help'."),
    (["--nosuch"], 2, "No such option '--nosuch'. Try 'cvr-plugins --help'."),
    (["show"], 2, "Missing argument 'METHOD'. Try 'cvr-plugins show --help'."),
    (["methods", "--jsn"], 2, "No such option '--jsn'. Did you mean '--json'? Try 'cvr-plugins methods --help'."),
    (["show", "ESM"], 2, "Unknown method 'ESM'. Did you mean"),
    (["run", "-m", "ESMM"], 2, "No dataset given: say -d DATASET"),
    (["run", "-m", "ESMM", "-d", "nowhere"], 2, "Unknown data set 'nowhere'. 'cvr-plugins datasets' lists all."),
    (["run", "-c", "nowhere.yaml"], 2, "There is no configuration file 'nowhere.yaml', here or in the package."),
    (["predict", "nowhere", "a.csv", "b.csv"], 2, "nowhere is not a run folder: it has no run.json."),
    (["export", "nowhere", "out"], 2, "Unknown data set 'nowhere'"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), CODES, ids=[" ".join(a) or "-" for a, _, _ in CODES])
def test_exit_codes_and_one_line_of_error(arguments, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {message}" if message else "")
    assert error.count("\n") == (1 if message else 0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def failing(monkeypatch):
    """Make `cvr-plugins methods` raise something."""

    def make(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(plugins, "registry", fail)

    return make


class PluginError(Exception):
    """Not one of ours."""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (PluginError("two\nlines"), 1, "PluginError: two lines"),
        (RuntimeError(), 1, "RuntimeError"),
        (GeneratorExit(), 1, "GeneratorExit"),
        (OSError(28, "No space left on device"), 1, "OSError: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 1, "Interrupted; nothing is left half written."),
        (click.ClickException("no"), 2, "no"),
        (SystemExit("gone"), 1, "gone"),
    ],
)
def test_whatever_goes_wrong_is_one_line_and_debug_shows_the_rest(error, code, message, failing, capsys):
    failing(error)
    assert run(["methods"]) == code
    assert capsys.readouterr().err.strip() == f"Error: {message}"
    if not isinstance(error, SystemExit):
        for arguments in (["methods", "--debug"], ["--debug", "methods"]):
            assert run(arguments) == code
            shown = capsys.readouterr().err.strip()
            assert "Traceback (most recent call last)" in shown
            assert shown.endswith(f"Error: {message}")


@pytest.mark.parametrize(("left", "code"), [(SystemExit(3), 3), (SystemExit(), 0), (click.exceptions.Exit(4), 4)])
def test_the_exit_code_of_whoever_leaves_is_kept(left, code, failing, capsys):
    failing(left)
    assert run(["methods"]) == code
    assert capsys.readouterr().err == ""


def test_a_warning_is_one_line_and_the_filters_are_left_alone(monkeypatch, capsys):
    def warn() -> None:
        warnings.warn("something\n  is odd", UserWarning, stacklevel=1)
        raise PluginError

    monkeypatch.setattr(plugins, "registry", warn)
    before = warnings.showwarning
    assert run(["methods"]) == 1
    assert warnings.showwarning is before
    assert capsys.readouterr().err == "Warning: something is odd\nError: PluginError\n"


def test_nobody_reading_on_is_no_error():
    line = " ".join(f"'{part}'" for part in _line("keys", "--json"))
    command = f"set -o pipefail; for i in 1 2 3; do {line} | head -1; done"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n" * 3, "")


COMMAND_PLUGIN = """
import click
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_commands(cli):
    @cli.command()
    @click.option("--times", default=1)
    def hello(times):
        "Say hello."
        click.echo("hello " * times)
"""


def test_a_plugins_command_is_run_and_forgotten_with_the_plugin(plugin, capsys, monkeypatch):
    plugin("acme", COMMAND_PLUGIN)
    assert run(["hello", "--times=2"]) == 0
    assert capsys.readouterr().out == "hello hello \n"
    assert run(["helo"]) == 2
    assert "Did you mean hello?" in capsys.readouterr().err
    assert run(["plugins", "--json"]) == 0
    found = {each["name"]: each["contributed"] for each in json.loads(capsys.readouterr().out)}
    assert found["acme"]["command"] == ["hello"]
    monkeypatch.setenv("CVR_PLUGINS_LOAD", "")
    plugins.reset()
    assert run(["hello"]) == 2
    assert "No such command 'hello'" in capsys.readouterr().err
