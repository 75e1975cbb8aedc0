"""The plugin pages show the files that CI runs and the output that their commands have."""

import dataclasses
import inspect
import re
import runpy
from pathlib import Path

import pytest

from cvr_plugins import testing
from cvr_plugins.scaffold import write_distribution
from cvr_plugins.testing import method_checks

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "examples" / "plugin_template"
SHOWN = re.compile(r"<!-- file: (\S+) -->\n\n```\w+\n(.*?)```\n", re.DOTALL)
PAGES = {name: (TEMPLATE / name).read_text(encoding="utf-8") for name in ("README.md", "TESTING.md")}


@pytest.fixture
def folder(tmp_path):
    """What the reader has in the working directory: this template, and what `cvr-plugins new my-method` writes."""
    (tmp_path / "plugin_template").symlink_to(TEMPLATE)
    write_distribution("my-method", folder=tmp_path / "my-method")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_file_is_shown_as_it_is(page, folder):
    text = PAGES[page]
    shown = SHOWN.findall(text)
    assert len(shown) == text.count("<!-- file: ")
    for path, source in shown:
        assert source == (folder / path).read_text(encoding="utf-8"), path


def test_the_tutorial_shows_every_kind_of_file_that_makes_a_plugin():
    paths = [path for path, _ in SHOWN.findall(PAGES["README.md"])]
    assert {Path(path).name for path in paths} == {
        "objective.py",
        "hooks.py",
        "test_plugin.py",
        "cvr_plugin_template.py",
        "train.py",
        "grid.yaml",
        "stock_recbole.py",
    }
    (entry,) = re.findall(r"```toml\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert entry.startswith("[project.entry-points.cvr_plugins]\n")


def test_the_entry_point_shown_is_the_one_written(folder):
    (entry,) = re.findall(r"```toml\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert entry in (folder / "my-method" / "pyproject.toml").read_text(encoding="utf-8")


def test_every_check_is_listed_with_what_it_says_and_what_usually_causes_its_failure():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", PAGES["TESTING.md"], re.MULTILINE)
    checks = [(check.name, check.description, check.cause) for check in method_checks()]
    assert rows[-len(checks) :] == checks


def test_every_public_name_of_the_testing_module_is_told_with_its_signature():
    page = PAGES["TESTING.md"]
    for name in testing.__all__:
        value = getattr(testing, name)
        if inspect.isfunction(value):
            assert f"\n{name}{inspect.signature(value)}\n".replace("'", "") in page
        else:
            assert f"\n| `{name}` | " in page, name
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert {field.name for field in dataclasses.fields(testing.CheckResult)} <= words(rows["CheckResult"])
    assert {*vars(method_checks()[0])} - {"run"} <= words(rows["Check"])
    assert {*vars(testing.CheckFailure("X", []))} <= words(rows["CheckFailure"])


def words(text):
    return set(re.findall(r"`(\w+)`", text))


def test_the_example_of_the_pretended_device_runs(capsys):
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", PAGES["TESTING.md"], re.DOTALL)
    exec(compile(code, "TESTING.md", "exec"), {})
    assert "cuda" in capsys.readouterr().out


def test_links_of_the_pages_lead_somewhere():
    for name in ("README.md", "HOOKS.md", "TESTING.md", "VERSIONING.md"):
        prose = re.sub(r"```.*?```", "", (TEMPLATE / name).read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
            assert (TEMPLATE / target).exists(), f"{name}: {target}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_pages_run_and_print_what_they_show(page, workshop, monkeypatch):
    pytest.importorskip("recbole", reason="the MovieLens files come with recbole, which Python 3.12 and later lack")
    monkeypatch.syspath_prepend(ROOT / "examples")
    assert runpy.run_path(str(ROOT / "examples" / "write_plugin_docs.py"))["changes"](page, workshop) == ""
