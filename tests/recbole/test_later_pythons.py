"""Python 3.12 and later: what this package requires can be had there without RecBole, and RecBole's needs with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from cvr_plugins.recbole.compat import messages

ROOT = Path(__file__).parents[2]
EXTRA = "recbole-needs"

PIP_ON_A_LATER_PYTHON = """
import sys
from pip._vendor.packaging import markers

# pip takes --python-version for wheels, and markers such as python_version < '3.12' from the Python it runs on.
python = sys.argv[1]
here = markers.default_environment
later = {"python_version": python, "python_full_version": f"{python}.0"}
# Of no platform, so that torch asks for none of the CUDA libraries, whose index pages take longer than all the rest.
markers.default_environment = lambda: {**here(), **later, "platform_system": "", "sys_platform": ""}

from pip._internal.cli.main import main

sys.exit(main(["install", "--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check",
               "--only-binary=:all:", "--python-version", python, *sys.argv[2:]]))
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", requirement).group()) for requirement in requirements}


def test_the_extra_lists_all_that_recbole_asks_for_but_ray():
    tomllib = pytest.importorskip("tomllib")
    try:
        theirs = names([each for each in requires("recbole") if "extra ==" not in each])
    except PackageNotFoundError:
        pytest.skip("RecBole is not installed")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours, extra = names(project["dependencies"]), names(project["optional-dependencies"][EXTRA])
    assert theirs <= {"ray"} | ours | extra
    assert "ray" not in ours | extra
    assert set(messages._NEEDED) <= theirs, "what is asked after where RecBole was installed without its needs"
    assert not extra & ours, "what the package itself requires"
    assert extra - theirs == {"setuptools"}, "beyond RecBole's own list, for the distutils that thop imports"


@pytest.mark.slow
def test_the_requirements_resolve(tmp_path):
    python, report = "3.13", tmp_path / "report.json"
    command = [sys.executable, "-c", PIP_ON_A_LATER_PYTHON, python, "--target", str(tmp_path / "unused")]
    command += ["--report", str(report), "-c", str(ROOT / "constraints.txt"), f"{ROOT}[{EXTRA}]"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index is too slow")
    if done.returncode and re.search(r"NewConnectionError|ConnectTimeout|ProxyError|NameResolutionError", done.stderr):
        pytest.skip("there is no package index")
    if "No module named pip" in done.stderr:
        pytest.skip("there is no pip")
    assert done.returncode == 0, done.stderr
    found = {normal(each["metadata"]["name"]) for each in json.loads(report.read_text())["install"]}
    assert {"torch", "torch-rechub", "numpy", "pandas", "scikit-learn", "thop", "texttable", "setuptools"} <= found
    assert not {"recbole", "ray"} & found
