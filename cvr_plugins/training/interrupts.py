"""Signals that end a run: the first one waits until training is in a state to be taken up again."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ONE = 1.0
"""Seconds within which SIGTERM and SIGHUP that follow a signal are the same one."""


class _State:
    waits = False
    asked = False
    last = -math.inf


def _end(number: int, frame: FrameType | None) -> None:
    before, _State.last = _State.last, time.monotonic()
    if number != signal.SIGINT and _State.last - before < _ONE:
        # The system and the shell both say that a terminal is closed.
        return
    if not _State.waits or _State.asked:
        raise KeyboardInterrupt
    _State.asked = True


@contextmanager
def handled() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end what is done in the block, all three as Ctrl-C does.

    A signal that arrives ignored, as under `nohup`, stays ignored; outside the main thread nothing is changed.
    """
    before, _State.last = {}, -math.inf
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def waiting() -> Iterator[None]:
    """Let the first signal in the block wait for `asked` to be looked at, at the latest for the block's end.

    Raises
    ------
    KeyboardInterrupt
        At the second signal, and at the end of the block if one still waits.
    """
    _State.waits, _State.asked = True, False
    try:
        yield
        if _State.asked:
            raise KeyboardInterrupt
    finally:
        _State.waits = _State.asked = False


def asked() -> bool:
    """Whether a signal is waiting."""
    return _State.asked
