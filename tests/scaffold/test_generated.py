"""What `cvr-plugins new` writes passes its own tests, which notice a mistake, the linter and the formatter."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cvr_plugins.scaffold import KINDS, LONGEST, write_distribution

ROOT = Path(__file__).resolve().parents[2]
OURS_ALONE = "D,S"
"""Rules that this repository, too, does not apply to tests and examples."""
MISTAKES = {
    "method": ("objective.py", "self.cvr_weight * masked_mean(", "1 - self.cvr_weight * masked_mean("),
    "architecture": ("architecture.py", "for head in heads for p in self.logits[head]", "for p in self.logits"),
    "backbone": ("backbone.py", "torch.tanh(self.value(x))", "torch.tanh(self.value(x) - x.mean())"),
    "recbole-model": ("model.py", ".gather(1, interaction", ".gather(1, 0 * interaction"),
    "dataset": ("data.py", "default_rng(seed)", "default_rng()"),
}
"""Kind -> module, and a line of it with a mistake: a loss turned round, a head's parameters that are all heads',
statistics of the batch in a prediction, one item's score for all, draws without a seed."""


@pytest.fixture(scope="module")
def generated(plugin_environment, tmp_path_factory):
    """A folder with a new distribution of each kind, all of which are installed meanwhile."""
    folder = tmp_path_factory.mktemp("generated")
    names = [f"acme-{kind}" for kind in KINDS]
    for name, kind in zip(names, KINDS, strict=True):
        write_distribution(name, kind=kind, folder=folder / name)
    plugin_environment.install(*(folder / name for name in names))
    listed = plugin_environment.run("cvr-plugins", "plugins", "--json", cwd=folder).stdout
    yield folder, {each["name"]: each for each in json.loads(listed)}
    plugin_environment.uninstall(*names)
    assert "acme-" not in plugin_environment.run("cvr-plugins", "plugins", cwd=folder).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_distribution_passes_its_own_tests_once_installed_and_fails_them_with_a_mistake(
    kind, plugin_environment, generated
):
    if kind == "recbole-model":
        pytest.importorskip("recbole")
    folder, listed = generated[0] / f"acme-{kind}", generated[1]
    assert (listed[folder.name]["version"], listed[folder.name]["status"]) == ("0.1.0", "ok")
    done = plugin_environment.run("pytest", "-q", "-o", "addopts=", cwd=folder)
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
    file, right, wrong = MISTAKES[kind]
    module = folder / folder.name.replace("-", "_") / file
    assert module.read_text().count(right) == 1
    module.write_text(module.read_text().replace(right, wrong))
    # The source as it stands now, and not the one that was installed.
    changed = ["-o", "addopts=", "-o", "pythonpath=."]
    done = plugin_environment.run("pytest", "-q", "-x", *changed, cwd=folder, code=1)
    assert "1 failed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_clean_to_the_linter_whatever_its_name(kind, tmp_path):
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is None:
        pytest.skip("ruff is of the dev extra")
    ours = ["--config", str(ROOT / "pyproject.toml"), "--ignore", OURS_ALONE]
    for name in ("x", "my-cvr-plugin", "long" * (LONGEST // 4)):
        folder = write_distribution(name, kind=kind, folder=tmp_path / name).folder
        for arguments in (["check"], ["check", *ours], ["format", "--check"]):
            command = [ruff, *arguments, "--no-cache", "."]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
