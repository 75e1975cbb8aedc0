"""What a run of RecBole changes in the process around it, put back when it ends."""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config as RecBoleConfig

from cvr_plugins.config import ConfigError
from cvr_plugins.options import MOST_THREADS, check_count
from cvr_plugins.recbole.compat.guards import guarded
from cvr_plugins.training.process import torch_threads

_LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error", "critical")}
_FORMAT, _DATE = "%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S"
_COLOUR_FORMAT, _COLOUR_DATE = "%(log_color)s%(asctime)-15s %(levelname)s  %(message)s", "%d %b %H:%M"
_COLOURS = {"DEBUG": "cyan", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@contextmanager
def surroundings(
    config: RecBoleConfig, *, log: Path | None, console: bool = False, tensorboard: bool = False
) -> Iterator[None]:
    """Run RecBole in the block: random numbers, torch's modes, warnings and loggers are afterwards what they were.

    log: the file its messages go to; console: whether they are shown as well; tensorboard: whether its trainers write
    to `log_tensorboard` in the current folder, as they do on their own.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_state())
        stack.enter_context(_modes())
        stack.enter_context(_gpu(config["device"]))
        for key, least in (("threads", 1), ("worker", 0)):
            if config[key] is not None:
                check_count(key, config[key], least=least, most=MOST_THREADS, error=ConfigError)
        stack.enter_context(torch_threads(config["threads"]))
        stack.enter_context(guarded())
        stack.enter_context(_logging(config, log, console))
        stack.enter_context(_without_notices())
        if not tensorboard:
            stack.enter_context(_no_tensorboard())
        yield


def log_file(config: RecBoleConfig) -> Path:
    """Return the file that RecBole's own logger would write to, below the current folder."""
    name = str(config["model"])
    return Path("log", name, f"{name}-{config['dataset']}-{datetime.now():%b-%d-%Y_%H-%M-%S}.log")


@contextmanager
def anomaly_mode_kept() -> Iterator[None]:
    """One of RecBole's modules turns torch's search for NaN gradients on for the process, at a third of its speed."""
    before = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


@contextmanager
def _random_state() -> Iterator[None]:
    plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the generator RecBole seeds
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _modes() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    try:
        with anomaly_mode_kept():
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def _gpu(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


class _LogFile(logging.FileHandler):
    """A file that lines are missing in where the disk was full: of what matters more the run says so itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _logging(config: RecBoleConfig, file: Path | None, console: bool) -> Iterator[None]:
    root = logging.getLogger()
    level = _LEVELS.get(str(config["state"] or "info").lower(), logging.INFO)
    handlers: list[logging.Handler] = []
    if console and not root.handlers:
        handlers.append(_console())
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(file, encoding="utf-8"))
        handlers[-1].setFormatter(_Uncoloured(_FORMAT, _DATE))
    before = root.level
    for handler in handlers:
        handler.addFilter(_of_recbole)
        root.addHandler(handler)
    root.setLevel(level if handlers else max(before, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _console() -> logging.Handler:
    import colorlog  # type: ignore[import-untyped]

    handler = logging.StreamHandler()
    handler.setFormatter(colorlog.ColoredFormatter(_COLOUR_FORMAT, _COLOUR_DATE, log_colors=_COLOURS))
    return handler


class _Uncoloured(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", super().format(record))


def _of_recbole(record: logging.LogRecord) -> bool:
    # RecBole logs as root, as do others who have not named a logger.
    return record.name == "root"


@contextmanager
def _without_notices() -> Iterator[None]:
    with warnings.catch_warnings():
        # Of pandas and torch, about RecBole's code: nothing its user could change.
        for category in (FutureWarning, DeprecationWarning, UserWarning, RuntimeWarning):
            warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
        yield


class _Nowhere:
    """A tensorboard writer that writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


@contextmanager
def _no_tensorboard() -> Iterator[None]:
    from recbole.trainer import trainer

    before = trainer.get_tensorboard
    trainer.get_tensorboard = lambda logger: _Nowhere()
    try:
        yield
    finally:
        trainer.get_tensorboard = before


def cache_folder() -> Path:
    """Return the folder that data sets written for RecBole are kept in: that of this user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cvr-plugins"
