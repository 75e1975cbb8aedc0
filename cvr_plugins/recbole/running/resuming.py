"""Taking up a run of RecBole's: what is found in the folder that it worked in, and what may differ now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvr_plugins.recbole.compat.checkpoints import FRAMEWORK, both_of, load_checkpoint
from cvr_plugins.recbole.running.config import Config
from cvr_plugins.training.run_folder import settings_of
from cvr_plugins.training.working import MAY_CHANGE, check_same

CHECKPOINT = "checkpoint.pth"
LAST = both_of(CHECKPOINT)[1].name

_MAY_CHANGE = MAY_CHANGE | {
    "gpu_id",
    "use_gpu",
    "worker",
    "state",
    "log_wandb",
    "wandb_project",
    "dataset_save_path",
    "dataloaders_save_path",
}


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


def check_taken_up(config: Config, checkpoint: Path) -> None:
    """Raise ConfigError where the run that a checkpoint is of was configured as another training."""
    check_same(load_checkpoint(checkpoint, framework=FRAMEWORK)["config"], config.to_dict(), _MAY_CHANGE)
