"""From a funnel log to arrays: token ids learnt from the training part, sequences padded, dense values as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd

from cvr_plugins.data.checks import finite
from cvr_plugins.data.errors import DataError, quoted, require_columns, rows
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Kind
from cvr_plugins.data.tokens import as_token_lists, as_tokens
from cvr_plugins.options import check_count

MISSING, UNKNOWN, FIRST = 0, 1, 2
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Encoded:
    """The features of N exposures as arrays.

    Parameters
    ----------
    sparse
        Ids, int32 `[N, F]`.
    sparse_names
        Its columns.
    sequences
        Name -> ids, int32 `[N, L]`, zero-padded at the end.
    dense
        Raw values, float32 `[N, K]`.
    dense_names
        Its columns.
    unknown
        Name -> how many tokens were mapped to the unknown id.
    """

    sparse: np.ndarray
    sparse_names: tuple[str, ...]
    sequences: dict[str, np.ndarray]
    dense: np.ndarray
    dense_names: tuple[str, ...]
    unknown: dict[str, int]

    def __len__(self) -> int:
        return len(self.sparse)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ids of every token feature, as found in a training log; made by `fit`.

    Id 0 is a missing token and the padding of sequences, id 1 a token that training did not hold (or held fewer than
    `min_count` times), ids from 2 are the tokens in sorted order.

    Parameters
    ----------
    features
        Those encoded.
    ids
        The user and the item column.
    tokens
        Feature -> its tokens.
    lengths
        Sequence feature -> L.
    dense_stats
        Dense feature -> mean and population standard deviation over the training log (1 where that is 0, so that one
        can divide by it).
    """

    features: tuple[Feature, ...]
    ids: tuple[str, str]
    tokens: Mapping[str, tuple[str, ...]]
    lengths: Mapping[str, int]
    dense_stats: Mapping[str, tuple[float, float]]

    @classmethod
    def fit(cls, train: FunnelLog, *, max_length: int = 50, min_count: int = 1) -> Vocabulary:
        """Learn ids, sequence lengths and dense statistics from the training part.

        Parameters
        ----------
        train
            The training part.
        max_length
            L of a sequence is its longest length there, at least 1 and at most this.
        min_count
            How often a token must occur there.

        Raises
        ------
        DataError
            If `max_length` or `min_count` is below 1.
        """
        for option, value in (("max_length", max_length), ("min_count", min_count)):
            check_count(option, value, error=DataError)
        tokens: dict[str, tuple[str, ...]] = {}
        lengths: dict[str, int] = {}
        stats: dict[str, tuple[float, float]] = {}
        for feature in train.schema.features:
            column = train.frame[feature.name]
            if feature.kind == "float":
                values = column.to_numpy(dtype=np.float64)
                stats[feature.name] = (float(values.mean()), float(values.std()) or 1.0)
            elif feature.kind == "token_seq":
                lists = as_token_lists(column)
                tokens[feature.name] = _frequent(lists.codes, lists.tokens, min_count)
                lengths[feature.name] = int(np.clip(np.diff(lists.offsets).max(initial=0), 1, max_length))
            else:
                # A part of a log keeps the categories of the whole log: only those that occur may be counted.
                tokens[feature.name] = _frequent(column.cat.codes.to_numpy(), list(column.cat.categories), min_count)
        return cls(train.schema.features, (train.schema.user, train.schema.item), tokens, lengths, stats)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of an embedding table for each token and sequence feature, the two reserved ids included."""
        return {name: len(tokens) + FIRST for name, tokens in self.tokens.items()}

    def transform(self, source: pd.DataFrame | FunnelLog) -> Encoded:
        """Encode a log, or any table with the feature columns; labels are not needed.

        Raises
        ------
        DataError
            If a feature column is missing or doubled, an id is missing, or a float is missing or infinite.
        """
        frame = source.frame if isinstance(source, FunnelLog) else source
        where = f"Log {source.name!r}" if isinstance(source, FunnelLog) else "The table"
        require_columns(list(frame.columns), [feature.name for feature in self.features], where)
        names = {kind: tuple(f.name for f in self.features if f.kind == kind) for kind in get_args(Kind)}
        sparse = np.empty((len(frame), len(names["token"])), dtype=np.int32)
        dense = np.empty((len(frame), len(names["float"])), dtype=np.float32)
        sequences: dict[str, np.ndarray] = {}
        unknown: dict[str, int] = {}
        for position, name in enumerate(names["token"]):
            words = as_tokens(frame[name])
            missing = int((words.codes < 0).sum())
            if missing and name in self.ids:
                raise DataError(f"{where}: id column {name!r} is missing in {rows(missing)}; fill or drop them.")
            sparse[:, position] = self._lookup(name, words.categories)[words.codes]
            unknown[name] = int((sparse[:, position] == UNKNOWN).sum())
        for name in names["token_seq"]:
            sequences[name] = self._padded(name, frame[name])
            unknown[name] = int((sequences[name] == UNKNOWN).sum())
        for position, name in enumerate(names["float"]):
            dense[:, position] = finite(frame[name], where)
        return Encoded(sparse, names["token"], sequences, dense, names["float"], unknown)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; `from_dict` gives back a vocabulary that encodes identically."""
        return {
            "version": _VERSION,
            "features": [{"name": f.name, "kind": f.kind, "side": f.side} for f in self.features],
            "ids": list(self.ids),
            "tokens": {name: list(tokens) for name, tokens in self.tokens.items()},
            "lengths": dict(self.lengths),
            "dense_stats": {name: list(stats) for name, stats in self.dense_stats.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary that `to_dict` describes.

        Raises
        ------
        DataError
            If the values do not describe a vocabulary of this version.
        """
        if values.get("version") != _VERSION:
            raise DataError(f"The vocabulary has version {values.get('version')!r}, this program reads {_VERSION}.")
        try:
            features = tuple(Feature(**feature) for feature in values["features"])
            user, item = (str(name) for name in values["ids"])
            tokens = {str(name): tuple(str(token) for token in words) for name, words in values["tokens"].items()}
            lengths = {str(name): int(length) for name, length in values["lengths"].items()}
            stats = {str(name): (float(mean), float(std)) for name, (mean, std) in values["dense_stats"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"The vocabulary is damaged: {type(error).__name__}: {error}. Fit it again.") from error
        made = cls(features, (user, item), tokens, lengths, stats)
        for what, kinds, found in (
            ("tokens", ("token", "token_seq"), tokens),
            ("lengths", ("token_seq",), lengths),
            ("dense_stats", ("float",), stats),
        ):
            differ = sorted({feature.name for feature in features if feature.kind in kinds} ^ set(found))
            if differ:
                found_in = f"its {what} do not match its features in {quoted(differ)}"
                raise DataError(f"The vocabulary is damaged: {found_in}. Fit it again.")
        doubled = [name for name, words in tokens.items() if len(set(words)) < len(words)]
        if doubled:
            raise DataError(f"The vocabulary is damaged: {quoted(doubled)} holds a token twice. Fit it again.")
        return made

    @cached_property
    def _indexes(self) -> dict[str, pd.Index]:
        return {name: pd.Index(tokens, dtype=object) for name, tokens in self.tokens.items()}

    def _lookup(self, name: str, words: Any) -> np.ndarray:
        """The id of each word, and MISSING in the last place, where code -1 points."""
        found = self._indexes[name].get_indexer(pd.Index(words, dtype=object))
        return np.append(np.where(found < 0, UNKNOWN, found + FIRST), MISSING).astype(np.int32)

    def _padded(self, name: str, column: pd.Series) -> np.ndarray:
        lists = as_token_lists(column)
        length = self.lengths[name]
        kept = np.minimum(np.diff(lists.offsets), length)
        padded = np.full((len(column), length), MISSING, dtype=np.int32)
        inside = np.arange(length) < kept[:, None]
        positions = (lists.offsets[:-1, None] + np.arange(length))[inside]
        padded[inside] = self._lookup(name, lists.tokens)[lists.codes[positions]]
        return padded


def _frequent(codes: np.ndarray, tokens: list[str], min_count: int) -> tuple[str, ...]:
    counts = np.bincount(codes[codes >= 0], minlength=len(tokens))
    return tuple(sorted(tokens[code] for code in np.flatnonzero(counts >= min_count)))
