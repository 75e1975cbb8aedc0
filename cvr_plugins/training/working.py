"""The folder that a run works in: it reserves the run's name, and holds what training is taken up from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cvr_plugins.config import ConfigError
from cvr_plugins.files import OutputError, TargetError, check_new, put_in_place
from cvr_plugins.training import manifest
from cvr_plugins.training.checkpoint import load_checkpoint

SUFFIX = ".unfinished"
TRAINING = "training.pt"
"""The checkpoint that training is taken up from."""

SETTINGS = "config.yaml"
"""The configuration of a run, written when all else is there: a folder without it was left before the run began."""

MAY_CHANGE = frozenset(
    [
        "epochs",
        "stopping_step",
        "checkpoint_minutes",
        "checkpoint_dir",
        "data_path",
        "dataset",
        "device",
        "threads",
        "show_progress",
        "framework",
    ]
)
"""Keys that may differ where training is taken up: the training so far would not have been another."""

_OF_A_RUN = frozenset(
    "lock run.json history.json versions.json metrics.json calibration.json manifest.json schema.json vocabulary.json "
    f"run.log checkpoint.pt checkpoint.pth checkpoint.last.pth {SETTINGS} {TRAINING}".split()
)
_RESULT, _REPLACED, _LOCK = "result", "replaced", ".lock"


class InUseError(ConfigError):
    """Another process works in a folder."""


@dataclass(frozen=True)
class WorkFolder:
    """`NAME.unfinished`, which no other process works in.

    Parameters
    ----------
    out
        The run folder that comes of it, NAME.
    path
        The folder itself.
    new
        Whether it was made for this run, and holds nothing that another one has trained.
    above
        Folders above it that were made for it, the innermost first.
    """

    out: Path
    path: Path
    new: bool = True
    above: tuple[Path, ...] = ()

    @property
    def training(self) -> Path:
        """The checkpoint that training is taken up from."""
        return self.path / TRAINING

    @property
    def resume(self) -> str:
        """How it is taken up, for messages."""
        return f"'cvr-plugins run --resume {self.path}' goes on"

    def remove(self) -> None:
        """Remove the folder, and those above it that were made for it and hold nothing else."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            for folder in self.above:
                folder.rmdir()

    @contextmanager
    def result(self) -> Iterator[Path]:
        """Yield a folder to write the finished run into; if the block ends well it becomes `out`, and this one goes.

        An interrupted run that stands at `out` is replaced.

        Raises
        ------
        OutputError
            If the disk is full or the system refuses; all else that is in this folder stays.
        """
        aside, replaced = self.path / _RESULT, self.path / _REPLACED
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            yield aside
            if self.out.is_dir() and _interrupted(self.out):
                shutil.rmtree(replaced, ignore_errors=True)
                os.rename(self.out, replaced)
            put_in_place(aside, self.out)
        except OSError as error:
            reason = str(error) if isinstance(error, OutputError) else f"{error.strerror or error}."
            raise OutputError(f"Cannot write {str(self.out)!r}: {reason} {self.resume}.") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.remove()


def work_folder(out: Path) -> Path:
    """Return the folder beside the run folder `out` that is worked in until all is done."""
    return out.with_name(f"{out.name}{SUFFIX}")


@contextmanager
def reserved(names: Iterable[Path]) -> Iterator[WorkFolder]:
    """Make the folder that a new run works in: its name is this process's alone from then on.

    Parameters
    ----------
    names
        The run folder that is asked for, or several of which the first is taken that is free.

    Yields
    ------
    WorkFolder
        The folder, empty.

    Raises
    ------
    TargetError, ConfigError
        If the last of them is there already, is another run's, or cannot be made.
    """
    taken: ValueError | None = None
    for out in names:
        with ExitStack() as stack:
            try:
                work = _made(out)
                stack.enter_context(_locked(work.path))
                for left in work.path.iterdir():
                    if left.name != _LOCK:
                        left.unlink()
            except (TargetError, ConfigError) as error:
                if not any(map(os.path.lexists, (out, work_folder(out)))):
                    # Nor could any other name be written there.
                    raise
                taken = error
                continue
            stack.enter_context(_told(work))
            yield work
            return
    assert taken is not None
    raise taken


