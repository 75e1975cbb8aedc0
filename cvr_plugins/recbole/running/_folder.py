"""The run folder of a RecBole run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import names
from cvr_plugins.recbole.evaluation.names import is_of_sessions
from cvr_plugins.recbole.running._yaml import read_yaml
from cvr_plugins.recbole.running.config import Config, to_dict
from cvr_plugins.training import run_folder

if TYPE_CHECKING:
    from cvr_plugins.recbole.running.runner import RunResult

FRAMEWORK = "recbole"
CHECKPOINT = "checkpoint.pth"


def configuration(path: Path) -> Config:
    """Return the configuration of a run folder, or of what is left of a run that was cut off."""
    file = path / "config.yaml"
    if not file.is_file():
        raise ConfigError(
            f"{str(path)!r} is not the folder of a run: it has no config.yaml; give the configuration, too."
        )
    return Config(config_dict=given(file))


def given(file: Path) -> dict[str, Any]:
    """Return the keys in a run folder's config.yaml."""
    return {key: value for key, value in read_yaml(file).items() if key != "framework"}


def written(config: Any) -> dict[str, Any]:
    """Return what stands in a run folder's config.yaml, from which the run can be repeated."""
    return {"framework": FRAMEWORK, **to_dict(config)}


def copied(checkpoint: Path, work: Path) -> Path:
    """Copy a checkpoint and the one after its last epoch, if there is any, and return the copy."""
    stem, suffix = os.path.splitext(checkpoint.name)
    own_stem, own_suffix = os.path.splitext(CHECKPOINT)
    for infix in ("", ".last"):
        file = checkpoint.with_name(f"{stem}{infix}{suffix}")
        if file.is_file():
            shutil.copyfile(file, work / f"{own_stem}{infix}{own_suffix}")
    return work / CHECKPOINT


def write(folder: Path, work: Path, trainer: Any, data: Any, result: RunResult) -> None:
    """Write the files of a finished run; checkpoints and the log come from the folder it has worked in."""
    config = result.config
    owner = next((each.owner for each in names.available() if each.key == config["model"]), None)
    about = {
        "format": run_folder.FORMAT,
        "framework": FRAMEWORK,
        "method": config["model"],
        "plugin": owner,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }
    epochs = {
        "stopped": result.stopped,
        "valid_metric": config["valid_metric"],
        "best_epoch": result.best_epoch,
        "best_value": result.best_valid_score,
        "epochs": [dict(record) for record in result.history],
    }
    run_folder.write_json(folder / "run.json", about)
    run_folder.write_yaml(folder / "config.yaml", written(config))
    run_folder.write_json(folder / "metrics.json", metrics(data, result))
    run_folder.write_json(folder / "history.json", epochs)
    run_folder.write_json(folder / "versions.json", run_folder.versions())
    for file in sorted(work.iterdir()):
        if file.name not in ("config.yaml", "run.log") and file.is_file():
            shutil.copyfile(file, folder / file.name)


def metrics(data: Any, result: RunResult) -> dict[str, Any]:
    """Return what stands in metrics.json: values by names that tell their space or protocol, and sizes of the data."""
    config = result.config
    dataset, *loaders = data
    report = result.report
    shown = {"values": named(result.test_result, config)} if report is None else report.to_dict()
    return {
        "part": "test",
        **shown,
        "valid": named(result.best_valid_result, config),
        "protocol": config["eval_args"],
        "data": {
            "users": dataset.user_num - 1 if dataset.uid_field else None,
            "items": dataset.item_num - 1 if dataset.iid_field else None,
            "interactions": dataset.inter_num,
            **{name: len(loader._dataset) for name, loader in zip(("train", "valid", "test"), loaders, strict=True)},
        },
    }


def named(result: Any, config: Any) -> dict[str, Any] | None:
    """Return a result of RecBole's with names that tell the protocol: `full/ndcg@10`, `uni100/mrr@5`, `labeled/auc`.

    Names of metrics of sessions and of tasks tell it themselves.
    """
    if result is None:
        return None
    mode = config["eval_args"]["mode"]["test"]
    return {key if "/" in key or is_of_sessions(key) else f"{mode}/{key}": value for key, value in result.items()}
