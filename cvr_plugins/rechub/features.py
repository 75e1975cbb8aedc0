"""torch-rechub's features, as the encoder reads them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeAlias

from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins.encoder import Field

Feature: TypeAlias = SparseFeature | SequenceFeature | DenseFeature


def fields_of(features: Sequence[Feature]) -> list[Field]:
    """Return features as the fields of an `Encoder`.

    A sequence is pooled over the positions that are not `padding_idx`; without one, not -1.

    Raises
    ------
    ValueError
        For a feature of another kind.
    """
    return [_field(feature) for feature in features]


def _field(feature: Feature) -> Field:
    if isinstance(feature, DenseFeature):
        return Field(feature.name, "dense", feature.embed_dim)
    if not isinstance(feature, (SparseFeature, SequenceFeature)):
        raise ValueError(
            "Features must be torch-rechub's SparseFeature, SequenceFeature or DenseFeature; "
            f"got {type(feature).__name__}: {feature!r}."
        )
    sequence = isinstance(feature, SequenceFeature)
    return Field(
        feature.name,
        "token_seq" if sequence else "token",
        feature.embed_dim,
        feature.vocab_size,
        padding=feature.padding_idx,
        pooling=feature.pooling if sequence else "mean",
        shared_with=feature.shared_with,
        initializer=feature.initializer,
    )


def without_table(feature: Feature) -> Feature:
    """Return a copy of a feature that carries no embedding table.

    A stock model keeps its table on the feature it was built from, so that a second model would train the same one.
    """
    copied = copy.copy(feature)
    copied.__dict__.pop("embed", None)
    return copied
