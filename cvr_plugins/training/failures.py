"""Whose code it was that failed in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cvr_plugins.training.step import TrainingError
from cvr_plugins.wording import one_line, sentence

OURS = (None, "builtin", "recbole")
"""Owners whose errors are let through as they are: nobody, this package, RecBole."""


def titled(name: str, plugin: str | None) -> str:
    """Return a model's name for messages, with whose it is if it is a plugin's."""
    return name if plugin in OURS else f"{name} (plugin {plugin})"


@contextmanager
def blamed(
    name: str, plugin: str | None, doing: str = "training", kind: type[Exception] = TrainingError
) -> Iterator[None]:
    """Say of an error in a plugin's model which plugin that is.

    Parameters
    ----------
    name, plugin
        The model's, and its owner's.
    doing
        What raised, for the message.
    kind
        Of the error that is raised in its place.

    Raises
    ------
    Exception
        Of `kind`, in place of an error that neither is one of this package nor comes from a model of `OURS`. sys.exit
        in a plugin's model is such an error, too.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if plugin in OURS or type(error).__module__.startswith("cvr_plugins."):
            raise
        raise kind(f"{titled(name, plugin)}: {doing} raised {sentence(one_line(error))}") from error
