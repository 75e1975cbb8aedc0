"""Run folders: what a finished run leaves behind, and reading it back with checks."""

from __future__ import annotations

import itertools
import json
import math
import platform
import re
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cvr_plugins.config import ConfigError, dump_yaml, load_yaml
from cvr_plugins.files import TargetError, put_in_place
from cvr_plugins.training import manifest
from cvr_plugins.training.history import History
from cvr_plugins.training.manifest import RunFolderError
from cvr_plugins.training.results import RunResult
from cvr_plugins.training.working import SETTINGS, SUFFIX, WorkFolder, work_folder
from cvr_plugins.wording import flat

FORMAT = 1
_UNSAFE = re.compile(r"[^\w.+-]+")
_PACKAGES = ("cvr-plugins", "torch", "torch-rechub", "recbole", "numpy", "pandas", "pyarrow", "scikit-learn")


def default_name(model: str, dataset: str) -> str:
    """Return `MODEL-DATASET-YYYYmmdd-HHMMSS`, safe as a folder's name."""
    stem = f"{model}-{Path(dataset).resolve().name.split('.')[0]}"
    return f"{_UNSAFE.sub('.', stem)}-{datetime.now():%Y%m%d-%H%M%S}"


def new_names(place: str | Path, model: str, dataset: str) -> Iterator[Path]:
    """Return paths in `place` named after model, data set and time, each but the first with a number behind it."""
    first = Path(place) / default_name(model, dataset)
    return (first.with_name(f"{first.name}-{n}") if n > 1 else first for n in itertools.count(1))


def settings_of(folder: str | Path) -> dict[str, Any]:
    """Return the configuration of a run folder, or of what is left of a run that was cut off.

    Raises
    ------
    ConfigError
        If it has none, or one that cannot be read.
    RunFolderError
        If it is not what was written, of a folder that is sealed.
    """
    file = Path(folder) / SETTINGS
    if not file.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no config.yaml.")
    if (Path(folder) / manifest.NAME).is_file():
        manifest.check(file)
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


