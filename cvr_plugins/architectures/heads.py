"""What the sharing architectures have in common above their shared layers: a tower and a logit layer per head."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from cvr_plugins.architectures.backbones import MLP, logit_layer, read_logit
from cvr_plugins.contracts import Architecture, BackboneFactory, Layout, Outputs


class HeadTowers(nn.Module):
    """Per head an MLP tower and a logit layer, on that head's input `[B, width]`.

    Parameters
    ----------
    width
        Of every head's input.
    heads
        Names.
    common
        MLP's options for every tower.
    head_options
        Head -> those that differ there.

    Raises
    ------
    ValueError
        Naming the head, for what MLP refuses and for options that a tower does not have.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: Sequence[str],
        common: Mapping[str, Any],
        head_options: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__()
        towers = {head: _tower(head, width, common, head_options.get(head, {})) for head in heads}
        self.mlps = nn.ModuleDict(towers)
        self.logits = nn.ModuleDict({head: logit_layer(tower.output_dim) for head, tower in towers.items()})

    @property
    def parts(self) -> list[nn.ModuleDict]:
        """The modules, by head, that belong to one head each."""
        return [self.mlps, self.logits]

    def forward(self, inputs: Mapping[str, Tensor], embedding: Tensor) -> Outputs:
        """Map head -> `[B, width]` to Outputs; `embedding` is the architecture's own input."""
        hidden = {head: self.mlps[head](value) for head, value in inputs.items()}
        logits = {head: read_logit(self.logits[head], value) for head, value in hidden.items()}
        return Outputs(logits=logits, embedding=embedding, hidden=hidden)


def _tower(head: str, width: int, common: Mapping[str, Any], own: Mapping[str, Any]) -> MLP:
    unknown = sorted(set(own) - set(common))
    if unknown:
        raise ValueError(f"The tower of head {head!r} has no option {unknown[0]!r}; it takes {', '.join(common)}.")
    try:
        return MLP(Layout((width,)), **{**common, **own})
    except (TypeError, ValueError) as error:
        raise ValueError(f"Tower of head {head!r}: {error}") from error


class TowersOnTop(Architecture):
    """An architecture that ends in a tower per head, z_k = w_k . tower_k(h_k) + b_k, on what the heads share.

    h_k: `[B, H]`, the input of head k's tower, its own or one for all; tower_k: an MLP of `tower_dims`; z_k: `[B]`.

    Parameters
    ----------
    layout, heads, backbone
        As of Architecture.
    head_options
        Per head, tower options that replace the common ones, under MLP's names:
        `{"cvr": {"dims": [64], "dropout": 0.2}}`.
    tower_dims
        Widths of each head's tower, an MLP; `()` for a logit straight from its input.
    tower_activation, tower_dropout, tower_batch_norm
        As MLP's options, for the towers; the backbone has its own.

    Raises
    ------
    ValueError
        For options that MLP refuses.
    """

    towers: HeadTowers

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        head_options: Mapping[str, Mapping[str, Any]] | None = None,
        tower_dims: Sequence[int] = (40,),
        tower_activation: str = "relu",
        tower_dropout: float = 0.0,
        tower_batch_norm: bool = True,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, head_options=head_options)
        self._new_towers = functools.partial(
            HeadTowers,
            heads=self.heads,
            common={
                "dims": tower_dims,
                "activation": tower_activation,
                "dropout": tower_dropout,
                "batch_norm": tower_batch_norm,
            },
            head_options=head_options or {},
        )


def split_parameters(
    architecture: Architecture, parts: Sequence[nn.ModuleDict], heads: Sequence[str], shared: bool
) -> list[nn.Parameter]:
    """Return the parameters of `heads` alone and, with `shared`, those that belong to no single head.

    parts: the modules, by head, whose output reaches no other head. Whatever lies outside them counts as shared, so
    the heads and the shared part together are the whole architecture. Raises ValueError for an unknown head.
    """
    check_heads(architecture, heads)
    chosen = [p for head in dict.fromkeys(heads) for part in parts for p in part[head].parameters()]
    if shared:
        private = {id(p) for part in parts for p in part.parameters()}
        chosen += [p for p in architecture.parameters() if id(p) not in private]
    return chosen


def check_heads(architecture: Architecture, heads: Sequence[str]) -> None:
    """Raise ValueError for a head that the architecture does not have."""
    unknown = [head for head in heads if head not in architecture.heads]
    if unknown:
        raise ValueError(f"Unknown head {unknown[0]!r}; the heads are {list(architecture.heads)}.")
