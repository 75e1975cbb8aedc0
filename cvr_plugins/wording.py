"""How messages are put: a text on one line, an exception on one line, a text with an end."""

from __future__ import annotations


def flat(text: object) -> str:
    """Return a text, or what an exception says, on one line."""
    return " ".join(str(text).split())


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, without an end; its type if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")


def one_line(error: BaseException) -> str:
    """Return `Type: message` on one line, whatever the exception's own `__str__` does."""
    try:
        message = flat(error)
    except BaseException:  # noqa: BLE001 - a plugin's exception class may be broken too
        message = "its message cannot be shown"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def sentence(text: str) -> str:
    """Return `text` with an end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
