"""Multi-gate mixture of experts: experts shared by all heads, mixed by a gate per head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.heads import TowersOnTop, split_parameters
from cvr_plugins.architectures.mixture import Experts, Gate, mix
from cvr_plugins.contracts import BackboneFactory, Layout, Outputs
from cvr_plugins.options import check_count


class MMoE(TowersOnTop):
    """Experts shared by all heads, weighted by a gate per head: z_k = w_k . tower_k(sum_i g_k(x)_i f_i(x)) + b_k.

    x: `[B, width]`; f_i: the i-th expert, a backbone, `[B, width] -> [B, H]`; g_k: the gate of head k,
    softmax(W_k x), `[B, n_experts]`; tower_k: an MLP of `tower_dims`; z_k: `[B]`.

    Parameters
    ----------
    layout, heads, backbone
        As of Architecture.
    n_experts
        Number of experts, at least 1.
    gate_dims
        Widths of hidden ReLU layers in each gate, `()` for the paper's linear gate.
    **tower_options
        Those of TowersOnTop: head_options, tower_dims, tower_activation, tower_dropout, tower_batch_norm.

    Raises
    ------
    ValueError
        For another number of experts and for options that MLP refuses.

    References
    ----------
    Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        n_experts: int = 8,
        gate_dims: Sequence[int] = (),
        **tower_options: Any,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, **tower_options)
        self.experts = Experts(lambda: backbone(layout), check_count("n_experts", n_experts))
        self.gates = nn.ModuleDict({head: Gate(layout.width, n_experts, gate_dims) for head in self.heads})
        self.towers = self._new_towers(self.experts.output_dim)

    def forward(self, x: Tensor) -> Outputs:
        """Map `x [B, width]` to one logit per head."""
        weights = torch.stack([self.gates[head](x) for head in self.heads], dim=1)
        mixtures = mix(weights, self.experts(x)).unbind(dim=1)
        out: Outputs = self.towers(dict(zip(self.heads, mixtures, strict=True)), x)
        return out

    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return the gates' and towers' parameters of `heads`, and with `shared` the experts'."""
        return split_parameters(self, [self.gates, *self.towers.parts], heads, shared)
