"""Worker processes that run cells: none outlives its parent, and one that dies costs its cell and no other."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from tqdm import tqdm

from cvr_plugins.config import FIELD_KEYS, ConfigError
from cvr_plugins.files import whole_file
from cvr_plugins.grid._cells import Cell, GridError, canonical, differences
from cvr_plugins.grid._rows import CELL_FILE, RUN
from cvr_plugins.training import manifest
from cvr_plugins.training.checkpoint import CheckpointError
from cvr_plugins.training.interrupts import SIGNALS
from cvr_plugins.training.run_folder import RunFolder, RunFolderError, write_json
from cvr_plugins.training.step import TrainingError
from cvr_plugins.training.working import TRAINING, InUseError, work_folder
from cvr_plugins.wording import flat

if TYPE_CHECKING:
    from cvr_plugins.data import FunnelLog

READY = "ready"

_PATIENCE = 5.0
"""Seconds a process without work, or whose parent was killed, gets to end by itself."""


@dataclass(frozen=True)
class Task:
    """What a worker is sent: a cell, and the folder that it works in, where `RUN` will be the run's."""

    cell: Cell
    folder: Path


@dataclass(frozen=True)
class Reply:
    """What a worker answers.

    Parameters
    ----------
    seconds : float
        The time it took.
    remarks : tuple of str
        Notes and warnings of the run.
    error : tuple of str or None
        Kind, message and traceback of what went wrong.
    """

    seconds: float
    remarks: tuple[str, ...] = ()
    error: tuple[str, str, str] | None = None


def answers(tasks: Sequence[Task], jobs: int) -> Generator[tuple[Task, Reply], None, None]:
    """Run tasks in at most `jobs` processes and yield each with its reply, as they come.

    Parameters
    ----------
    tasks : sequence of Task
        They are begun in this order.
    jobs : int
        At least 1.

    Yields
    ------
    Task, Reply
        The death of a process while it worked is the reply WorkerDied, saying how it died.

    Raises
    ------
    GridError
        If a process dies before it could start to work: so would the next.

    Notes
    -----
    Closing the generator kills the processes that still work.
    """
    # Spawned, not forked: a fork of a process that has used torch's threads or a GPU may hang.
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    workers: dict[Connection, tuple[Any, Task | None]] = {}
    dismissed = []
    try:
        while waiting or workers:
            starting = sum(task is None for _, task in workers.values())
            for _ in range(min(jobs - len(workers), len(waiting) - starting)):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs,))
                process.start()
                # With the parent's copy open, the death of the worker would not end the connection.
                theirs.close()
                workers[ours] = (process, None)
            heard: list[Any] = wait(list(workers))
            for connection in heard:
                process, task = workers[connection]
                try:
                    reply = connection.recv()
                except (EOFError, OSError):
                    del workers[connection]
                    _end(process, _PATIENCE)
                    reply = _death(process.exitcode, task)
                else:
                    if waiting:
                        workers[connection] = (process, waiting.popleft())
                        # If it died meanwhile, the broken connection is seen at the next wait.
                        with suppress(OSError):
                            connection.send(workers[connection][1])
                    else:
                        # It ends when its connection does.
                        del workers[connection]
                        connection.close()
                        dismissed.append(process)
                if task is not None:
                    yield task, reply
    finally:
        for process, _ in workers.values():
            _end(process, 0)
        for process in dismissed:
            _end(process, _PATIENCE)


def _end(process: Any, patience: float) -> None:
    """See that a process ends: within some seconds by itself, or it is killed."""
    process.join(patience)
    process.kill()
    process.join()


def _death(code: int | None, task: Task | None) -> Reply:
    how = f"ended with exit code {code}"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        how = f"killed by {name}" + (" (by the system, perhaps for want of memory)" if name == "SIGKILL" else "")
    if task is None:
        raise GridError(f"A worker process could not start ({how}); what it printed above says why.")
    message = f"The process that ran this cell was {how}."
    return Reply(0.0, (), ("WorkerDied", message, message))


