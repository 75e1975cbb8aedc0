"""Batches cut from packed tensors: what a stock DataLoader of `(x_dict, ys)` gives, without its row-by-row work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cvr_plugins.data.encoding import Encoded
from cvr_plugins.options import check_count, check_number
from cvr_plugins.rechub.labels import check_label

Batch = tuple[dict[str, Tensor], Tensor]


class _Packed(NamedTuple):
    """Columns of features: ids `[N, F]` and dense values `[N, K]` of these names, and those of their own width."""

    sparse: Tensor | None
    sparse_names: tuple[str, ...]
    dense: Tensor | None
    dense_names: tuple[str, ...]
    wide: dict[str, Tensor]


class TensorLoader:
    """Iterate over `(x_dict, ys)` batches of columns held as packed tensors.

    Works wherever torch-rechub takes a DataLoader, with `CVRTrainer` and with stock trainers.

    Parameters
    ----------
    x
        Feature name -> array, `[N]` (integers: token ids; floats: dense values) or `[N, L]` (integers: padded
        sequences; floats: dense vectors). Or what a `Vocabulary` encoded, which is not copied.
    y
        Label name -> `[N]`, 0/1 (`propensity`: in [0, 1]); `ys` has one float column each, in the order of
        `label_columns`.
    batch_size
        Rows a batch; the last may be smaller.
    shuffle
        A new order each epoch, drawn from `seed` and the epoch's number alone (`set_epoch`; each iteration moves on by
        one).
    seed
        Of the orders and of the unclicked rows drawn.
    non_click_fraction
        Share, in (0, 1], of the rows with click = 0 that an iteration gives beside all others: a random one, drawn
        without replacement from seed and epoch, anew each epoch, and rounded to rows (at least one of them). Clicks are
        then more frequent than in the log; CVRTrainer has the model correct what it predicts for that.
    device
        Where batches are delivered.
    groups
        `[N]` users for per-user metrics, or None.

    Raises
    ------
    ValueError
        For columns that are not numbers, of different lengths, without rows or of other dimensions, labels that are not
        0 and 1, an impossible batch size, seed or fraction, and a fraction below 1 without the label column `click`.

    Notes
    -----
    Integers are packed in 32 bits where they fit, floats as float32; whole numbers that float32 cannot hold are packed
    as integers.

    References
    ----------
    Huang et al., NISE, RecSys 2024, section 5.7, for non_click_fraction.
    """

    def __init__(
        self,
        x: Mapping[str, Any] | Encoded,
        y: Mapping[str, Any],
        *,
        batch_size: int = 2048,
        shuffle: bool = False,
        seed: int = 0,
        non_click_fraction: float = 1.0,
        device: str | torch.device = "cpu",
        groups: Any = None,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("seed", seed, least=0)
        check_number("non_click_fraction", non_click_fraction, low=0, high=1, open_low=True)
        packed = _packed(x)
        labels = {name: _tensor(name, values).to(torch.float32) for name, values in y.items()}
        for name, column in labels.items():
            if column.dim() != 1:
                raise ValueError(f"The label column {name!r} must have one value per row; got {list(column.shape)}.")
            check_label(name, column.numpy(), "the data")
        columns = [packed.sparse, packed.dense, *packed.wide.values(), *labels.values()]
        lengths = {len(each) for each in columns if each is not None}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"All columns must have the same number of rows, at least one; got {sorted(lengths)}.")
        (self.rows,) = lengths
        if groups is not None and len(groups) != self.rows:
            raise ValueError(f"groups must have one entry per row ({self.rows}); got {len(groups)}.")
        self._packed = packed
        self.label_columns = tuple(labels)
        self._labels = torch.stack([*labels.values()], dim=1) if labels else torch.empty(self.rows, 0)
        self.non_click_fraction = float(non_click_fraction)
        self._unclicked = self._drawn = 0
        if self.non_click_fraction < 1:
            if "click" not in labels:
                raise ValueError(
                    f"non_click_fraction={non_click_fraction!r} needs the label column 'click'; "
                    f"got {', '.join(map(repr, labels)) or 'none'}."
                )
            self._unclicked = int((labels["click"] == 0).sum())
            self._drawn = min(self._unclicked, max(1, round(self.non_click_fraction * self._unclicked)))
        self.groups = None if groups is None else np.asarray(groups)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.device = torch.device(device)
        self.epoch = 0

    @classmethod
    def from_encoded(cls, encoded: Encoded, y: Mapping[str, Any], **options: Any) -> TensorLoader:
        """Make a loader of a vocabulary's encoded rows, as `TensorLoader(encoded, y, **options)` does."""
        return cls(encoded, y, **options)

    @property
    def unclicked_share(self) -> float:
        """The share of the unclicked rows that an iteration gives, of whole rows."""
        return self._drawn / self._unclicked if self._unclicked else 1.0

    def __len__(self) -> int:
        """Return the number of batches of an iteration."""
        return -(-(self.rows - self._unclicked + self._drawn) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = self._next_order()
        if order is None:
            yield from self.in_order()
            return
        for start in range(0, len(order), self.batch_size):
            yield self._batch(order[start : start + self.batch_size])

    def _next_order(self) -> Tensor | None:
        """Draw the rows of the next epoch, None for all of them as they stand."""
        sampling = self._drawn < self._unclicked
        if not self.shuffle and not sampling:
            return None
        # Seed and epoch, not a running generator: a resumed run draws the orders an uninterrupted one would have.
        draw = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        if not sampling:
            return torch.from_numpy(draw.permutation(self.rows))
        clicked = self._labels[:, self.label_columns.index("click")].numpy() != 0
        chosen = draw.choice(np.flatnonzero(~clicked), self._drawn, replace=False, shuffle=False)
        clicked[chosen] = True
        rows = np.flatnonzero(clicked)
        return torch.from_numpy(draw.permutation(rows) if self.shuffle else rows)

    def set_epoch(self, epoch: int) -> None:
        """Draw the next order for `epoch`; CVRTrainer calls it, so that each `fit` sees the same orders."""
        self.epoch = epoch

    def in_order(self) -> Iterator[Batch]:
        """Iterate over all rows as they stand, whatever `shuffle` and `non_click_fraction` say."""
        for start in range(0, self.rows, self.batch_size):
            yield self._batch(slice(start, min(start + self.batch_size, self.rows)))

    def labels(self) -> dict[str, np.ndarray]:
        """Return label name -> column `[N]`."""
        return {name: self._labels[:, i].numpy() for i, name in enumerate(self.label_columns)}

    def digest(self) -> str:
        """Return the SHA-256 of all rows in their order, features and labels, in hexadecimal."""
        packed, found = self._packed, hashlib.sha256()
        named = {"sparse": packed.sparse, "dense": packed.dense, **packed.wide, "labels": self._labels}
        for name, values in named.items():
            if values is not None:
                found.update(f"{name} {list(values.shape)} {values.dtype} ".encode())
                found.update(values.contiguous().numpy().data)
        return found.hexdigest()

    def to(self, device: str | torch.device) -> TensorLoader:
        """Deliver batches on `device` from now on; returns the loader itself."""
        self.device = torch.device(device)
        return self

    def _batch(self, rows: Tensor | slice) -> Batch:
        x: dict[str, Tensor] = {}
        packed = self._packed
        for block, names in ((packed.sparse, packed.sparse_names), (packed.dense, packed.dense_names)):
            if block is not None:
                # One transfer and one transposition for all columns; each is then contiguous.
                columns = self._take(block, rows).t().contiguous()
                x.update(zip(names, columns.unbind(0), strict=True))
        for name, values in packed.wide.items():
            x[name] = self._take(values, rows)
        return x, self._take(self._labels, rows)

    def _take(self, values: Tensor, rows: Tensor | slice) -> Tensor:
        taken = values[rows] if isinstance(rows, slice) else values.index_select(0, rows)
        return taken.to(self.device, non_blocking=True)


def _packed(x: Mapping[str, Any] | Encoded) -> _Packed:
    if isinstance(x, Encoded):
        return _Packed(
            _from_numpy(x.sparse) if x.sparse_names else None,
            tuple(x.sparse_names),
            _from_numpy(x.dense) if x.dense_names else None,
            tuple(x.dense_names),
            {name: _from_numpy(ids) for name, ids in x.sequences.items()},
        )
    columns = {name: _tensor(name, values) for name, values in x.items()}
    flat = {name: column for name, column in columns.items() if column.dim() == 1}
    tokens = {name: column for name, column in flat.items() if not column.is_floating_point()}
    floats = {name: column for name, column in flat.items() if column.is_floating_point()}
    wide = {name: column for name, column in columns.items() if column.dim() == 2}
    return _Packed(_stack(tokens), tuple(tokens), _stack(floats), tuple(floats), wide)


def _tensor(name: str, values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except ValueError:
            array = np.asarray(values, dtype=object)
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"Column {name!r} must hold numbers, equally many in each row; got an array of {array.dtype}. "
                "Encode tokens as ids, fill missing values and pad sequences first."
            )
        values = _from_numpy(array.astype(np.int64) if array.dtype.kind in "bu" else array)
    tensor: Tensor = values.detach().cpu()
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.int32)
    if tensor.dim() not in (1, 2):
        raise ValueError(f"Column {name!r} must have one or two dimensions; got shape {list(tensor.shape)}.")
    if tensor.dtype == torch.float64 and len(tensor) and tensor.abs().max() >= _FLOAT32_EXACT:
        whole = tensor.long()
        return whole if bool((whole == tensor).all()) else tensor
    return tensor


_FLOAT32_EXACT = 2**24
"""Whole numbers below this are exact in float32; ids read as floats (from a column with gaps, say) may exceed it."""


def _from_numpy(array: np.ndarray) -> Tensor:
    # Read-only arrays (from Arrow, say) and reversed views cannot be shared with torch.
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def _stack(columns: Mapping[str, Tensor]) -> Tensor | None:
    """Pack columns `[N]` as `[N, C]`; None for no column. Raises ValueError for different lengths."""
    if not columns:
        return None
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"All columns must have the same number of rows; got {lengths}.")
    dtype = torch.float32
    if all(not column.is_floating_point() for column in columns.values()):
        ends = [int(end) for column in columns.values() if len(column) for end in column.aminmax()]
        fits = all(-(2**31) <= end < 2**31 for end in ends)
        dtype = torch.int32 if fits else torch.int64
    return torch.stack([column.to(dtype) for column in columns.values()], dim=1)
