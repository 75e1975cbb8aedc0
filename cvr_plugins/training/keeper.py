"""Writing what a training is taken up from, after each epoch and now and then within one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cvr_plugins.files import OutputError, TargetError
from cvr_plugins.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from cvr_plugins.training.working import check_same


class Keeper:
    """The checkpoint that a training is taken up from.

    Parameters
    ----------
    path
        The file.
    content
        What it says beside the training's state: framework, model, plugin, config, and what the training was given.
    minutes
        How long a training within an epoch goes on without being written.

    Raises
    ------
    CheckpointError
        If the file is there and cannot be read safely, or is of a training with another model or other data.
    ConfigError
        If it is of a training with another configuration.
    """

    def __init__(self, path: Path, content: Mapping[str, Any], *, minutes: float) -> None:
        self.path, self._content, self._seconds = path, dict(content), 60 * minutes
        self.found: dict[str, Any] | None = None
        self._written = time.monotonic()
        if path.is_file():
            self.found = load_checkpoint(path, framework=content["framework"])
            for key in ("model", "plugin", "data"):
                if self.found.get(key) != content.get(key):
                    raise CheckpointError(f"{path} is of a training with another {key}; it cannot be gone on with.")
            # The configuration beside it may have been edited since.
            check_same(self.found["config"], content["config"])

    @property
    def due(self) -> bool:
        """Whether it is time to write within an epoch."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, state_dict: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all.

        Parameters
        ----------
        state_dict
            The model's weights as they are now.
        training
            All else that the training goes on from.

        Raises
        ------
        OutputError
            If it cannot be written; the one before it stays.
        """
        try:
            save_checkpoint(self.path, {**self._content, "state_dict": dict(state_dict), "training": dict(training)})
        except OutputError as error:
            raise OutputError(
                f"{error} Training ends here; 'cvr-plugins run --resume {self.path.parent}' goes on from the "
                "checkpoint before, once there is space."
            ) from error
        self._written = time.monotonic()


def check_space(folder: Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """See before training that a checkpoint of such weights, their best and two moments of each can be written.

    Parameters
    ----------
    folder
        Where.
    state_dict
        The weights.

    Raises
    ------
    TargetError
        If there is no space for it.
    """
    size = 4 * sum(each.numel() * each.element_size() for each in state_dict.values() if isinstance(each, torch.Tensor))
    trial = folder / ".space"
    try:
        with trial.open("wb") as file:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise TargetError(
            f"There is no space for a checkpoint of about {size / 2**20:,.0f} MB in {str(folder)!r}: "
            f"{error.strerror or error}."
        ) from error
    finally:
        trial.unlink(missing_ok=True)
