"""Run folders: what a finished run leaves behind, and reading it back with checks."""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cvr_plugins.config import dump_yaml
from cvr_plugins.files import OutputError, whole_folder

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


def write_failed(
    folder: Path,
    about: Mapping[str, Any],
    config: Mapping[str, Any],
    history: Mapping[str, Any],
    error: BaseException,
    checkpoints: Iterable[Path] = (),
) -> Path | None:
    """Write a run folder of what was done before `error`; return where, None if it cannot be written.

    Of a run folder's files it has run.json, with the error and its traceback, config.yaml, history.json and
    versions.json, so that `RunFolder.open` says why there is no more. about: of run.json: framework, method, plugin;
    checkpoints: files to copy into it, from which training can be taken up.
    """
    told = {
        "format": FORMAT,
        **about,
        "error": " ".join(str(error).split()),
        "traceback": "".join(traceback.format_exception(error)),
    }
    try:
        with whole_folder(folder) as aside:
            write_json(aside / "run.json", told)
            write_yaml(aside / "config.yaml", config)
            write_json(aside / "history.json", history)
            write_json(aside / "versions.json", versions())
            for file in checkpoints:
                shutil.copyfile(file, aside / file.name)
    except OutputError:
        # The error that is being told must not be lost to a full disk.
        return None
    return folder


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class RunFolder:
    """The files of a finished run.

    run.json: format, framework, method, plugin, number of parameters; config.yaml: the configuration with every option,
    from which the run can be repeated; schema.json, vocabulary.json: how a log becomes features; metrics.json: report
    on the test part, summaries of the data; calibration.json: reliability curves; history.json: losses and validation
    metrics by epoch; versions.json: of the packages; checkpoint.pt: weights, on the CPU. Of a run that failed in
    training there are run.json, with `error` and `traceback`, config.yaml, history.json and versions.json, and where
    training can be taken up (RecBole's can, after a whole epoch) the checkpoints that it is taken up from.
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