@contextmanager
def taken_up(source: str | Path, out: Path | None) -> Iterator[WorkFolder]:
    """Hold the folder of a run that was cut off, or a copy of it for the run folder `out`.

    Parameters
    ----------
    source
        NAME or `NAME.unfinished`, or a file in it.
    out
        The run folder that is to come of it, None for NAME.

    Raises
    ------
    ConfigError
        If there is no such run, it is finished, or another process works on it.
    TargetError
        As `reserved` does.
    """
    left = left_of(source)
    name = left.with_name(left.name.removesuffix(SUFFIX))
    if out is None and left == name and not _interrupted(name):
        raise ConfigError(f"The run in {name} is finished; more epochs of it need --out, another run folder.")
    if out is None and left != name:
        work = WorkFolder(name, left, new=False)
        with _locked(left), _told(work):
            yield work
        return
    work = _made(name if out is None else out, replacing=out is None)
    with _locked(work.path):
        try:
            # By the configuration, the last, all is seen to be there.
            for file in sorted(left.iterdir(), key=lambda file: file.name == SETTINGS):
                if file.is_file() and file.name not in (_LOCK, manifest.NAME):
                    aside = work.path / f".{file.name}"
                    shutil.copyfile(file, aside)
                    put_in_place(aside, work.path / file.name)
        except OSError as error:
            work.remove()
            raise TargetError(f"Cannot copy {str(left)!r} to {str(work.path)!r}: {error.strerror or error}.") from error
        with _told(work):
            yield work


def left_of(source: str | Path) -> Path:
    """Return the folder that holds what training is taken up from: `NAME.unfinished`, else NAME.

    Of finished runs those made in RecBole hold it.

    Parameters
    ----------
    source
        Either of them, or a file in it.

    Raises
    ------
    ConfigError
        If there is no such run, or it is finished.
    CheckpointError
        If a file that was named is no checkpoint that can be read safely.
    RunFolderError
        If NAME is sealed, and not as it was then.
    """
    source = Path(source)
    source = source if source.name else source.absolute()
    if source.is_file():
        # One that is none of ours says so itself.
        load_checkpoint(source)
    folder = source.absolute().parent if source.is_file() else source
    named = folder.name.endswith(SUFFIX)
    name = folder.with_name(folder.name.removesuffix(SUFFIX))
    work = folder if named else work_folder(folder)
    if not named and (name / manifest.NAME).is_file():
        manifest.check_all(name)
    done = name.is_dir() and (name / "run.json").is_file() and not _interrupted(name)
    if (work / SETTINGS).is_file() and not done:
        return work
    if done and (name / "checkpoint.pth").is_file():
        return name
    if done:
        # Left by a process that was killed between the two.
        raise ConfigError(
            f"The run in {name} is finished, so that there is nothing to go on with; --init-from {name} begins a new "
            "one from its weights."
        )
    if name.is_dir() and _interrupted(name):
        return name
    if work.is_dir():
        raise ConfigError(
            f"The run in {work} was cut off before it had begun, so that there is nothing to go on with; the command "
            "that was to begin it does so if it is given once more."
        )
    raise ConfigError(f"There is no run to go on with at {source}: neither {work} nor an interrupted run.")


def _interrupted(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "history.json").read_text(encoding="utf-8"))["stopped"] == "interrupted")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _made(out: Path, *, replacing: bool = False) -> WorkFolder:
    path = work_folder(out)
    if not replacing:
        check_new(out)
    above = tuple(folder for folder in path.parents if not folder.exists())
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        if not _left_unbegun(path):
            raise TargetError(
                f"{str(path)!r} is of a run that is at work or was cut off: name another place, or 'cvr-plugins run "
                f"--resume {path}' goes on with it, or remove it."
            ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"Cannot make the folder {str(path)!r}: {reason}.") from error
    if not replacing and out.exists():
        # Another run has ended between the two.
        shutil.rmtree(path, ignore_errors=True)
        raise TargetError(f"{str(out)!r} exists already; remove it or name another place.")
    return WorkFolder(out, path, above=above)


def _left_unbegun(path: Path) -> bool:
    """Whether a folder was left by a run that was killed before it had begun, so that it holds nothing to be lost."""
    try:
        return {file.name.removeprefix(".") for file in path.iterdir()} <= _OF_A_RUN and not (path / SETTINGS).exists()
    except OSError:
        return False


@contextmanager
def _told(work: WorkFolder) -> Iterator[None]:
    """Say of an interrupt, and of an error of the system's (an output that is closed or full), how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not work.path.exists():
            raise
        raise KeyboardInterrupt(f"{work.resume}.") from error
    except OSError as error:
        # What another part of ours has said already is passed on as it is.
        if isinstance(error, OutputError) or not work.path.exists():
            raise
        raise OutputError(f"{error.strerror or error}. {work.resume}.") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InUseError(f"Another process is at work in {path}; wait for it.") from error
    except OSError as error:
        raise TargetError(f"Cannot write to {str(path)!r}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], may_change: Iterable[str] = MAY_CHANGE) -> None:
    """Refuse to go on with a training that would have been another.

    Parameters
    ----------
    before, now
        The configurations of the run that was cut off and of the one that goes on.
    may_change
        Keys that may differ.

    Raises
    ------
    ConfigError
        Naming the first other key that does.
    """
    for key in sorted({*before, *now} - set(may_change), key=lambda key: (key != "model", key)):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"The run to be resumed had {key}: {before.get(key)!r}, and now it is {now.get(key)!r}; "
                "only epochs, stopping_step and where things are may change."
            )
