"""From a batch's feature values to the concatenated input of an architecture, the same in every framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Inputs, Layout

DENSE_CHOICES = ("raw", "tanh")


def normal_table(rows: int, width: int, padding_idx: int | None = None, *, std: float = 1e-4) -> nn.Embedding:
    """Return an embedding table drawn from N(0, std^2), its padding row 0.

    torch-rechub's `RandomNormal` draws the same numbers: equal seeds give equal models in both frameworks.
    """
    table = nn.Embedding(rows, width, padding_idx=padding_idx)
    nn.init.normal_(table.weight, 0.0, std)
    if padding_idx is not None:
        nn.init.zeros_(table.weight[padding_idx])
    return table


@dataclass(frozen=True)
class Field:
    """One feature of a model, as its encoder reads it; each framework describes its own features as these.

    Parameters
    ----------
    name
        Under which a batch holds its values.
    kind
        "token": ids `[B]`; "token_seq": padded ids `[B, L]`; "dense": numbers `[B]` or `[B, width]`.
    width
        Of the embedding, or how many numbers a dense feature is.
    rows
        Of its table, which takes the ids 0 to `rows - 1`.
    padding
        Id that fills a sequence up and counts for nothing; None for -1. As in `torch.nn.Embedding`, the table's row of
        it is not trained.
    pooling
        What becomes of a sequence's embeddings: their "mean" or "sum" over the positions that are not padding, 0
        without any.
    shared_with
        Name of the feature whose table it uses, None for one of its own.
    initializer
        Makes the table: called with `rows`, `width` and `padding_idx=padding`.
    """

    name: str
    kind: str
    width: int
    rows: int = 0
    padding: int | None = None
    pooling: str = "mean"
    shared_with: str | None = None
    initializer: Callable[..., nn.Embedding] = normal_table

    @property
    def dense(self) -> bool:
        """Whether its values enter as they are, without an embedding."""
        return self.kind == "dense"


class Encoder(nn.Module):
    """Embed features and concatenate them, dense values last: name -> values of a batch to `[B, E]`.

    Embedded features and dense ones are each in the order of `fields`. Every encoder has tables of its own, so that two
    models of the same features share none.

    Parameters
    ----------
    fields
        The features; the encoder keeps them as a tuple under this name.
    dense
        "raw" passes dense values through; "tanh" gives `tanh((v - mean) / std)` (Wen et al., eq. 17).
    dense_stats
        For "tanh": name -> (mean, std) of a dense feature in the training data.

    Raises
    ------
    ValueError
        For no feature, two of one name, another pooling, a `shared_with` that has no table of its own or one of another
        width, a table that the initializer refuses to make, and missing or unusable `dense_stats`.

    References
    ----------
    Wen et al., ESM2, SIGIR 2020, for "tanh".
    """

    _like: Tensor
    dense_mean: Tensor
    dense_std: Tensor

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        dense: str = "raw",
        dense_stats: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__()
        _check(fields)
        self.fields = tuple(fields)
        self.embedded = [field for field in fields if not field.dense]
        self.dense_fields = [field for field in fields if field.dense]
        owners = [field for field in self.embedded if field.shared_with is None]
        place = {field.name: i for i, field in enumerate(owners)}
        self._table_of = {field.name: place[field.shared_with or field.name] for field in self.embedded}
        # A list, not a ModuleDict: that refuses feature names such as "type" or "a.b".
        self.tables = nn.ModuleList(_new_table(field) for field in owners)
        self.dense = dense
        # Holds nothing but the type that dense values are brought to, following `.double()` and `.to()`.
        self.register_buffer("_like", torch.empty(0), persistent=False)
        self._set_dense_stats(dense_stats)
        self.layout = Layout(
            embedded=tuple(field.width for field in self.embedded),
            dense=sum(field.width for field in self.dense_fields),
            names=tuple(field.name for field in self.embedded),
        )

    def _set_dense_stats(self, stats: Mapping[str, tuple[float, float]] | None) -> None:
        if self.dense not in DENSE_CHOICES:
            raise ValueError(f"dense must be one of {', '.join(DENSE_CHOICES)}; got {self.dense!r}.")
        if self.dense == "raw":
            if stats is not None:
                raise ValueError("dense_stats is only used with dense='tanh'; got it with dense='raw'.")
            return
        given = stats or {}
        missing = [field.name for field in self.dense_fields if field.name not in given]
        if missing:
            raise ValueError(f"dense='tanh' needs dense_stats (mean, std) for every dense feature; missing: {missing}.")
        pairs = [_mean_and_std(f.name, given[f.name]) for f in self.dense_fields for _ in range(f.width)]
        self.register_buffer("dense_mean", torch.tensor([mean for mean, _ in pairs]))
        # A constant feature has no spread to divide by; its centred value is 0 whatever the divisor.
        self.register_buffer("dense_std", torch.tensor([std or 1.0 for _, std in pairs]))

    def table(self, name: str) -> nn.Embedding:
        """Return the table that a feature's embeddings are looked up in."""
        return cast(nn.Embedding, self.tables[self._table_of[name]])

    def forward(self, x: Inputs) -> Tensor:
        """Return the concatenated input `[B, E]`.

        Raises
        ------
        ValueError
            Naming a feature that `x` lacks or that has the wrong shape, and on the CPU one with an id outside its
            table.
        """
        missing = [field.name for field in self.fields if field.name not in x]
        if missing:
            raise ValueError(f"The batch lacks the features {missing}; it has {sorted(x)}.")
        try:
            parts = [self._embed(field, x[field.name]) for field in self.embedded]
        except IndexError as error:
            raise ValueError(self._misplaced_ids(x)) from error
        if self.dense_fields:
            parts.append(self._dense_values(x))
        return torch.cat(parts, dim=1)

    def _embed(self, field: Field, values: Tensor) -> Tensor:
        table = self.table(field.name)
        ids = values if values.dtype in (torch.int64, torch.int32) else values.long()
        sequence = field.kind == "token_seq"
        if ids.dim() != 1 + sequence:
            wanted = "[B, L], one row of ids" if sequence else "[B], one id"
            raise ValueError(
                f"Feature {field.name!r} takes values {wanted} per exposure; the batch has shape {list(ids.shape)}."
            )
        if not sequence:
            embedded: Tensor = table(ids)
            return embedded
        real = _is_real(field, ids)
        weights = real.to(table.weight.dtype).unsqueeze(1)
        # What stands at a position without weight is read but never counted; -1 could not be read.
        summed = torch.bmm(weights, table(ids.masked_fill(~real, 0))).squeeze(1)
        return summed if field.pooling == "sum" else summed / weights.sum(dim=2).clamp(min=1)

    def _dense_values(self, x: Inputs) -> Tensor:
        columns = [x[field.name].to(self._like.dtype) for field in self.dense_fields]
        columns = [column.unsqueeze(1) if column.dim() == 1 else column for column in columns]
        for field, column in zip(self.dense_fields, columns, strict=True):
            if column.dim() != 2 or column.shape[1] != field.width:
                raise ValueError(
                    f"Dense feature {field.name!r} was declared {field.width} wide; "
                    f"the batch has shape {list(x[field.name].shape)}."
                )
        values = torch.cat(columns, dim=1)
        return torch.tanh((values - self.dense_mean) / self.dense_std) if self.dense == "tanh" else values

    def _misplaced_ids(self, x: Inputs) -> str:
        for field in self.embedded:
            ids = x[field.name].long()
            rows = self.table(field.name).num_embeddings
            wrong = (ids < 0) | (ids >= rows)
            if field.kind == "token_seq":
                wrong &= _is_real(field, ids)
            if wrong.any():
                table = f"table of {field.shared_with!r}" if field.shared_with else "table"
                return (
                    f"Feature {field.name!r} has {int(wrong.sum())} ids outside its {table}, which holds 0 to "
                    f"{rows - 1}; the first is {int(ids[wrong][0])}. Raise vocab_size, or map unseen values to a "
                    "known id."
                )
        return "A feature has an id outside its table."


