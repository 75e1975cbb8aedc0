"""What a check is, what it says of a method, and what is said when it fails."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cvr_plugins.testing._case import Case
from cvr_plugins.wording import one_line as _message

Status = Literal["passed", "failed", "skipped", "not asked"]

_SUITE = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parent.parent)
_TORCH = str(Path(torch.__file__).parent)


class Problem(Exception):
    """What a check expected, and what it found instead."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(found)
        self.expected, self.found = expected, found


class NotAsked(Exception):
    """The method does not say what a check asks for; says what it could say."""


def require(holds: object, expected: str, found: str) -> None:
    """Raise Problem unless something holds."""
    if not holds:
        raise Problem(expected, found)


@contextmanager
def expecting(expected: str, errors: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Make a Problem of one of these errors, raised by the method in the block."""
    try:
        yield
    except errors as error:
        raise Problem(expected, one_line(error)) from error


@dataclass(frozen=True)
class CheckResult:
    """What one check said of a method.

    name, description: of the check; status: "passed", "failed", "skipped" because a check that it rests on failed
    (`found` names that one), or "not asked" where the method does not declare what is checked; expected, found, cause:
    of a failure, `cause` being what usually brings it about; seconds: how long it took; error: the exception that the
    method raised, if that is the failure.
    """

    name: str
    description: str
    status: Status
    expected: str = ""
    found: str = ""
    cause: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        if self.status != "failed":
            return f"{self.name}: {self.status}" + (f", {self.found}" if self.found else "")
        return (
            f"{self.name}: {self.description}\n"
            f"  expected: {self.expected}\n  found: {self.found}\n  usual cause: {self.cause}"
        )


class CheckFailure(AssertionError):
    """A method failed checks; `results` are those of all checks that were run."""

    def __init__(self, method: str, results: Sequence[CheckResult]) -> None:
        self.method, self.results = method, tuple(results)
        failed = [result for result in self.results if result.status == "failed"]
        skipped = [result.name for result in self.results if result.status == "skipped"]
        lines = [f"{method} fails {', '.join(result.name for result in failed)}."]
        lines += ["", *(str(result) for result in failed)]
        if skipped:
            lines += ["", f"Not run, since they rest on what failed: {', '.join(skipped)}."]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> Any:
        return type(self), (self.method, self.results)


@dataclass(frozen=True)
class Definition:
    """What is checked, by itself.

    Attributes
    ----------
    run : callable
        Does it with a Case; raises Problem, or whatever the method raises.
    name, description, cause : str
        What holds if it passes, and what usually brings about a failure.
    requires : tuple of str
        Names of the checks that it rests on, which are made first.
    """

    run: Callable[[Case], None]
    name: str
    description: str
    cause: str
    requires: tuple[str, ...]

    def result(self, case: Case) -> CheckResult:
        """Make this check alone."""
        start = time.perf_counter()
        problem: Problem | None = None
        error: BaseException | None = None
        try:
            with generators_kept():
                self.run(case)
        except NotAsked as raised:
            seconds = time.perf_counter() - start
            return CheckResult(self.name, self.description, "not asked", found=str(raised), seconds=seconds)
        except Problem as raised:
            problem, error = raised, raised.__cause__
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever a method raises is its failure
            problem, error = Problem("no error", one_line(raised)), raised
        seconds = time.perf_counter() - start
        if problem is None:
            return CheckResult(self.name, self.description, "passed", seconds=seconds)
        said = (problem.expected, problem.found, self.cause)
        return CheckResult(self.name, self.description, "failed", *said, seconds, error)


def check(
    name: str, description: str, *, cause: str, requires: Sequence[str] = ()
) -> Callable[[Callable[[Case], None]], Definition]:
    """Make a function of a Case the definition of a check."""
    return lambda run: Definition(run, name, description, cause, tuple(requires))


def one_line(error: BaseException) -> str:
    """Return type, message and place of an exception that a method raised."""
    text = _message(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_SUITE)]
    # The author's own line says more than the line of torch, or of ours, that it led to.
    for elsewhere in ((_TORCH, _PACKAGE), (_TORCH,), ()):
        for frame in reversed(frames):
            if not frame.filename.startswith(elsewhere):
                return f"{text} ({frame.filename}:{frame.lineno} in {frame.name})"
    return text


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the generators of torch (CPU), numpy and random as they were."""
    ours, theirs = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is kept
    # The suite seeds the CPU's generator alone, so no other needs a fork.
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)  # noqa: NPY002
