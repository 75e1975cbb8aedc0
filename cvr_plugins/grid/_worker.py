"""A worker process: runs the cells it is sent, one after the other, and never outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cvr_plugins.config import FIELD_KEYS, Config
from cvr_plugins.grid._cells import canonical
from cvr_plugins.grid._rows import CELL_FILE
from cvr_plugins.training.run_folder import write_json

if TYPE_CHECKING:
    from cvr_plugins.data import FunnelLog

READY = "ready"


@dataclass(frozen=True)
class Task:
    """What a worker is sent: a cell's configuration, what to note of it, and where its run folder is to be written."""

    config: Config
    about: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Reply:
    """What a worker answers: None or the error's kind, message and traceback, the time it took, and its remarks."""

    seconds: float
    remarks: tuple[str, ...] = ()
    error: tuple[str, str, str] | None = None


class LogCache:
    """The log read last: cells of one data set, one after the other, read it once."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._log: FunnelLog | None = None

    def get(self, config: Config) -> FunnelLog:
        """Return the configuration's log. Raises what `load_log` raises."""
        from cvr_plugins.logs import load_log

        given = sorted(config.given.intersection(FIELD_KEYS))
        key = canonical([given, *(config[name] for name in ("dataset", "data_path", *FIELD_KEYS))])
        if self._log is None or key != self._key:
            self._key, self._log = None, None
            self._log = load_log(config)
            self._key = key
        return self._log


def work(connection: Connection) -> None:
    """Answer each Task on `connection` with a Reply until None comes."""
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    # tqdm's own lock is shared between processes, and would be reported as leaked if this one is killed.
    tqdm.set_lock(threading.RLock())
    logs = LogCache()
    connection.send(READY)
    while (task := connection.recv()) is not None:
        connection.send(_answer(task, logs))


def _answer(task: Task, logs: LogCache) -> Reply:
    start = time.perf_counter()
    remarks: list[str] = []
    error = None
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: remarks.append(str(message))
        try:
            _run(task, logs, remarks, start)
        except (Exception, SystemExit) as failure:  # noqa: BLE001 whatever a method raises is its cell's failure
            error = (type(failure).__name__, str(failure), traceback.format_exc())
    return Reply(round(time.perf_counter() - start, 3), tuple(dict.fromkeys(remarks)), error)


def _run(task: Task, logs: LogCache, remarks: list[str], start: float) -> None:
    from cvr_plugins.rechub.runner import run

    # The bars of several runs at once would overwrite each other.
    config = replace(task.config, values={**task.config.values, "show_progress": False})
    run(config, folder=task.folder, log=logs.get(config), on_note=remarks.append)
    write_json(task.folder / CELL_FILE, {**task.about, "seconds": round(time.perf_counter() - start, 3)})


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Not sys.exit, which would end this thread only, nor anything that waits for the run.
        os._exit(1)
