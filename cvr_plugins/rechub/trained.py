"""A finished run, read back from its folder, ready to score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cvr_plugins.assembly import OptionError
from cvr_plugins.config import Config, ConfigError, load_yaml, resolve
from cvr_plugins.data import DataError, Schema, Vocabulary
from cvr_plugins.plugins import RegistryError
from cvr_plugins.plugins.blame import blamed
from cvr_plugins.rechub.batches import TensorLoader
from cvr_plugins.rechub.build import build_model
from cvr_plugins.rechub.models import RechubModel
from cvr_plugins.rechub.plan import usable_device
from cvr_plugins.training.checkpoint import load_checkpoint
from cvr_plugins.training.process import torch_seed, torch_threads
from cvr_plugins.training.run_folder import RunFolder, RunFolderError
from cvr_plugins.wording import first_line


@dataclass(frozen=True)
class TrainedRun:
    """A finished run ready to score: its configuration, columns, vocabulary, trained model, and where it computes."""

    config: Config
    schema: Schema
    vocabulary: Vocabulary
    model: RechubModel
    device: torch.device

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", verify: bool = True) -> TrainedRun:
        """Read a run folder.

        Parameters
        ----------
        path
            The folder.
        device
            Where the model is put, whatever it was trained on.
        verify
            Whether the files are checked against the hashes of `manifest.json`.

        Raises
        ------
        RunFolderError
            If it is none, its files are damaged, changed or do not fit together, or its method is not installed.
        ConfigError
            If the device cannot be used.
        """
        where = usable_device(device)
        folder = RunFolder.open(path, verify=verify)
        schema_values, vocabulary_values = folder.read_json("schema.json"), folder.read_json("vocabulary.json")
        try:
            # By the qualified name: the plain one may belong to another plugin by now.
            method = {"model": f"{folder.about['plugin']}:{folder.about['method']}"}
            config = resolve(load_yaml(folder.file("config.yaml")), method)
            schema, vocabulary = Schema.from_dict(schema_values), Vocabulary.from_dict(vocabulary_values)
            if schema.features != vocabulary.features:
                raise DataError("Its schema and its vocabulary have different features.")
            # Weights are drawn and replaced; the caller's random numbers stay what they were.
            with torch_seed(0, torch.device("cpu")):
                model = build_model(config, schema, vocabulary)
        except (ConfigError, OptionError, DataError, RegistryError) as error:
            raise RunFolderError(f"The run in {path} cannot be used here: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(f"The run in {path} is damaged: {type(error).__name__}: {error}.") from error
        _load_weights(model, folder.file("checkpoint.pt"))
        return cls(config, schema, vocabulary, model.to(where).eval(), where)

    def score(self, frame: pd.DataFrame) -> tuple[np.ndarray, dict[str, int]]:
        """Return probabilities `[N, n_task]`, float32, and column -> how many of its tokens are unknown.

        frame: with the feature columns, as `RawLog.batches` or `FunnelLog` give them. Raises DataError if one is
        missing or holds what it cannot hold.
        """
        encoded = self.vocabulary.transform(frame)
        if not len(encoded):
            return np.empty((0, len(self.model.tasks)), np.float32), dict(encoded.unknown)
        loader = TensorLoader.from_encoded(encoded, {}, batch_size=self.config["eval_batch_size"], device=self.device)
        whose = blamed(self.model.method.name, self.model.plugin, "prediction", RunFolderError)
        with torch_threads(self.config["threads"]), torch.no_grad(), whose:
            scores = [self.model(x).cpu().numpy() for x, _ in loader.in_order()]
        return np.concatenate(scores), dict(encoded.unknown)

    @property
    def columns(self) -> list[str]:
        """The columns a log must have to be scored."""
        return [feature.name for feature in self.schema.features]


def _load_weights(model: RechubModel, checkpoint: Path) -> None:
    try:
        model.load_state_dict(load_checkpoint(checkpoint, framework="torch-rechub")["state_dict"])
    # Weights of another kind raise what they like.
    except Exception as error:
        raise RunFolderError(f"{checkpoint} does not hold this run's weights: {first_line(error)}.") from error