def _is_real(field: Field, ids: Tensor) -> Tensor:
    return ids != (-1 if field.padding is None else field.padding)


def _new_table(field: Field) -> nn.Embedding:
    try:
        table = field.initializer(field.rows, field.width, padding_idx=field.padding)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The initializer of feature {field.name!r} makes no table of vocab_size {field.rows!r} and embed_dim "
            f"{field.width!r}: {str(error) or 'its weights have another shape'}."
        ) from error
    # torch-rechub's initializer `Pretrained` hands out its own tensor, which two models would then train.
    table.weight = nn.Parameter(table.weight.detach().clone(), requires_grad=table.weight.requires_grad)
    return table


def _mean_and_std(name: str, pair: tuple[float, float]) -> tuple[float, float]:
    try:
        mean, std = map(float, pair)
    except (TypeError, ValueError):
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise ValueError(
            f"dense_stats of {name!r} must be a finite mean and a standard deviation of at least 0; got {pair!r}."
        )
    return mean, std


def _check(fields: Sequence[Field]) -> None:
    if not fields:
        raise ValueError("A model needs at least one feature; got an empty list.")
    by_name: dict[str, Field] = {}
    for field in fields:
        if field.name in by_name:
            raise ValueError(f"Two features are named {field.name!r}; feature names must differ.")
        by_name[field.name] = field
        if field.pooling not in ("mean", "sum"):
            raise ValueError(
                f"Sequence feature {field.name!r} has pooling {field.pooling!r}; CVR models take 'mean' or 'sum'."
            )
    for field in fields:
        if field.shared_with is None:
            continue
        owner = by_name.get(field.shared_with)
        if owner is None or owner.dense or owner.shared_with is not None:
            raise ValueError(
                f"Feature {field.name!r} has shared_with={field.shared_with!r}, which is not a feature with a table of "
                "its own."
            )
        if owner.width != field.width:
            raise ValueError(
                f"Feature {field.name!r} shares the table of {owner.name!r} but declares embed_dim {field.width}, "
                f"not {owner.width}."
            )
