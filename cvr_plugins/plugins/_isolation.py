"""A plugin's code run so that what it changes in the process is put back, and only the user can interrupt it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cvr_plugins.plugins._records import Failure


@contextmanager
def isolated(plugin: str, where: str, failures: list[Failure]) -> Iterator[None]:
    """Run a plugin's code in the block, which is to keep every exception of the plugin's.

    A KeyboardInterrupt may be the plugin's own, or come of the user's Ctrl-C: that one is raised at the end of the
    block, whatever became of it within.

    Parameters
    ----------
    plugin, where
        Whose code it is, and which.
    failures
        What the plugin left changed, torch's modes or the handlers of signals, is put back at the end and added here.

    Raises
    ------
    KeyboardInterrupt
        If the user pressed Ctrl-C.
    """
    raised: list[BaseException] = []
    modes = _modes()
    # Signals have handlers, and interrupt, in the main thread alone.
    signals = signal.valid_signals() if threading.current_thread() is threading.main_thread() else set()
    handlers = {number: signal.getsignal(number) for number in signals}
    of_the_user = handlers.get(signal.SIGINT)

    def noted(number: int, frame: Any) -> None:
        try:
            of_the_user(number, frame)  # type: ignore[operator, misc]
        except BaseException as error:
            raised.append(error)
            raise

    watched = {**handlers, signal.SIGINT: noted} if callable(of_the_user) else handlers
    _set(watched)
    try:
        yield
    finally:
        changed = [n for n, handler in watched.items() if handler is not None and signal.getsignal(n) is not handler]
        _set(handlers)
        left = [f"the handler of {getattr(number, 'name', f'signal {number}')}" for number in sorted(changed)]
        left += [f"torch's {name}" for name in _restore(modes)]
        if left:
            failures.append(Failure(plugin, "state", f"{' and '.join(left)} changed by {where}, and put back"))
    if raised:
        raise raised[-1]


def _set(handlers: dict[Any, Any]) -> None:
    for number, handler in handlers.items():
        # One that is not Python's is None, and cannot be set.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


_never_left: list[Any] = []


def _infer(torch: Any, on: bool) -> None:
    mode = torch.inference_mode(on)
    mode.__enter__()
    # Its end, even as garbage, would end what it sets.
    _never_left.append(mode)


_MODES: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], object], Any]] = {
    "inference mode": (lambda torch: torch.is_inference_mode_enabled(), _infer, False),
    "gradient mode": (lambda torch: torch.is_grad_enabled(), lambda torch, on: torch.set_grad_enabled(on), True),
    "default dtype": (
        lambda torch: str(torch.get_default_dtype()).removeprefix("torch."),
        lambda torch, name: torch.set_default_dtype(getattr(torch, name)),
        "float32",
    ),
    "default device": (
        lambda torch: str(torch.get_default_device()),
        lambda torch, name: torch.set_default_device(None if name == "cpu" else name),
        "cpu",
    ),
    "search for NaN gradients": (
        lambda torch: torch.is_anomaly_enabled(),
        lambda torch, on: torch.autograd.set_detect_anomaly(on),
        False,
    ),
}
"""What torch is set to: how it is read, how it is set, and what it is when torch is imported."""


def _modes() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    return {name: standard if torch is None else read(torch) for name, (read, _, standard) in _MODES.items()}


def _restore(modes: dict[str, Any]) -> Iterator[str]:
    """Set torch to what it was, and yield what had to be set."""
    torch = sys.modules.get("torch")
    for name, (read, write, _) in _MODES.items():
        if torch is not None and read(torch) != modes[name]:
            write(torch, modes[name])
            yield name
