"""Reading a finished run back: what it is then, and what is said of folders that are damaged, foreign or newer."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cvr_plugins.config import ConfigError, resolve
from cvr_plugins.logs import load_log
from cvr_plugins.rechub import TrainedRun, run
from cvr_plugins.training.manifest import seal
from cvr_plugins.training.run_folder import RunFolderError


@pytest.fixture
def folder(shop_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_run, tmp_path / "run"))


def test_a_run_is_read_back_without_disturbing_the_caller(shop, shop_run):
    before = torch.get_rng_state().clone()
    trained = TrainedRun.load(shop_run)
    assert torch.equal(torch.get_rng_state(), before)
    assert trained.columns == ["user_id", "item_id", "price", "tags", "hour"]
    assert trained.model.tasks == ("cvr", "ctr", "ctcvr")
    assert not trained.model.training
    scores, unknown = trained.score(load_log(resolve(shop.config)).frame)
    assert scores.shape == (600, 3)
    assert scores.dtype == np.float32
    assert np.allclose(scores[:, 2], scores[:, 0] * scores[:, 1])
    assert set(unknown) == {"user_id", "item_id", "tags", "hour"}


def test_batches_do_not_change_what_is_scored(shop, shop_run):
    trained = TrainedRun.load(shop_run)
    frame = load_log(resolve(shop.config)).frame
    whole, _ = trained.score(frame)
    single = np.concatenate([trained.score(frame.iloc[[row]])[0] for row in range(20)])
    np.testing.assert_allclose(single, whole[:20], rtol=2e-6)
    assert trained.score(frame.iloc[:0])[0].shape == (0, 3)


def _edit(name: str, change) -> object:
    def damage(folder: Path) -> None:
        path = folder / name
        if name.endswith(".json"):
            values = json.loads(path.read_text())
            path.write_text(json.dumps(change(values)))
        else:
            path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))

    return damage


DAMAGE = {
    "no configuration": (
        lambda f: (f / "config.yaml").unlink(),
        "config.yaml cannot be read: No such file",
    ),
    "broken configuration": (lambda f: (f / "config.yaml").write_text("a: [1"), "not valid YAML"),
    "unknown key": (_edit("config.yaml", lambda v: {**v, "epochz": 3}), "Unknown option 'epochz'"),
    "wrong value": (_edit("config.yaml", lambda v: {**v, "epochs": 0}), "epochs must be at least 1"),
    "no schema": (lambda f: (f / "schema.json").unlink(), "schema.json cannot be read: No such file or directory"),
    "broken schema": (lambda f: (f / "schema.json").write_text("{"), "schema.json cannot be read"),
    "schema of another kind": (_edit("schema.json", lambda v: [v]), "is damaged: AttributeError"),
    "incomplete schema": (_edit("schema.json", lambda v: {"user": "u"}), "The schema is incomplete"),
    "other schema": (_edit("schema.json", lambda v: {**v, "features": v["features"][:-1]}), "have different features"),
    "no vocabulary": (lambda f: (f / "vocabulary.json").unlink(), "vocabulary.json cannot be read"),
    "newer vocabulary": (_edit("vocabulary.json", lambda v: {**v, "version": 9}), "The vocabulary has version 9"),
    "vocabulary of another kind": (_edit("vocabulary.json", lambda v: 3), "is damaged: AttributeError"),
    "smaller vocabulary": (
        _edit("vocabulary.json", lambda v: {**v, "tokens": {**v["tokens"], "user_id": ["001"]}}),
        "checkpoint.pt does not hold this run's weights: Error.* in loading state_dict",
    ),
    "other architecture": (
        _edit("config.yaml", lambda v: {**v, "architecture": "shared_bottom"}),
        "does not hold this run's weights",
    ),
    "no method": (_edit("run.json", lambda v: {k: v[k] for k in v if k != "method"}), "is damaged: KeyError: 'method'"),
    "method not installed": (
        _edit("run.json", lambda v: {**v, "plugin": "acme", "method": "Mine"}),
        "cannot be used here: Unknown plugin 'acme' in 'acme:Mine'. 'cvr-plugins plugins' lists all",
    ),
    "newer format": (_edit("run.json", lambda v: {**v, "format": 99}), "has the run folder format 99; this version"),
    "no weights": (lambda f: (f / "checkpoint.pt").unlink(), "checkpoint.pt cannot be read: No such file or directory"),
    "empty weights": (lambda f: (f / "checkpoint.pt").write_bytes(b""), "does not hold this run's weights"),
    "cut weights": (
        lambda f: (f / "checkpoint.pt").write_bytes((f / "checkpoint.pt").read_bytes()[:1000]),
        "does not hold this run's weights",
    ),
    "weights of another kind": (lambda f: torch.save([1, 2], f / "checkpoint.pt"), "does not hold this run's weights"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_folder_that_cannot_be_used_is_refused_on_one_line(case: str, folder: Path):
    damage, message = DAMAGE[case]
    damage(folder)
    # So that what is in the files is judged, and not that it is another than was written.
    seal(folder)
    with pytest.raises(RunFolderError, match=message) as caught:
        TrainedRun.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


class Malice:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return exec, (f"open({self.mark!r}, 'w').close()",)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(folder: Path, tmp_path: Path):
    torch.save({"weight": Malice(str(tmp_path / "ran"))}, folder / "checkpoint.pt")
    seal(folder)
    with pytest.raises(RunFolderError, match="does not hold this run's weights"):
        TrainedRun.load(folder)
    (folder / "checkpoint.pt").write_bytes(pickle.dumps(Malice(str(tmp_path / "ran"))))
    seal(folder)
    with pytest.raises(RunFolderError, match="does not hold this run's weights"):
        TrainedRun.load(folder)
    assert not (tmp_path / "ran").exists()


def test_the_device_is_checked(shop_run: Path):
    with pytest.raises(ConfigError, match="The device 'nowhere' cannot be used here"):
        TrainedRun.load(shop_run, device="nowhere")
    assert TrainedRun.load(shop_run, device="auto").device.type in ("cpu", "cuda")


def test_a_plugins_method_is_found_again_by_its_owner(plugin, method_source, shop, tmp_path):
    plugin("acme", method_source(name="Mine", plugin="acme"))
    result = run({**shop.config, "model": "Mine"}, folder=tmp_path / "run")
    assert json.loads((result.folder / "run.json").read_text())["plugin"] == "acme"
    # Now that another plugin uses the name, the plain one is nobody's.
    plugin("zeta", method_source(name="Mine", plugin="zeta"))
    with pytest.warns(UserWarning, match="'Mine' is used by"):
        trained = TrainedRun.load(result.folder)
    assert trained.model.plugin == "acme"
