"""Ali-CCP: exposures of Taobao's recommender with clicks and purchases, in the raw or the pre-processed form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.finding import find_files
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Schema
from cvr_plugins.data.source import BATCH_ROWS, Source
from cvr_plugins.data.tables import with_dictionaries

USER_FIELDS = ("101", "109_14", "110_14", "121", "122", "124", "125", "126", "127", "127_14", "128", "129", "150_14")
ITEM_FIELDS = ("205", "206", "207", "210", "216")
CONTEXT_FIELDS = ("301", "508", "509", "702", "853")
WEIGHTED = ("109_14", "110_14", "127_14", "150_14", "508", "509", "702", "853")
"""Fields of which the weight is a feature, too: the column `D<field>`."""

_SKELETON = ("sample_id", "click", "purchase", "common", "feature_num", "features")
_COMMON = ("common", "feature_num", "features")
_TYPES = {"click": pa.float64(), "purchase": pa.float64(), "common": pa.string(), "features": pa.string()}
_PARTS = {"train": "train", "val": "valid", "test": "test"}


def _schema() -> Schema:
    features = []
    for side, fields in (("user", USER_FIELDS), ("item", ITEM_FIELDS), ("context", CONTEXT_FIELDS)):
        features += [Feature(field, "token", side) for field in fields]  # type: ignore[arg-type]
        features += [Feature(f"D{field}", "float", side) for field in fields if field in WEIGHTED]  # type: ignore[arg-type]
    return Schema("101", "205", "click", "purchase", features=tuple(features), part="part")


def ali_ccp(*, path: str | Path | None = None) -> FunnelLog:
    """Return Ali-CCP with its published parts: click, purchase as conversion, 23 token features and 8 weights.

    A missing field is a missing token with the weight 0. Purchases without a click, which occur, are masked, and a note
    counts them.

    Parameters
    ----------
    path
        A folder in one of two forms.

        - Raw: `sample_skeleton_{train,test}.csv` and `common_features_{train,test}.csv`. Where a field has several
          entries in a row (what a user visited, say), the one with the largest weight is kept, the first among equals.
          There is no validation part: `eval_args: {split: {PS: 0.1}}` takes a tenth of the training rows.
        - Pre-processed, as torch-rechub has it: `ali_ccp_{train,val,test}.csv`, one column per field, or the
          `_sample.csv` files of that form.

    Raises
    ------
    DataError
        If the files are not found, cannot be read or fail a check.

    Notes
    -----
    The feature lists are parsed as a stream, but the log itself is held in memory: 85 million rows take about 20 GB,
    and a run needs about three times that.

    References
    ----------
    Ma et al., ESMM, SIGIR 2018.
    """
    raw = tuple(f"{kind}_{part}.csv" for part in ("train", "test") for kind in ("sample_skeleton", "common_features"))
    plain = [tuple(f"ali_ccp_{part}{suffix}.csv" for part in _PARTS) for suffix in ("", "_sample")]
    files = find_files(path, [raw, *plain], name="Ali-CCP")
    if files[0].name == raw[0]:
        parts = {"train": _raw(files[0], files[1]), "test": _raw(files[2], files[3])}
    else:
        parts = {_PARTS[part]: _preprocessed(file) for part, file in zip(_PARTS, files, strict=True)}
    tables = [
        table.append_column("part", pa.array([part] * len(table)).dictionary_encode())
        for part, chunks in parts.items()
        for table in chunks
    ]
    if not tables:
        raise DataError(f"The files of Ali-CCP in {str(path)!r} hold no row.")
    frame = pa.concat_tables(tables).unify_dictionaries().to_pandas(self_destruct=True)
    return FunnelLog.from_frame(frame, _schema(), name="ali-ccp")


def _preprocessed(file: Path) -> Iterator[pa.Table]:
    schema = _schema()
    types = {name: pa.string() if kind == "token" else pa.float64() for name, kind in schema.kinds.items()}
    types.update(click=pa.float64(), purchase=pa.float64())
    return map(with_dictionaries, Source.open(file).tables(types, list(types)))


def _raw(skeleton: Path, common: Path) -> Iterator[pa.Table]:
    """The rows of a skeleton with their own fields and those of the common features that they point to."""
    shared = list(_parsed(common, _COMMON, USER_FIELDS))
    if not shared:
        raise DataError(f"File {str(common)!r} has no row.")
    users = pa.concat_tables(shared).unify_dictionaries().combine_chunks()
    index = pd.Index(users.column("common").to_numpy())
    if not index.is_unique:
        raise DataError(f"File {str(common)!r} repeats a common_feature_index; it must hold one row for each.")
    users = users.drop_columns(["common"])
    for table in _parsed(skeleton, _SKELETON, (*ITEM_FIELDS, *CONTEXT_FIELDS)):
        rows = index.get_indexer(table.column("common").to_numpy())
        unknown = int((rows < 0).sum())
        if unknown:
            raise DataError(
                f"File {str(skeleton)!r}: {unknown:,} of {len(rows):,} rows point to a common_feature_index that "
                f"{str(common)!r} lacks; use the two files of one part."
            )
        own = table.drop_columns(["common"])
        for name in users.column_names:
            own = own.append_column(name, users.column(name).take(pa.array(rows)))
        yield own


def _parsed(file: Path, columns: tuple[str, ...], fields: tuple[str, ...]) -> Iterator[pa.Table]:
    """The labels, the index of the common features and the columns of ``fields``, block by block."""
    with file.open("rb") as opened:
        named = opened.read(64).startswith((b"sample_id", b"common_feature_index"))
    source = Source(file, ",", quoting=False, names=columns, skipped=int(named))
    kept = [name for name in columns if name in _TYPES]
    for table in source.tables(_TYPES, kept, BATCH_ROWS):
        entries = _entries(table.column("features").combine_chunks(), file)
        table = table.drop_columns(["features"])
        for field in fields:
            token, weight = _strongest(*entries, field, len(table))
            table = table.append_column(field, token)
            if field in WEIGHTED:
                table = table.append_column(f"D{field}", weight)
        yield table


def _entries(lists: pa.Array, file: Path) -> tuple[np.ndarray, pa.Array, pa.Array, np.ndarray]:
    r"""Row, field, id and weight of every entry of feature lists, `field \x02 id \x03 weight` joined by `\x01`."""
    filled = pc.greater(pc.binary_length(lists), 0)
    split = pc.split_pattern(lists.filter(filled), "\x01")
    rows = np.flatnonzero(filled.to_numpy(zero_copy_only=False))[pc.list_parent_indices(split).to_numpy()]
    field, rest = _halves(split.flatten(), "\x02", file)
    token, weight = _halves(rest, "\x03", file)
    try:
        return rows, field, token, weight.cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise DataError(f"File {str(file)!r} holds a weight that cannot be read: {error}. Use the original.") from error


def _halves(texts: pa.Array, mark: str, file: Path) -> tuple[pa.Array, pa.Array]:
    split = pc.split_pattern(texts, mark, max_splits=1)
    wrong = np.flatnonzero(pc.list_value_length(split).to_numpy() != 2)
    if wrong.size:
        entry = texts[int(wrong[0])].as_py()
        raise DataError(
            rf"File {str(file)!r} holds the feature {entry!r}, which is not 'field \x02 id \x03 weight'; "
            "use the original."
        )
    flat = split.flatten()
    first = np.arange(0, len(flat), 2)
    return flat.take(pa.array(first)), flat.take(pa.array(first + 1))


def _strongest(
    rows: np.ndarray, fields: pa.Array, tokens: pa.Array, weights: np.ndarray, field: str, count: int
) -> tuple[pa.Array, pa.Array]:
    """Token and weight of ``field`` in each of ``count`` rows, its entry of largest weight."""
    here = np.flatnonzero(pc.equal(fields, field).to_numpy(zero_copy_only=False))
    order = here[np.lexsort((np.arange(len(here)), -weights[here], rows[here]))]
    _, first = np.unique(rows[order], return_index=True)
    chosen = order[first]
    encoded = tokens.take(pa.array(chosen)).dictionary_encode()
    codes = np.full(count, -1, dtype=np.int32)
    codes[rows[chosen]] = encoded.indices.to_numpy()
    found = np.zeros(count)
    found[rows[chosen]] = weights[chosen]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary), pa.array(found)
