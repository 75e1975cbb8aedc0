"""Suggestions for a name nobody knows: the known names near to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORTEST_PART = 3
_LEAST_LIKENESS = 0.6
_LIKENESS_BEHIND_BEST = 0.1


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return at most `limit` of the `known` names near to `name`, case aside; [] if none is.

    Names that begin alike (one is the beginning of the other) come alone if there are any, then names of which one
    contains the other, then spellings that resemble it best (difflib ratio of .6 or more, not far behind the best).
    """
    names = dict.fromkeys(known)
    asked = name.casefold()

    def begins(other: str) -> bool:
        return other.startswith(asked) or asked.startswith(other)

    def contains(other: str) -> bool:
        return asked in other or other in asked

    for alike in (begins, contains):
        found = [each for each in names if min(len(each), len(asked)) >= _SHORTEST_PART and alike(each.casefold())]
        if found:
            return found[:limit]
    likeness = {each: difflib.SequenceMatcher(None, each.casefold(), asked).ratio() for each in names}
    enough = max(_LEAST_LIKENESS, max(likeness.values(), default=0) - _LIKENESS_BEHIND_BEST)
    found = [each for each in names if likeness[each] >= enough]
    return sorted(found, key=lambda each: -likeness[each])[:limit]


def did_you_mean(asked: object, known: Iterable[object]) -> str:
    """Return "Did you mean A, B or C?" for the `known` names near to a name, or to any of a list; "" if none is."""
    names = [str(name) for name in known]
    several = asked if isinstance(asked, list) else [asked]
    found = dict.fromkeys(match for each in several for match in nearest(str(each), names))
    return f"Did you mean {either(found)}?" if found else ""


def unknown(what: str, asked: object, known: Iterable[object], lists: str | None = None) -> str:
    """Return what an error says of a name that nobody knows.

    Parameters
    ----------
    what
        The first sentence, which names what was asked for and where.
    asked
        The name, or a list of names.
    known
        The names there are.
    lists
        The last sentence, which says what they are or where they stand; "Known: A, B." if it is None.
    """
    names = [str(name) for name in known]
    last = f"Known: {', '.join(names)}." if lists is None else lists
    return " ".join(filter(None, [what, did_you_mean(asked, names), last]))


def either(names: Iterable[str], conjunction: str = "or") -> str:
    """Return names as prose: "A", "A or B", "A, B or C"."""
    *most, last = names
    return f"{', '.join(most)} {conjunction} {last}" if most else last
