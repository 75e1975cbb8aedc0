"""Run folders: what a finished run leaves behind, and reading it back with checks."""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cvr_plugins.config import ConfigError, dump_yaml, load_yaml
from cvr_plugins.files import OutputError, whole_folder
from cvr_plugins.training.history import History
from cvr_plugins.training.results import RunResult
from cvr_plugins.wording import flat

FORMAT = 1
_UNSAFE = re.compile(r"[^\w.+-]+")
_PACKAGES = ("cvr-plugins", "torch", "torch-rechub", "recbole", "numpy", "pandas", "pyarrow", "scikit-learn")


class RunFolderError(ValueError):
    """A folder is not a run folder, or not one that this version can read."""


def default_name(model: str, dataset: str) -> str:
    """Return `MODEL-DATASET-YYYYmmdd-HHMMSS`, safe as a folder's name."""
    stem = f"{model}-{Path(dataset).resolve().name.split('.')[0]}"
    return f"{_UNSAFE.sub('.', stem)}-{datetime.now():%Y%m%d-%H%M%S}"


def unused(path: Path) -> Path:
    """Return `path`, with a number behind its name if it exists."""
    candidate, n = path, 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return candidate


def new_folder(place: str | Path, model: str, dataset: str) -> Path:
    """Return a path in `place` that nothing has, named after model, data set and time."""
    return unused(Path(place) / default_name(model, dataset))


def settings_of(folder: str | Path) -> dict[str, Any]:
    """Return the configuration of a run folder, or of what is left of a run that was cut off.

    Raises
    ------
    ConfigError
        If it has none, or one that cannot be read.
    """
    file = Path(folder) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no config.yaml.")
    return load_yaml(file)


def write_json(path: Path, value: Any) -> None:
    """Write JSON; a number that is not finite becomes null, since JSON has none, and a run is not lost to one."""
    text = json.dumps(_finite(value), indent=2, allow_nan=False, ensure_ascii=False, default=float)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Write YAML in the order given, readable by `load_yaml`."""
    path.write_text(dump_yaml(value), encoding="utf-8")


def versions() -> dict[str, str | None]:
    """Return package -> installed version, None where it is not installed, and Python's."""
    return {"python": platform.python_version(), **{package: _version(package) for package in _PACKAGES}}


def write(
    result: RunResult, about: Mapping[str, Any], settings: Mapping[str, Any], also: Callable[[Path], None]
) -> RunResult:
    """Write the run folder of a finished run, whole or not at all.

    Parameters
    ----------
    result
        What the run found. Its `folder` is the one to be written: with a number behind its name if that has been taken
        meanwhile, so that what was trained is not lost.
    about
        What run.json says beside the format: framework, method, plugin, parameters.
    settings
        The keys of config.yaml, from which the run can be repeated.
    also
        Writes what is a framework's own, the weights among it, into the folder that it is given.

    Returns
    -------
    RunResult
        The result, with the folder and the checkpoint where they are now.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    assert result.folder is not None
    assert result.checkpoint is not None
    folder = unused(result.folder)
    with whole_folder(folder) as aside:
        _write_shared(aside, about, settings, result.history.to_dict())
        write_json(aside / "metrics.json", result.metrics())
        if result.reliability:
            curves = {name: curve.to_dict() for name, curve in result.reliability.items()}
            write_json(aside / "calibration.json", {"part": "test", "curves": curves})
        also(aside)
    return replace(result, folder=folder, checkpoint=folder / result.checkpoint.name)


def write_failed(
    folder: Path,
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    history: History,
    error: BaseException,
    checkpoints: Iterable[Path] = (),
) -> Path | None:
    """Write a run folder of what was done before an error, with the error and its traceback in run.json.

    `RunFolder.open` then says why there is no more.

    Parameters
    ----------
    folder
        Where; with a number behind its name if that has been taken meanwhile.
    about, settings
        As in `write`.
    history
        Of the epochs until then.
    error
        What ended the run.
    checkpoints
        Files to copy into it, from which training can be taken up.

    Returns
    -------
    Path or None
        The folder, None if it cannot be written: the error that is being told must not be lost to a full disk.
    """
    folder = unused(folder)
    about = {**about, "error": flat(error), "traceback": "".join(traceback.format_exception(error))}
    try:
        with whole_folder(folder) as aside:
            _write_shared(aside, about, settings, {**history.to_dict(), "stopped": "error"})
            for file in checkpoints:
                shutil.copyfile(file, aside / file.name)
    except OutputError:
        return None
    return folder


def _write_shared(
    folder: Path, about: Mapping[str, Any], settings: Mapping[str, Any], history: Mapping[str, Any]
) -> None:
    write_json(folder / "run.json", {"format": FORMAT, **about})
    write_yaml(folder / "config.yaml", settings)
    write_json(folder / "history.json", history)
    write_json(folder / "versions.json", versions())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Of every run: run.json: format, framework, method, plugin, number of parameters; config.yaml: the configuration with
    every option, from which the run can be repeated; history.json: `History.to_dict`; versions.json: of the packages.
    Of a finished one: metrics.json: `RunResult.metrics`; calibration.json, of a CVR method: reliability curves; its
    weights, checkpoint.pt (torch-rechub) or checkpoint.pth (RecBole); on the torch-rechub side schema.json and
    vocabulary.json: how a log becomes features.
    Of one that failed in training: `error` and `traceback` in run.json and, where training can be taken up (RecBole's
    can, after a whole epoch), the checkpoints that it is taken up from.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return the run folder at `path`. Raises RunFolderError if it is none, has another format, or failed."""
        folder = cls(Path(path))
        if not (folder.path / "run.json").is_file():
            raise RunFolderError(f"{path} is not a run folder: it has no run.json. 'cvr-plugins run' writes one.")
        found = folder.about.get("format")
        if found != FORMAT:
            raise RunFolderError(
                f"{path} has the run folder format {found!r}; this version of cvr-plugins reads {FORMAT}. "
                "Use the version in its versions.json."
            )
        if "error" in folder.about:
            raise RunFolderError(f"{path} is a run that failed, so no model was finished: {folder.about['error']}")
        return folder

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says: format, framework, method and its plugin. Raises RunFolderError."""
        about = self.read_json("run.json")
        if not isinstance(about, dict):
            raise RunFolderError(f"{self.path / 'run.json'} holds no mapping. The run folder is damaged.")
        return about

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file of the folder. Raises RunFolderError if it is missing or broken."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunFolderError(f"{self.path / name} cannot be read: {reason}. The run folder is damaged.") from error

    @property
    def checkpoint(self) -> Path:
        """The weights' file."""
        return self.path / "checkpoint.pt"
