"""Towers: one backbone per head over a shared embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from cvr_plugins.architectures.backbones import logit_layer, read_logit
from cvr_plugins.architectures.heads import split_parameters
from cvr_plugins.contracts import Architecture, BackboneFactory, Layout, Outputs


class Towers(Architecture):
    """One tower (backbone and logit layer) per head; only the embeddings are shared.

    z_k = w_k . backbone_k(x) + b_k, x: `[B, width]`; z_k: `[B]`.

    Parameters
    ----------
    layout, heads, backbone, head_options
        As of Architecture.

    References
    ----------
    The architecture of ESMM (Ma et al., SIGIR 2018, figure 2) and of the papers that build on it.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        head_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, head_options=head_options)
        towers = {head: backbone(layout, **(head_options or {}).get(head, {})) for head in self.heads}
        self.towers = nn.ModuleDict(towers)
        self.logits = nn.ModuleDict({head: logit_layer(tower.output_dim) for head, tower in towers.items()})

    def forward(self, x: Tensor) -> Outputs:
        """Map `x [B, width]` to one logit per head."""
        hidden = {head: self.towers[head](x) for head in self.heads}
        logits = {head: read_logit(self.logits[head], hidden[head]) for head in self.heads}
        return Outputs(logits=logits, embedding=x, hidden=hidden)

    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return the towers' parameters of `heads`; towers share no layer."""
        return split_parameters(self, [self.towers, self.logits], heads, shared)
