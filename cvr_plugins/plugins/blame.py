"""Whose code it was that failed, once what a plugin registered is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cvr_plugins.plugins._records import BUILTIN
from cvr_plugins.wording import one_line, sentence

OURS = (None, BUILTIN, "recbole")
"""Owners whose errors are let through as they are: nobody, this package, RecBole."""


def titled(name: str, plugin: str | None) -> str:
    """Return a thing's name for messages, with whose it is if it is a plugin's."""
    return name if plugin in OURS else f"{name} (plugin {plugin})"


@contextmanager
def blamed(name: str, plugin: str | None, doing: str, kind: type[Exception]) -> Iterator[None]:
    """Say of an error in a plugin's code which plugin that is.

    Parameters
    ----------
    name, plugin
        Of the model, metric or data set, and its owner's.
    doing
        What raised, for the message.
    kind
        Of the error that is raised in its place.

    Raises
    ------
    Exception
        Of `kind`, in place of an error that neither is one of this package nor comes from code of `OURS`. sys.exit
        and whatever else is no Exception is such an error, too, but for Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if plugin in OURS or type(error).__module__.startswith("cvr_plugins."):
            raise
        raise kind(f"{titled(name, plugin)}: {doing} raised {sentence(one_line(error))}") from error
