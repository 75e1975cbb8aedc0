"""Checks of the options that methods, architectures, trainers and runs are given: one check and one wording a kind."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TypeVar

__all__ = ["MOST_THREADS", "check_choice", "check_count", "check_flag", "check_number"]

MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))
"""The most threads or processes that a run may ask for: enough for a run of any machine to be read on this one."""

T = TypeVar("T")


def check_number(
    name: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    error: type[ValueError] = ValueError,
) -> float:
    """Return an option that is a finite number between two bounds.

    Parameters
    ----------
    name
        The option, for the message.
    value
        What was given; a number of any library's, but no truth value.
    low, high
        The bounds.
    open_low, open_high
        Whether the bounds themselves are refused.
    error
        The kind of error to raise.

    Returns
    -------
    float
        The number.

    Raises
    ------
    ValueError
        If it is something else; for text, how a number is written is added.
    """
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (math.isfinite(number) and above and below):
        hint = " Write a number without quotes." if isinstance(value, str) else ""
        raise error(f"{name} must be {_range(low, high, open_low, open_high)}; got {value!r}.{hint}")
    return number


def check_count(
    name: str, value: object, *, least: int = 1, most: int | None = None, error: type[ValueError] = ValueError
) -> int:
    """Return an option that is a whole number of at least `least`.

    Parameters
    ----------
    name
        The option, for the message.
    value
        What was given; an integer of any library's, but no truth value.
    least, most
        The least and the greatest number allowed, `most` None for any.
    error
        The kind of error to raise.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise error(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if most is not None and int(value) > most:
        raise error(f"{name} must be at most {most}; got {value!r}.")
    return int(value)


def check_flag(name: str, value: object, *, error: type[ValueError] = ValueError) -> bool:
    """Return an option that is True or False.

    Parameters
    ----------
    name
        The option, for the message.
    value
        What was given.
    error
        The kind of error to raise.

    Returns
    -------
    bool
        The value.

    Raises
    ------
    ValueError
        If it is something else, 0 and 1 included.
    """
    if not isinstance(value, bool):
        raise error(f"{name} must be true or false; got {value!r}.")
    return value


def check_choice(name: str, value: object, choices: Sequence[T], *, error: type[ValueError] = ValueError) -> T:
    """Return an option that is one of a few values.

    Parameters
    ----------
    name
        The option, for the message.
    value
        What was given.
    choices
        The values allowed, in the order in which the message names them.
    error
        The kind of error to raise.

    Returns
    -------
    object
        The choice.

    Raises
    ------
    ValueError
        If it is something else.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise error(f"{name} must be one of {', '.join(repr(choice) for choice in choices)}; got {value!r}.")


def _range(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if math.isinf(high):
        return f"a finite number {'above' if open_low else 'of at least'} {low:g}"
    return f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
