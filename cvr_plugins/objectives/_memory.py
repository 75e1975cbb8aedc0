"""The latest rows of some kind, kept as feature values so that they can be embedded anew whenever they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Inputs

_VALUES = "values:"
_WIDTH = "width:"


class RowMemory(nn.Module):
    """First in, first out: the latest `capacity` rows, as feature values.

    State is buffers, so that it follows `state_dict`, `.to(device)`, deepcopy and pickle: `seen`, the number of rows
    ever appended; per feature `values:<name>`, `[fill]` or `[fill, L]`, oldest row first, in the type it came in; per
    feature of the second kind `width:<name>` `[fill]`, how many columns each row had.

    Which features there are is known from the first row on only. Loading a state therefore replaces whatever rows
    are held, and a state of more rows than `capacity` is cut to the latest.
    """

    seen: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def fill(self) -> int:
        """Number of rows held."""
        return next((len(values) for values in self._held(_VALUES).values()), 0)

    @torch.no_grad()
    def append(self, rows: Inputs, chosen: Tensor) -> None:
        """Add the rows of a batch (feature name -> `[B]` or `[B, L]`) where `chosen [B]` is True, in their order.

        Raises ValueError for a feature of another shape, or for other features than those of the rows held.
        """
        index = chosen.nonzero().squeeze(1)
        if not len(index):
            return
        self._check(rows)
        added = {name: values[index[-self.capacity :]] for name, values in rows.items()}
        kept = max(self.capacity - len(index), 0)
        for name, values in added.items():
            if values.dim() == 2:
                self._put(_WIDTH + name, values.new_full((len(values),), values.shape[1], dtype=torch.int64), kept)
            self._put(_VALUES + name, values, kept)
        self.seen += len(index)

    @torch.no_grad()
    def embed(self, embed: Callable[[Inputs], Tensor], latest: int) -> Tensor:
        """Return what `embed` makes of the latest `latest` rows, `[min(latest, fill), E]`, oldest first, no gradient.

        Rows are embedded in groups that had the same widths in their batches, each without a column that it did not
        come with: what pads a sequence is known to the encoder alone. Raises ValueError if no row is asked for.
        """
        start = max(self.fill - latest, 0)
        rows = {name: values[start:] for name, values in self._held(_VALUES).items()}
        count = self.fill - start
        if count < 1:
            raise ValueError(f"There is no row to embed: {self.fill} held, the latest {latest} asked for.")
        widths = self._held(_WIDTH)
        if not widths:
            return embed(rows)
        shapes, group = torch.stack([w[start:] for w in widths.values()], dim=1).unique(dim=0, return_inverse=True)
        parts = []
        for number, shape in enumerate(shapes.tolist()):
            columns = dict(zip(widths, shape, strict=True))
            members = (group == number).nonzero().squeeze(1)
            parts.append(embed({n: v[members, : columns[n]] if n in columns else v[members] for n, v in rows.items()}))
        return torch.cat(parts)[group.argsort(stable=True).argsort()]

    def _held(self, kind: str) -> dict[str, Tensor]:
        """Feature name -> buffer of that kind."""
        named = {key: buffer for key, buffer in self._buffers.items() if key.startswith(kind) and buffer is not None}
        return {unquote(key.removeprefix(kind)): buffer for key, buffer in named.items()}

    def _check(self, rows: Inputs) -> None:
        for name, values in rows.items():
            if values.dim() not in (1, 2):
                raise ValueError(
                    f"Feature {name!r} has the shape {list(values.shape)}; rows are kept of features [B] or [B, L]."
                )
        held = {name: values.dim() for name, values in self._held(_VALUES).items()}
        found = {name: values.dim() for name, values in rows.items()}
        if held and held != found:
            differing = sorted(name for name in {**held, **found} if held.get(name) != found.get(name))
            raise ValueError(
                f"The batch's features {differing} are not those of the rows in memory, or are of another shape; "
                "train on the features that the memory was filled with, or start with a new model."
            )

    def _put(self, key: str, added: Tensor, kept: int) -> None:
        key = _key(key)
        before = self._buffers.get(key)
        if before is not None:
            # Of exactly the size needed: a view would keep, and save, the storage that it was cut from.
            before = before[-kept:] if kept else before[:0]
            if added.dim() == 2:
                width = max(before.shape[1], added.shape[1])
                before, added = _widened(before, width), _widened(added, width)
            added = torch.cat([before.to(added.device), added])
        self.register_buffer(key, added)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        error_messages = rest[-1]
        # A state without `seen` is not one of a memory: the rows held stay, and the missing key is reported.
        if prefix + "seen" in state_dict:
            found = {
                key.removeprefix(prefix): value
                for key, value in state_dict.items()
                if key.startswith((prefix + _VALUES, prefix + _WIDTH))
            }
            problem = _inconsistency(found)
            if problem:
                error_messages.append(f"The rows under {prefix!r} are not those of one memory: {problem}.")
                return
            for key in [key for key in self._buffers if key.startswith((_VALUES, _WIDTH))]:
                del self._buffers[key]
            for key, value in found.items():
                self.register_buffer(key, torch.empty_like(value, device=self.seen.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for key, buffer in list(self._buffers.items()):
            if buffer is not None and buffer.dim() and len(buffer) > self.capacity:
                self.register_buffer(key, buffer[-self.capacity :].clone())


def _key(name: str) -> str:
    # A buffer's name has no dot; a feature's may.
    return name.replace("%", "%25").replace(".", "%2E")


def _widened(values: Tensor, width: int) -> Tensor:
    return nn.functional.pad(values, (0, width - values.shape[1]))


def _inconsistency(found: Mapping[str, Any]) -> str:
    """Say what is wrong with a state's rows, or return ""."""
    if not all(isinstance(value, Tensor) for value in found.values()):
        return "an entry is not a tensor"
    values = {key.removeprefix(_VALUES): value for key, value in found.items() if key.startswith(_VALUES)}
    widths = {key.removeprefix(_WIDTH): value for key, value in found.items() if key.startswith(_WIDTH)}
    if any(value.dim() not in (1, 2) for value in values.values()) or any(w.dim() != 1 for w in widths.values()):
        return "an entry has the wrong number of dimensions"
    if {name for name, value in values.items() if value.dim() == 2} != set(widths):
        return "sequences and their widths do not fit together"
    return "features have different numbers of rows" if len({len(value) for value in found.values()}) > 1 else ""
