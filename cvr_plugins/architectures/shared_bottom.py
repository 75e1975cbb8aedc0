"""Shared bottom: one network for all heads, and a tower per head on what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from cvr_plugins.architectures.heads import TowersOnTop, split_parameters
from cvr_plugins.contracts import BackboneFactory, Layout, Outputs


class SharedBottom(TowersOnTop):
    """One backbone shared by all heads, then a tower per head: z_k = w_k . tower_k(bottom(x)) + b_k.

    x: `[B, width]`; bottom: the backbone, `[B, width] -> [B, H]`; tower_k: an MLP of `tower_dims`; z_k: `[B]`.

    Parameters
    ----------
    layout, heads, backbone
        As of Architecture.
    **tower_options
        Those of TowersOnTop: head_options, tower_dims, tower_activation, tower_dropout, tower_batch_norm.

    Raises
    ------
    ValueError
        For options that MLP refuses.

    References
    ----------
    Caruana, Multitask Learning, Machine Learning 28, 1997.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        **tower_options: Any,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, **tower_options)
        self.bottom = backbone(layout)
        self.towers = self._new_towers(self.bottom.output_dim)

    def forward(self, x: Tensor) -> Outputs:
        """Map `x [B, width]` to one logit per head."""
        out: Outputs = self.towers(dict.fromkeys(self.heads, self.bottom(x)), x)
        return out

    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return the towers' parameters of `heads`, and with `shared` the bottom's."""
        return split_parameters(self, self.towers.parts, heads, shared)