def work(connection: Connection) -> None:
    """Answer each Task on `connection` with a Reply until it is closed."""
    # They reach every process of a terminal or a job; the parent decides what they mean.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    # tqdm's own lock is shared between processes, and would be reported as leaked if this one is killed.
    tqdm.set_lock(threading.RLock())
    logs: dict[str, FunnelLog] = {}
    with suppress(EOFError, OSError):
        connection.send(READY)
        while True:
            connection.send(_answer(connection.recv(), logs))


def _answer(task: Task, logs: dict[str, FunnelLog]) -> Reply:
    start = time.perf_counter()
    remarks: list[str] = []
    error = None
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: remarks.append(str(message))
        try:
            _run(task, logs, remarks, start)
        except BaseException as failure:  # noqa: BLE001 whatever a method raises is its cell's failure
            # What it left is the grid's to take up.
            said = failure.message if isinstance(failure, TrainingError) else str(failure)
            error = (type(failure).__name__, said, traceback.format_exc())
    return Reply(round(time.perf_counter() - start, 3), tuple(dict.fromkeys(remarks)), error)


def _run(task: Task, logs: dict[str, FunnelLog], remarks: list[str], start: float) -> None:
    # Here, since planning and reporting do not need torch-rechub.
    from cvr_plugins.logs import load_log
    from cvr_plugins.rechub.runner import run

    config = task.cell.config
    given = sorted(config.given.intersection(FIELD_KEYS))
    source = canonical([given, *(config[name] for name in ("dataset", "data_path", *FIELD_KEYS))])
    if source not in logs:
        # Only the log read last is kept: cells of one data set come one after the other.
        logs.clear()
        logs[source] = load_log(config)
    # The bars of several runs at once would overwrite each other.
    config = replace(config, values={**config.values, "show_progress": False})
    out = task.folder / RUN
    task.folder.mkdir(exist_ok=True)
    # A worker of a grid that was killed may be at work there a moment longer.
    with FileLock(task.folder / ".lock", timeout=_PATIENCE):
        try:
            spent = _spent(task)
            if spent is not None:
                _begin(task, spent, start)
                if out.exists():
                    manifest.check_all(out)
                else:
                    run(config, resume=out, log=logs[source], on_note=remarks.append)
        except InUseError:
            raise
        except (CheckpointError, ConfigError, RunFolderError) as error:
            remarks.append(f"{task.cell.name} was cut off and begins anew: {flat(error)}")
            spent = None
        if spent is None:
            for left in (out, work_folder(out)):
                shutil.rmtree(left, ignore_errors=True)
            spent = 0.0
            _begin(task, spent, start)
            run(config, folder=out, log=logs[source], on_note=remarks.append)
        seconds = round(spent + time.perf_counter() - start, 3)
        write_json(out / CELL_FILE, {**task.cell.about, "seconds": seconds})
        manifest.seal(out)


def _begin(task: Task, spent: float, start: float) -> None:
    """Write down what is begun, when, and how many seconds earlier processes have spent on it."""
    began = time.time() - (time.perf_counter() - start)
    with whole_file(task.folder / CELL_FILE) as aside:
        write_json(aside, {**task.cell.about, "seconds": spent, "began": began})


def _spent(task: Task) -> float | None:
    """Return the seconds that earlier processes have spent on what a cell goes on from; None if there is nothing."""
    out = task.folder / RUN
    last = out / manifest.NAME if out.exists() else work_folder(out) / TRAINING
    if not last.is_file():
        return None
    about = RunFolder(task.folder, verify=False).read_json(CELL_FILE)
    changed = differences(about.get("identity", {}), task.cell.identity)
    if changed:
        raise ConfigError(f"Its configuration changed: {'; '.join(changed)}.")
    return float(about["seconds"] + max(0.0, last.stat().st_mtime - about["began"]))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Not sys.exit, which would end this thread only, nor anything that waits for the run.
        os._exit(1)