def begin(work: WorkFolder, about: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write into the folder that a run works in what it is, so that it can be taken up.

    Parameters
    ----------
    work
        The folder.
    about
        What run.json says beside the format: framework, method, plugin, parameters.
    settings
        The keys of config.yaml, from which the run can be repeated.

    Raises
    ------
    TargetError
        If it cannot be written: the disk is full, or a text is none that UTF-8 can hold.
    """
    try:
        _write_shared(work.path, about, settings, History().to_dict())
    except (OSError, UnicodeEncodeError) as error:
        raise TargetError(f"Cannot write to {str(work.path)!r}: {flat(error)}.") from error


def started(work: WorkFolder) -> dict[str, str]:
    """Return what the run.json of a run that is taken up says of the weights that it started from, by its key."""
    file = work.path / "run.json"
    about = RunFolder(work.path, verify=False).read_json(file.name) if file.is_file() else {}
    return {"init_from": about["init_from"]} if "init_from" in about else {}


def write(
    work: WorkFolder,
    result: RunResult,
    about: Mapping[str, Any],
    settings: Mapping[str, Any],
    also: Callable[[Path], None],
) -> RunResult:
    """Write the run folder of a finished run, whole or not at all.

    Parameters
    ----------
    work
        The folder that was worked in, which becomes the run folder. What an interrupted training is taken up from is
        kept in that, too.
    result
        What the run found; of `checkpoint` the name counts.
    about, settings
        As in `begin`.
    also
        Writes what is a framework's own, the weights among it, into the folder that it is given.

    Returns
    -------
    RunResult
        The result, with the folder and the checkpoint where they are now.

    Raises
    ------
    OutputError
        If the folder cannot be written; what was trained stays in `work`.
    """
    assert result.checkpoint is not None
    with work.result() as aside:
        _write_shared(aside, about, settings, result.history.to_dict())
        write_json(aside / "metrics.json", result.metrics())
        if result.reliability:
            curves = {name: curve.to_dict() for name, curve in result.reliability.items()}
            write_json(aside / "calibration.json", {"part": "test", "curves": curves})
        also(aside)
        if result.stopped == "interrupted" and work.training.is_file():
            shutil.copyfile(work.training, aside / work.training.name)
        manifest.seal(aside)
    return replace(result, folder=work.out, checkpoint=work.out / result.checkpoint.name)


def write_failed(
    work: WorkFolder, about: Mapping[str, Any], settings: Mapping[str, Any], history: History, error: BaseException
) -> None:
    """Write into the folder that a run worked in what ended it, with its traceback, and the epochs until then.

    `RunFolder.open` then says why there is no more. On a full disk nothing is written: the error that is being told
    must not be lost to it.

    Parameters
    ----------
    work, about, settings
        As in `begin`.
    history
        Of the epochs until then.
    error
        What ended the run.
    """
    about = {**about, "error": flat(error), "traceback": "".join(traceback.format_exception(error))}
    with suppress(OSError, UnicodeEncodeError):
        _write_shared(work.path, about, settings, {**history.to_dict(), "stopped": "error"})


def _write_shared(
    folder: Path, about: Mapping[str, Any], settings: Mapping[str, Any], history: Mapping[str, Any]
) -> None:
    write_json(folder / "history.json", history)
    write_json(folder / "versions.json", versions())
    # By these two a run is taken up: they are never half written, and the last one is there when all is.
    write_json(folder / ".run.json", {"format": FORMAT, **about})
    put_in_place(folder / ".run.json", folder / "run.json")
    write_yaml(folder / f".{SETTINGS}", settings)
    put_in_place(folder / f".{SETTINGS}", folder / SETTINGS)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Of every run: run.json: format, framework, method, plugin, number of parameters, and init_from of one that started
    from another's weights; config.yaml: the configuration with every option, from which the run can be repeated;
    history.json: `History.to_dict`; versions.json: of the packages.
    Of a finished one: metrics.json: `RunResult.metrics`; calibration.json, of a CVR method: reliability curves; its
    weights, checkpoint.pt (torch-rechub) or checkpoint.pth (RecBole); vocabulary.json: the tokens of users and items,
    and of a CVR method of all features; on the torch-rechub side schema.json, too: how a log becomes features.
    Of an interrupted one training.pt, too, from which training is taken up. manifest.json has the SHA-256 of each.
    The folder that a failed run worked in has `error` and `traceback` in run.json.

    Parameters
    ----------
    path
        The folder.
    verify
        Whether each file is checked when it is read.
    """

    path: Path
    verify: bool = True

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> RunFolder:
        """Return a run folder.

        Parameters
        ----------
        path, verify
            As of the class.

        Raises
        ------
        RunFolderError
            If it is none, has another format, failed, or is not as it was written.
        """
        folder = cls(Path(path), verify)
        if not (folder.path / "run.json").is_file():
            left = work_folder(folder.path)
            if left.is_dir():
                raise RunFolderError(f"{path} is not finished: 'cvr-plugins run --resume {left}' goes on with it.")
            raise RunFolderError(f"{path} is not a run folder: it has no run.json. 'cvr-plugins run' writes one.")
        error = cls(folder.path, verify=False).about.get("error")
        if error is not None:
            raise RunFolderError(f"{path} is a run that failed, so no model was finished: {error}")
        if folder.path.name.endswith(SUFFIX):
            raise RunFolderError(f"{path} is not finished: 'cvr-plugins run --resume {path}' goes on with it.")
        found = folder.about.get("format")
        if found != FORMAT:
            raise RunFolderError(
                f"{path} has the run folder format {found!r}; this version of cvr-plugins reads {FORMAT}. "
                "Use the version in its versions.json."
            )
        return folder

    @property
    def about(self) -> dict[str, Any]:
        """What run.json says: format, framework, method and its plugin. Raises RunFolderError."""
        about = self.read_json("run.json")
        if not isinstance(about, dict):
            raise RunFolderError(f"{self.path / 'run.json'} holds no mapping. The run folder is damaged.")
        return about

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; raises RunFolderError if it cannot be read or was changed."""
        file = self.file(name)
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunFolderError(f"{file} cannot be read: {reason}. The run folder is damaged.") from error

    def file(self, name: str) -> Path:
        """Return the path of a file of the folder. Raises RunFolderError if it is not what was written."""
        if self.verify:
            manifest.check(self.path / name)
        return self.path / name
