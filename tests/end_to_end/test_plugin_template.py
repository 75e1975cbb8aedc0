"""The example plugin is installed, every part of it is used by its name, and it is uninstalled without a trace."""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "plugin_template"
SCRIPTS = TEMPLATE / "scripts"
DISTRIBUTION = "cvr-plugin-template"
BRINGS = {
    "method": ["CVIB"],
    "architecture": ["cross_stitch"],
    "backbone": ["residual"],
    "weighting": ["geometric"],
    "metric": ["pr_auc"],
    "dataset": ["coupons"],
    "recbole_model": ["SessionMean"],
    "command": ["rates"],
}

pytestmark = pytest.mark.slow
WITH_RECBOLE = importlib.util.find_spec("recbole") is not None
needs_recbole = pytest.mark.skipif(not WITH_RECBOLE, reason="RecBole is not installed")
in_the_tutorial = pytest.mark.skipif(WITH_RECBOLE, reason="the tutorial runs and prints the same: test_plugin_docs.py")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def before(plugin_environment):
    """What the environment holds while the plugin is not installed."""
    return files(plugin_environment.bin.parent)


@pytest.fixture(scope="module")
def installed(plugin_environment, before, tmp_path_factory):
    """The environment with the plugin installed."""
    copy = tmp_path_factory.mktemp("source") / "plugin_template"
    shutil.copytree(TEMPLATE, copy)
    plugin_environment.install(copy)
    plugin_environment.source = copy
    return plugin_environment


def test_it_is_found_with_one_of_everything(installed, tmp_path):
    done = installed.run("cvr-plugins", "plugins", "--json", cwd=tmp_path)
    (found,) = [each for each in json.loads(done.stdout) if each["distribution"] == DISTRIBUTION]
    contributed = found["contributed"]
    if not WITH_RECBOLE:
        assert not contributed.pop("recbole_model")
        assert contributed == {kind: names for kind, names in BRINGS.items() if kind != "recbole_model"}
    else:
        assert contributed == BRINGS
        assert (found["status"], found["failures"]) == ("ok", [])


def test_finding_it_loads_neither_framework(installed, tmp_path):
    code = """
import sys
from cvr_plugins.plugins import registry
assert [info.name for info in registry().plugins] == ["builtin", "template"], registry().plugins
print([name for name in ("recbole", "torch_rechub") if name in sys.modules])
"""
    assert installed.python("-c", code, cwd=tmp_path).stdout == "[]\n"


def test_its_own_tests_pass(installed, tmp_path):
    shutil.copytree(TEMPLATE / "tests", tmp_path / "tests")
    done = installed.run("pytest", "-q", "-o", "addopts=", "tests", cwd=tmp_path)
    assert re.search(r"^25 passed", done.stdout, re.MULTILINE)


def test_on_the_command_line(installed, tmp_path):
    rates = installed.run("cvr-plugins", "rates", "coupons", cwd=tmp_path).stdout
    assert [line.split(":")[0] for line in rates.splitlines()] == [
        "click_rate",
        "click_conversion_rate",
        "oracle_conversion_rate",
    ]
    options = ["architecture=cross_stitch", "own_share=0.8", "backbone=residual", "n_units=1", "weighting=geometric"]
    options += ["alpha=0.2", "metrics=[auc, pr_auc]", "valid_metric=cvr/click/pr_auc", "epochs=2", "embedding_size=4"]
    installed.run("cvr-plugins", "run", "-m", "CVIB", "-d", "coupons", "-o", "run", *options, cwd=tmp_path)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())["values"]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert (about["method"], about["plugin"]) == ("CVIB", "template")
    assert 0 < values["cvr/click/pr_auc"] < 1
    assert values["cvr/oracle/pr_auc"] is not None
    assert history["valid_metric"] == "cvr/click/pr_auc"
    assert set(history["epochs"][0]["losses"]) == {"ctr", "cvr", "contrast", "confidence"}
    assert set(history["epochs"][0]["factors"]) == {"ctr", "cvr"}

    installed.run("cvr-plugins", "export", "coupons", "new.csv", cwd=tmp_path)
    evaluated = installed.run("cvr-plugins", "evaluate", "run", "new.csv", "--json", cwd=tmp_path)
    assert "cvr/click/pr_auc" in evaluated.stdout
    installed.run("cvr-plugins", "predict", "run", "new.csv", "scored.csv", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "scored.csv").open()))
    assert len(rows) == 20_000
    assert all(0 < float(row["p_cvr"]) < 1 for row in rows)


@in_the_tutorial
def test_in_a_torch_rechub_script(installed, tmp_path):
    done = installed.python(str(SCRIPTS / "train.py"), cwd=tmp_path)
    assert len(re.findall(r"^\S+/pr_auc 0\.\d+$", done.stdout, re.MULTILINE)) == 5


@in_the_tutorial
def test_in_a_grid_and_its_report(installed, tmp_path):
    installed.run("cvr-plugins", "grid", "-c", str(SCRIPTS / "grid.yaml"), "-o", "results", cwd=tmp_path)
    report = installed.run("cvr-plugins", "report", "results", "--metric", "cvr/click/pr_auc", cwd=tmp_path).stdout
    assert "cvr/click/pr\\_auc ↑" in report


@needs_recbole
@pytest.mark.stock_recbole
@pytest.mark.skipif(int(np.__version__.split(".")[0]) > 1, reason="stock RecBole needs NumPy 1 (second run of CI)")
def test_in_stock_recbole(installed, tmp_path):
    environment = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = installed.python(str(SCRIPTS / "stock_recbole.py"), cwd=tmp_path, env=environment)
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("test {")]
    assert "'recall@10'" in shown


def test_uninstalled_it_is_gone(installed, before, tmp_path):
    installed.uninstall(DISTRIBUTION)
    try:
        assert files(installed.bin.parent) == before
        plugins = json.loads(installed.run("cvr-plugins", "plugins", "--json", cwd=tmp_path).stdout)
        assert [each["name"] for each in plugins] == ["builtin"]
        for arguments, message in (
            (["run", "-m", "CVIB", "-d", "ml-100k-funnel"], "Unknown method 'CVIB'"),
            (["run", "-m", "ESMM", "-d", "coupons"], "Unknown data set 'coupons'"),
            (["rates", "coupons"], "No such command 'rates'"),
        ):
            done = installed.run("cvr-plugins", *arguments, cwd=tmp_path, code=2)
            assert message in done.stderr
    finally:
        installed.install(installed.source)
