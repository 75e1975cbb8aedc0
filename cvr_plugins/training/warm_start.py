"""A new run that starts from the weights of another one: known tokens keep their embeddings, new ones are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cvr_plugins.config import ConfigError
from cvr_plugins.contracts import Method
from cvr_plugins.model import CVRModel
from cvr_plugins.training.checkpoint import load_checkpoint
from cvr_plugins.training.run_folder import RunFolder, RunFolderError, settings_of

VOCABULARY = "vocabulary.json"
_TABLE = re.compile(r"(?:encoder|architecture)\.(?:own_)?tables\.(\d+)\.")
_PARTS = ("architecture", "backbone")
_STATE = ("objective", "weighting")


@dataclass(frozen=True)
class Start:
    """A run whose weights another one starts from; its folder is read, checked by its manifest, and left as it is.

    Parameters
    ----------
    folder
        Of the run, finished or interrupted.
    about, settings, vocabulary
        Its run.json, config.yaml and vocabulary.json.
    weights
        Of its best epoch, by name.
    """

    folder: Path
    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: str | Path, *, framework: str, checkpoint: str, prefix: str = "") -> Start:
        """Read a run folder.

        Parameters
        ----------
        path
            The folder.
        framework
            The side that the new run is of.
        checkpoint
            The name that this side gives the file of weights.
        prefix
            What it puts before the names of the model's weights.

        Raises
        ------
        RunFolderError
            If it is none, not finished, damaged or of the other side.
        CheckpointError
            If its weights cannot be read safely.
        """
        folder = RunFolder.open(path)
        about = folder.about
        if about.get("framework") != framework:
            raise RunFolderError(
                f"{path} is a run of {about.get('framework')}; one of {framework} starts from the weights of its own."
            )
        if not (folder.path / VOCABULARY).is_file():
            raise RunFolderError(
                f"{path} has no {VOCABULARY}, which says whose each embedding is: only runs of this version on can be "
                "started from. Train it again, or leave the weights out."
            )
        stored = load_checkpoint(folder.file(checkpoint), framework=framework)["state_dict"]
        weights = {name.removeprefix(prefix): value for name, value in stored.items()}
        settings = settings_of(path)
        return cls(Path(path), about, settings, folder.read_json(VOCABULARY), weights)

    def check_method(self, method: Method, plugin: str, settings: Mapping[str, Any]) -> None:
        """Refuse another method, architecture or backbone than the run had.

        Parameters
        ----------
        method, plugin
            Of the new run.
        settings
            Its options and the names of its parts.

        Raises
        ------
        ConfigError
            Naming the first difference.
        """
        before = (self.about.get("method"), self.about.get("plugin"))
        if before != (method.name, plugin):
            raise self._refusal(f"it trained {before[1]}:{before[0]}, not {plugin}:{method.name}")
        for part in _PARTS:
            had = self.settings.get(part) or getattr(method, part)
            if had != settings[part]:
                raise self._refusal(f"its {part} was {had!r}, not {settings[part]!r}")

    def give(
        self, model: CVRModel, vocabulary: Mapping[str, Any], settings: Mapping[str, Any], *, reserved: int
    ) -> str:
        """Give a new model the run's weights.

        A token that the run knew keeps its embedding, those of new ones stay as they were drawn, tokens that are gone
        are dropped. All else is taken over: layers, the state of objective and weighting, and the mean and standard
        deviation that `dense: tanh` divides by, since the layers behind were trained on values so scaled (the new
        data's own stand in the vocabulary). Rows that an objective remembers are not: their ids are the run's.

        Parameters
        ----------
        model
            The model, of the method that the run had.
        vocabulary
            Of the new data: features, in the model's order, and tokens.
        settings
            As of `check_method`.
        reserved
            How many ids stand before those of the tokens.

        Returns
        -------
        str
            How many tokens of each feature are known, new and gone.

        Raises
        ------
        ConfigError
            Naming the first difference: of the features, or of an option that changes shapes.
        """
        self._check_features(vocabulary["features"])
        fresh = model.state_dict()
        forgotten = _forgotten(fresh, self.weights, {name for name, _ in model.named_parameters()})
        encoder: Any = model.encoder
        tables = [field.name for field in encoder.embedded if field.shared_with is None]
        rows = {name: _rows(self.vocabulary["tokens"][name], vocabulary["tokens"][name], reserved) for name in tables}
        given = dict(fresh)
        moved: set[str] = set()
        for name in dict.fromkeys([*fresh, *self.weights]):
            if _owner(name) in forgotten:
                continue
            new, old, table = fresh.get(name), self.weights.get(name), _TABLE.match(name)
            if new is None or old is None or new.shape[bool(table) :] != old.shape[bool(table) :]:
                raise self._refusal(self._difference(name, old, new, settings))
            if table:
                feature = tables[int(table[1])]
                moved.add(feature)
                to, since = rows[feature]
                given[name] = new.clone()
                given[name][torch.from_numpy(to)] = old[torch.from_numpy(since)].to(new)
            else:
                given[name] = old
        if len(moved) < len(tables):
            raise self._refusal(f"its architecture keeps the embeddings of {sorted({*tables} - moved)[0]!r} elsewhere")
        model.load_state_dict(given)
        counts = "; ".join(self._counted(name, vocabulary["tokens"][name], rows[name][0], reserved) for name in tables)
        anew = sorted(part for part in forgotten if part.partition(".")[0] not in forgotten - {part})
        emptied = f" Begun anew, since it is of the old rows: {', '.join(anew)}." if anew else ""
        return f"Starts from the weights of {self.folder}: tokens known, new, gone: {counts}.{emptied}"

    def _counted(self, name: str, tokens: Sequence[str], kept: np.ndarray, reserved: int) -> str:
        known = len(kept) - reserved
        return f"{name} {known}, {len(tokens) - known}, {len(self.vocabulary['tokens'][name]) - known}"

    def _check_features(self, features: Iterable[Mapping[str, Any]]) -> None:
        before, now = ({each["name"]: each for each in these} for these in (self.vocabulary["features"], features))
        for name in before:
            if name not in now:
                raise self._refusal(f"it saw the feature {name!r}, which there is not now")
        for name, each in now.items():
            if name not in before:
                raise self._refusal(f"it did not see the feature {name!r}; inputs or drop_columns leave it out")
            if before[name] != each:
                raise self._refusal(f"the feature {name!r} was {_said(before[name])}, not {_said(each)}")
        for old, new in zip(before, now, strict=True):
            if old != new:
                raise self._refusal(f"its features were in another order: {old!r} where {new!r} is now")

    def _difference(self, name: str, old: Tensor | None, new: Tensor | None, settings: Mapping[str, Any]) -> str:
        for option, value in settings.items():
            if option not in _PARTS and self.settings.get(option, value) != value:
                return f"its {option} was {self.settings[option]!r}, not {value!r}"
        shapes = ["none" if each is None else str(list(each.shape)) for each in (old, new)]
        return f"an option is another one: its {name} is {shapes[0]}, not {shapes[1]}"

    def _refusal(self, difference: str) -> ConfigError:
        return ConfigError(f"A run cannot start from the weights of {self.folder}: {difference}.")


def _rows(before: Sequence[str], now: Sequence[str], reserved: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the new rows of what was known, and the old rows of the same."""
    found = pd.Index(list(before), dtype=object).get_indexer(pd.Index(list(now), dtype=object))
    known, first = np.flatnonzero(found >= 0), np.arange(reserved)
    return np.append(first, known + reserved), np.append(first, found[known] + reserved)


def _forgotten(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor], parameters: set[str]) -> set[str]:
    """Return the parts of objective and weighting that hold rows or are made in training.

    Buffers alone, of other shapes than a new model's, or that a new model has not.
    """
    shapes: list[dict[str, dict[str, Any]]] = [{}, {}]
    for found, state in zip(shapes, (fresh, old), strict=True):
        for name, value in state.items():
            if name.startswith(_STATE):
                found.setdefault(_owner(name), {})[name] = value.shape
    new, before = shapes
    changed = {part for part in new if new[part] != before.get(part, new[part]) and not {*new[part]} & parameters}
    # What was made in training, as a copy of the network was, and what else was known when it was.
    made = {part for part in before if part not in new}
    return changed | made | {part.partition(".")[0] for part in made}


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _said(feature: Mapping[str, Any]) -> str:
    return " ".join(str(value) for key, value in feature.items() if key != "name")


def refuse_both(init_from: object, resume: object) -> None:
    """Raise ConfigError if a run is both to be gone on with and to be started from."""
    if init_from is not None and resume is not None:
        raise ConfigError("Give init_from for a new run or resume for one that was cut off, not both.")
