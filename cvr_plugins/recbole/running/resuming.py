"""Taking up a run: the folder that a run works in, what is found in it, and what may differ the second time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import ConfigError
from cvr_plugins.files import check_new
from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK, both_of, load_checkpoint
from cvr_plugins.recbole.running.config import Config
from cvr_plugins.training.run_folder import settings_of, write_yaml

CHECKPOINT = "checkpoint.pth"
LAST = both_of(CHECKPOINT)[1].name

_MAY_CHANGE = frozenset(
    [
        "epochs",
        "stopping_step",
        "checkpoint_dir",
        "data_path",
        "dataset",
        "device",
        "gpu_id",
        "use_gpu",
        "worker",
        "framework",
        "threads",
        "show_progress",
        "state",
        "log_wandb",
        "wandb_project",
        "dataset_save_path",
        "dataloaders_save_path",
    ]
)
"""Keys that may differ where training is taken up: the training so far would not have been another."""


def work_folder(out: Path) -> Path:
    """Return the folder beside `out` that is worked in until all is done."""
    return out.with_name(f"{out.name}.unfinished")


def free_work_folder(out: Path) -> Path:
    """Return the folder that a run into `out` is to work in.

    Raises
    ------
    ConfigError
        If it is there already.
    TargetError
        If `out` is, or cannot be written.
    """
    check_new(out)
    work = work_folder(out)
    if work.exists():
        raise ConfigError(
            f"{str(work)!r} is left of a run that was cut off; resume it into another folder, or remove it, or name "
            "another place."
        )
    return work


def begin(work: Path, config: RecBoleConfig, resume: Path | None) -> Path | None:
    """Make the folder that a run works in, so that a run that is cut off can be taken up from there.

    Parameters
    ----------
    work
        The folder.
    config
        Written into it.
    resume
        A checkpoint to be taken up, None for a new training; copied into the folder with the one after its last epoch.

    Returns
    -------
    Path or None
        The copy of the checkpoint, None without one.
    """
    work.mkdir(parents=True)
    write_yaml(work / "config.yaml", settings(config))
    if resume is None:
        return None
    for file, name in zip(both_of(resume), (CHECKPOINT, LAST), strict=True):
        if file.is_file():
            shutil.copyfile(file, work / name)
    return checkpoint_of(work)


def settings(config: Any) -> dict[str, Any]:
    """Return what stands in a run folder's config.yaml, from which the run can be repeated."""
    return {"framework": FRAMEWORK, **config.to_dict()}


def configuration(folder: Path) -> Config:
    """Return the configuration of a run folder, or of what is left of a run that was cut off."""
    return Config.from_dict({key: value for key, value in settings_of(folder).items() if key != "framework"})


def checkpoint_of(path: str | Path) -> Path:
    """Return the checkpoint that is meant by its own path or by that of a folder.

    A run that was cut off before an epoch was validated has the last epoch's alone.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    return path / LAST if not (path / CHECKPOINT).is_file() and (path / LAST).is_file() else path / CHECKPOINT


def check_same(config: Config, checkpoint: Path) -> None:
    """Raise ConfigError where the run that a checkpoint is of was configured as another training."""
    before, now = load_checkpoint(checkpoint, framework=FRAMEWORK)["config"], config.to_dict()
    for key in sorted({*before, *now} - _MAY_CHANGE, key=lambda key: (key != "model", key)):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"The run to be resumed had {key}: {before.get(key)!r}, and now it is {now.get(key)!r}; "
                "only epochs, stopping_step and where things are may change."
            )


def resumable(folder: Path) -> str:
    """Return the sentence that says how training is taken up from what is in a folder."""
    return f"{folder} holds what was trained before that: 'cvr-plugins run --resume {folder}' goes on from there."
