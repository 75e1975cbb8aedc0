"""Names are checked, nothing is overwritten, and the next commands are told."""

import configparser
import sys

import pytest
from click.testing import CliRunner

from cvr_plugins.cli import main
from cvr_plugins.cli._group import cli
from cvr_plugins.files import TargetError
from cvr_plugins.scaffold import KINDS, LONGEST, Names, ScaffoldError, write_distribution


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my-plugin", Names("my-plugin", "my_plugin", "my-plugin", "MyPlugin", "my_plugin")),
        ("Acme.CVR_net", Names("Acme.CVR_net", "acme_cvr_net", "acme-cvr-net", "AcmeCVRNet", "acme_cvr_net")),
        ("x", Names("x", "x", "x", "X", "x")),
        ("a--b", Names("a--b", "a_b", "a-b", "AB", "a_b")),
    ],
)
def test_names_follow_from_one(name, expected):
    assert Names.of(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "got ''"),
        ("-x", "got '-x'"),
        ("my plugin", "got 'my plugin'"),
        ("../escape", "got '../escape'"),
        ("1abc", "begins with a letter"),
        ("é", "got 'é'"),
        ("x\n", "got 'x"),
        ("$x", r"got '\$x'"),
        ("x" * (LONGEST + 1), f"has {LONGEST + 1} characters"),
        ("json", "package 'json' would hide another"),
        ("Class", "package 'class' would hide another"),
        ("builtin", "package 'builtin' would hide"),
        ("cvr-plugins", "package 'cvr_plugins' would hide"),
        ("none", "The class would be called 'None'"),
        ("numpy", "A module 'numpy' is installed here already"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_written(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScaffoldError, match=message):
        write_distribution(name)
    assert list(tmp_path.iterdir()) == []


def test_looking_for_a_module_of_the_name_imports_none(tmp_path, monkeypatch):
    (tmp_path / "acme_there.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScaffoldError, match="installed here already"):
        Names.of("acme-there")
    assert "acme_there" not in sys.modules


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(ScaffoldError, match=r"Unknown kind 'methods'\. Did you mean method\?"):
        write_distribution("acme", kind="methods")


def test_nothing_that_exists_is_overwritten(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "mine.txt").write_text("mine")
    with pytest.raises(TargetError, match="exists already"):
        write_distribution("acme", folder=tmp_path / "acme")
    assert [path.name for path in (tmp_path / "acme").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_made_and_every_placeholder_filled(kind, tmp_path):
    written = write_distribution("acme-net", kind=kind, folder=tmp_path / "new")
    found = sorted(p.relative_to(written.folder).as_posix() for p in written.folder.rglob("*") if p.is_file())
    assert list(written.files) == found
    assert {"README.md", "pyproject.toml", "acme_net/__init__.py", "acme_net/hooks.py", "tests/test_plugin.py"} <= set(
        found
    )
    for name in found:
        text = (written.folder / name).read_text()
        assert "$" not in text
        assert text.endswith("\n")
        if name.endswith(".py"):
            compile(text, name, "exec")
    pyproject = configparser.ConfigParser()
    pyproject.read_string((written.folder / "pyproject.toml").read_text().replace("\n]", ""))
    assert pyproject["project.entry-points.cvr_plugins"]["acme-net"] == '"acme_net.hooks"'
    assert f"{KINDS[kind].description} for" in (written.folder / "README.md").read_text()


def test_the_command_tells_what_to_do_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["new", "acme-net", "--kind", "backbone"])
    assert done.exit_code == 0, done.output
    first, _, *rest = done.output.splitlines()
    assert first.startswith("Wrote acme-net: README.md, ")
    assert rest == [
        "Next:",
        "  pip install -e './acme-net[test]'",
        "  pytest './acme-net'",
        "  cvr-plugins plugins",
        "  cvr-plugins show ESMM --backbone acme_net",
        "  cvr-plugins run -m ESMM -d ml-100k-funnel backbone=acme_net",
    ]


def test_the_command_takes_another_folder_and_writes_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["new", "acme", "-o", str(tmp_path / "a" / "b")])
    assert f"  pytest '{tmp_path / 'a' / 'b'}'" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["json"], "Error: The package 'json' would hide another of that name; choose another name."),
        (["acme", "--kind", "metod"], "Error: Invalid value for '--kind'"),
        ([], "Error: Missing argument 'NAME'"),
        (["there"], "Error: 'there' exists already; remove it or name another place."),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(sys, "argv", ["cvr-plugins", "new", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
