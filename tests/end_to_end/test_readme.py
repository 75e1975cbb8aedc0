"""What README.md and examples/ show works as shown."""

import json
import re
import runpy
from pathlib import Path

import pytest

from cvr_plugins.cli._group import run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytest.importorskip("recbole", reason="the MovieLens files come with recbole, which Python 3.12 and later lack")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_commands_of_the_readme_run_and_print_what_it_shows(workshop, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    assert runpy.run_path(str(ROOT / "examples" / "write_readme.py"))["changes"](workshop) == ""


@pytest.mark.slow
def test_script_gives_the_same_figures_as_the_command(tmp_path):
    example = runpy.run_path(str(ROOT / "examples" / "rechub_esmm.py"))
    by_script = example["main"](n_epoch=1)
    assert run(["run", "-m", "ESMM", "-d", "ml-100k-funnel", "-o", str(tmp_path / "run"), "epochs=1"]) == 0
    by_command = json.loads((tmp_path / "run" / "metrics.json").read_text())["values"]
    assert by_script == by_command["cvr/oracle/auc"]


def test_plugin_of_the_readme_trains_by_its_name(plugin, shop, tmp_path):
    (source,) = [block for block in python_blocks() if "hookimpl" in block]
    (entry_point,) = re.findall(r"entry-points\.cvr_plugins\]` `([^`]*)`", README)
    name, _ = (part.strip().strip('"') for part in entry_point.split("="))
    plugin(name, source)
    (option,) = re.findall(r"-m ClickSpace\s+(\S+=\S+)`", README)
    line = ["run", "-c", str(shop.file), "-m", "ClickSpace", "-o", str(tmp_path / "run"), option, "epochs=1"]
    assert run(line) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plugin"] == name


@pytest.mark.parametrize("name", ["rechub_esmm", "recbole_nise"])
def test_scripts_of_the_readme_are_the_examples(name):
    assert (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8") in python_blocks()


@pytest.mark.slow
def test_example_of_a_method_in_recbole_prints_what_it_returns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(ROOT / "examples" / "recbole_nise.py"))["main"](epochs=1)
    assert capsys.readouterr().out.splitlines() == [f"{key:24s} {value:.4f}" for key, value in found.items()]
    assert set(found) == {"cvr/click/auc", "cvr/oracle/auc", "cvr/oracle/calibration", "ctcvr/entire/auc"}
