"""Signals that end a run: the first one waits until training is in a state to be taken up again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class _State:
    waits = False
    asked = False


def _end(number: int, frame: FrameType | None) -> None:
    if not _State.waits or _State.asked:
        raise KeyboardInterrupt
    _State.asked = True


@contextmanager
def handled() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end what is done in the block, all three as Ctrl-C does.

    A signal that arrives ignored, as under `nohup`, stays ignored; outside the main thread nothing is changed.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
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
