"""How messages are put: an exception on one line, a text with an end."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Return `Type: message` on one line, whatever the exception's own `__str__` does."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a plugin's exception class may be broken too
        message = "its message cannot be shown"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def sentence(text: str) -> str:
    """Return `text` with an end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
