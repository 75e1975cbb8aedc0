"""What plugins rely on does not change unseen: signatures are compared, and a change must be told on the page."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import cvr_plugins
from cvr_plugins import hookspecs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "write_signatures.py"
FILE = Path(__file__).with_name("signatures.txt")
PAGE = ROOT / "examples" / "plugin_template" / "VERSIONING.md"


@pytest.fixture(scope="module")
def signatures():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def script(signatures, monkeypatch, capsys):
    """Run the script; return its exit code and what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
        return signatures["main"](), capsys.readouterr().out

    return run


def test_public_signatures_are_those_that_were_told(signatures):
    stored, told = signatures["stored"](FILE.read_text(encoding="utf-8"))
    now, entries = list(signatures["lines"]()), signatures["changes"](PAGE.read_text(encoding="utf-8"))
    what_to_do = f"add an entry to Changes of {PAGE.name}, then run {SCRIPT.name}"
    assert now == stored, what_to_do
    assert entries[0]["fingerprint"] == signatures["fingerprint"](now), what_to_do
    assert len(entries) == told


def test_the_file_covers_every_public_name_and_hook():
    text = FILE.read_text(encoding="utf-8")
    for name in set(cvr_plugins.__all__) - {"__version__"}:
        assert re.search(rf"^(class )?cvr_plugins\.{name}\b", text, re.MULTILINE), name
    for name in vars(hookspecs):
        if name.startswith("cvr_"):
            assert f"cvr_plugins.hookspecs.{name}(" in text
    assert "\n    loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]\n" in text
    assert " at 0x" not in text
    assert str(ROOT) not in text


@pytest.mark.parametrize("by_hand", [False, True], ids=["only in the code", "in the file too, by hand"])
def test_a_changed_signature_is_found_and_written_only_once_it_is_told(script, signatures, tmp_path, by_hand):
    file, page = tmp_path / "signatures.txt", tmp_path / "VERSIONING.md"
    text, told = FILE.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")
    if by_hand:
        told = re.sub(r"\(signatures \w+\)", "(signatures 0123456789ab)", told, count=1)
    else:
        text = text.replace("loss(self, out: Outputs, y: Labels)", "loss(self, out: Outputs)")
    file.write_text(text)
    page.write_text(told)
    options = ("--file", file, "--page", page)

    code, out = script("--check", *options)
    assert code == 1
    assert by_hand or "+    loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]" in out

    code, out = script(*options)
    assert code == 1
    assert "first add an entry under 'Changes'" in out
    assert file.read_text() == text

    add_entry(page)
    assert script(*options)[0] == 0
    assert file.read_text().splitlines()[2:] == list(signatures["lines"]())
    assert script("--check", *options)[0] == 0
    assert page.read_text().count("`Objective.loss` takes labels") == 1


def add_entry(page):
    """Add the newest entry to a page."""
    before, entries = page.read_text(encoding="utf-8").rsplit("\n\n- ", 1)
    page.write_text(f"{before}\n\n- 0.2.0: `Objective.loss` takes labels.\n- {entries}", encoding="utf-8")


def test_the_page_names_every_public_name_and_what_it_promises():
    page = PAGE.read_text(encoding="utf-8")
    for name in set(cvr_plugins.__all__) - {"__version__"}:
        assert f"`{name}`" in page, name
    for heading in ("What is stable", "Adding, deprecating, removing", "What `api` means", "Changes"):
        assert f"\n## {heading}\n" in page
    assert f"`API_VERSION` {cvr_plugins.API_VERSION}" in page


@pytest.mark.parametrize("how", ["hook", "argument"])
def test_a_plugin_is_told_of_a_deprecated_hook_or_argument_and_goes_on_working(distributions, monkeypatch, how):
    import click

    warning = DeprecationWarning("cvr_plugins 0.9 has another way for this; see VERSIONING.md.")
    hook, argument = ("cvr_register_commands", {"cli": warning}) if how == "argument" else ("cvr_register_datasets", {})
    options = {"warn_on_impl": None if argument else warning, "warn_on_impl_args": argument or None}
    marker = f"{hookspecs.PROJECT}_spec"
    function = getattr(hookspecs, hook)
    monkeypatch.setattr(function, marker, {**getattr(function, marker), **options})
    distributions.add(
        "acme",
        """
        from cvr_plugins import hookimpl

        @hookimpl
        def cvr_register_datasets():
            return {"toy": dict}

        @hookimpl
        def cvr_register_commands(cli):
            cli.command("toy")(lambda: None)
        """,
    )
    registry = distributions.load()
    cli = click.Group()
    registry.add_commands(cli)
    assert registry.dataset("toy") is dict
    assert "toy" in cli.commands
    assert registry.failures == ()
    # Our own data sets come through the hook, too.
    told = [each for each in distributions._caught if each.message is warning and "acme_module" in each.filename]
    assert len(told) == 1
