"""The check that a batch has the labels its objective needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from cvr_plugins.contracts import Labels


def check_labels(method: str, needs: Iterable[str], labels: Labels) -> None:
    """Raise ValueError if `labels` lacks one of `needs` (names of fields of Labels); `method` is for the message."""
    available = [f.name for f in fields(labels) if getattr(labels, f.name) is not None]
    missing = next((name for name in needs if name not in available), None)
    if missing is not None:
        raise ValueError(
            f"{method} needs the label column {missing!r}; got {', '.join(map(repr, available))}. "
            f"Add it to label_columns (CVRTrainer) or set {missing.upper()}_FIELD (a configuration)."
        )
