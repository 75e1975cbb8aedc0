"""One spelling for every token: the same id gives the same text whether it came as int, float, bool or string."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvr_plugins.data.errors import DataError

SEPARATOR = " "


class TokenLists(NamedTuple):
    """Lists of tokens in compressed form: row `i` holds `tokens[codes[offsets[i]:offsets[i + 1]]]`."""

    codes: np.ndarray
    offsets: np.ndarray
    tokens: list[str]


def as_tokens(column: pd.Series) -> pd.Categorical:
    """Return a column `[N]` as canonical tokens: a categorical of strings, missing where value or text is empty.

    Integers and integral floats are written without a decimal point (196, 196.0 -> `"196"`), booleans as `"0"` and
    `"1"`, strings as they are. Only distinct values are looked at one by one.

    Raises
    ------
    DataError
        If the column holds lists.
    """
    codes: Any
    values: Any
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        try:
            codes, values = pd.factorize(column)
        except (TypeError, pa.ArrowException) as error:
            raise DataError(
                f"Column {column.name!r} holds lists where single tokens are expected; declare it as 'token_seq'."
            ) from error
    merged, tokens = _merge(np.asarray(codes), values)
    return pd.Categorical.from_codes(merged, categories=pd.Index(tokens, dtype=object))


def as_token_lists(column: pd.Series) -> TokenLists:
    """Return a column `[N]` of lists, or of space-separated text, as canonical tokens; missing tokens are left out.

    Raises
    ------
    DataError
        If the column holds neither lists nor text, or a mixture.
    """
    array = _arrow_lists(column)
    encoded = pc.list_flatten(array).dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    merged, tokens = _merge(codes, encoded.dictionary.to_pylist())
    offsets = _offsets(array)
    present = merged >= 0
    if not present.all():
        offsets = np.concatenate([[0], np.cumsum(present, dtype=np.int64)])[offsets]
        merged = merged[present]
    return TokenLists(merged, offsets, tokens)


def token_list_series(lists: TokenLists) -> pd.Series:
    """Return the lists as a pandas column of Arrow type `list<string>`."""
    words = pa.array(lists.tokens, pa.string()).take(pa.array(lists.codes, pa.int64()))
    array = pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), words)
    return pd.Series(pd.arrays.ArrowExtensionArray(array))


def arrow_array(column: pd.Series) -> pa.Array | pa.ChunkedArray:
    """Return a pandas column as Arrow, NaN as missing.

    Raises
    ------
    pa.ArrowException
        If its values are of several types.
    """
    try:
        return pa.array(column, from_pandas=True)
    except pa.ArrowException:
        # Empty NumPy arrays are of floats and do not mix with arrays of text; empty lists do.
        plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in column]
        return pa.array(plain, from_pandas=True)


def joined(column: pd.Series | pa.ChunkedArray) -> pa.Array:
    """Return a column of lists as space-separated text; a missing list or token is empty text."""
    array = _one_array(column)
    words = pc.fill_null(pc.list_flatten(array).cast(pa.string()), "")
    return pc.binary_join(pa.LargeListArray.from_arrays(pa.array(_offsets(array)), words), SEPARATOR)


def refuse_separators(column: pd.Series | pa.ChunkedArray, name: str, path: Path) -> None:
    """Refuse tokens of lists that would not survive being joined.

    Raises
    ------
    DataError
        Naming the column and the number of tokens.
    """
    words = pc.list_flatten(_one_array(column)).cast(pa.string())
    count = pc.sum(pc.match_substring(words, SEPARATOR)).as_py() or 0
    if count:
        raise DataError(
            f"Cannot write {str(path)!r}: {count:,} tokens of the sequence column {name!r} contain a space, which "
            "separates tokens there; replace it or write Parquet."
        )


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of what a dictionary stands for, any other type as it is."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _one_array(column: pd.Series | pa.Array | pa.ChunkedArray) -> pa.Array:
    array = pa.array(column) if isinstance(column, pd.Series) else column
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _offsets(lists: pa.Array) -> np.ndarray:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _merge(codes: np.ndarray, values: Any) -> tuple[np.ndarray, list[str]]:
    """Codes into `values` -> codes into their distinct canonical tokens, -1 where missing."""
    if pd.api.types.infer_dtype(values, skipna=False) == "string":
        spelt = np.array(values, dtype=object)
        spelt[spelt == ""] = None
    else:
        spelt = np.empty(len(values), dtype=object)
        spelt[:] = [_spell(value) for value in values]
    renumbered, tokens = pd.factorize(spelt)
    lookup = np.append(renumbered, -1).astype(np.int32)
    return lookup[codes], list(tokens)


def _spell(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return str(value)


def _arrow_lists(column: pd.Series) -> pa.Array:
    plain = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    try:
        array = _one_array(arrow_array(plain))
    except pa.ArrowException as error:
        raise DataError(
            f"Column {column.name!r} mixes types within or between its lists; give each row a list of strings."
        ) from error
    if pa.types.is_null(array.type):
        return array.cast(pa.list_(pa.string()))
    if is_text(array.type):
        return pc.split_pattern(array, SEPARATOR)
    if is_list(array.type) and not pa.types.is_nested(array.type.value_type):
        return array
    raise DataError(
        f"Column {column.name!r} holds {array.type} where 'token_seq' needs lists or text separated by spaces; "
        "declare it as 'token' or 'float'."
    )
