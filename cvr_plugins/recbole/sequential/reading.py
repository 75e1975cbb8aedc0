"""Reading the events of an atomic file in little memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

from cvr_plugins.data.errors import DataError


def read_header(path: str, separator: str, encoding: str) -> dict[str, FeatureType]:
    """Return the fields of an atomic file and their types. Raises DataError for a field without a known type."""
    fields: dict[str, FeatureType] = {}
    with open(path, encoding=encoding) as file:
        head = file.readline().rstrip("\r\n")
    for column in head.split(separator):
        name, _, kind = column.rpartition(":")
        try:
            fields[name] = FeatureType(kind)
        except ValueError:
            raise DataError(
                f"The header of {path} has the field {column!r}; write name:type with one of the types "
                f"{', '.join(each.value for each in FeatureType)}."
            ) from None
    return fields


def read_events(path: str, fields: Mapping[str, FeatureType], separator: str, encoding: str) -> pd.DataFrame:
    """Return the fields, all of them token or float, as RecBole reads them.

    RecBole lets pandas read with its Python engine, which holds every cell as an object of its own: gigabytes for some
    million events. This is the same reader with the engine in C.

    Raises
    ------
    DataError
        For a cell that is not a number where one should be.
    """
    heads = {f"{name}:{kind.value}": name for name, kind in fields.items()}
    types: dict[str, Any] = {
        head: np.float64 if fields[name] is FeatureType.FLOAT else str for head, name in heads.items()
    }
    try:
        frame = pd.read_csv(
            path, sep=separator, usecols=list(heads), dtype=types, encoding=encoding, engine="c", low_memory=False
        )
    except UnicodeError:
        raise
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return frame.rename(columns=heads)
