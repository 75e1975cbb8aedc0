"""The errors of the data package and the wording they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cvr_plugins.nearest import unknown


class DataError(ValueError):
    """A log, a file or a setting that cannot be used; the message says what, where and what to do."""


class SchemaError(DataError):
    """A schema that contradicts itself, such as a label declared as a feature."""


def rows(count: int) -> str:
    """Return `1 row`, `1,234 rows`."""
    return "1 row" if count == 1 else f"{count:,} rows"


def quoted(names: Iterable[object], most: int | None = None) -> str:
    """Return names as a list for a message, `'a', 'b'`, with dots in place of those after the first `most`."""
    shown = [repr(name) for name in names]
    return ", ".join(shown if most is None or len(shown) <= most else [*shown[:most], "..."])


def require_columns(present: Sequence[object], wanted: Iterable[str], where: str) -> None:
    """Check a header: no name twice, nothing missing.

    Parameters
    ----------
    present
        The names in the header.
    wanted
        Names that must be among them.
    where
        What has the header, at the beginning of a sentence.

    Raises
    ------
    DataError
        Naming the columns and the nearest names present.
    """
    if len(set(present)) < len(present):
        twice = dict.fromkeys(name for name in present if present.count(name) > 1)
        raise DataError(f"{where} has more than one column named {quoted(twice)}; rename or remove the duplicates.")
    missing = [name for name in wanted if name not in present]
    if missing:
        plural = "column" if len(missing) == 1 else "columns"
        has = f"It has: {quoted(present, most=20) or 'no column'}."
        raise DataError(unknown(f"{where} lacks the {plural} {quoted(missing)}.", missing, present, has))
