"""Progressive layered extraction: levels of shared experts and of experts of one head each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.heads import TowersOnTop, split_parameters
from cvr_plugins.architectures.mixture import Experts, Gate, mix
from cvr_plugins.contracts import Backbone, BackboneFactory, Layout, Outputs
from cvr_plugins.options import check_count


class ExtractionLevel(nn.Module):
    """Customised gate control: experts of each head, shared experts, and the gates that mix them.

    With x_k `[B, width]` the input of head k and x_s that of the shared path:
    y_k = sum_i g_k(x_k)_i [E_k(x_k), E_s(x_s)]_i and, unless it is the last level,
    y_s = sum_i g_s(x_s)_i [E_1(x_1), ..., E_K(x_K), E_s(x_s)]_i, each `[B, H]`.
    Tang et al., RecSys 2020, customised gate control and progressive layered extraction.
    """

    def __init__(
        self,
        width: int,
        heads: Sequence[str],
        build: Callable[[], Backbone],
        *,
        n_shared: int,
        n_specific: int,
        gate_dims: Sequence[int],
        last: bool,
    ) -> None:
        super().__init__()
        self.shared = Experts(build, n_shared)
        self.specific = nn.ModuleDict({head: Experts(build, n_specific) for head in heads})
        self.gates = nn.ModuleDict({head: Gate(width, n_specific + n_shared, gate_dims) for head in heads})
        self.shared_gate = None if last else Gate(width, len(heads) * n_specific + n_shared, gate_dims)
        self.output_dim = self.shared.output_dim

    def forward(self, inputs: Mapping[str, Tensor], shared_input: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return head -> mixture and the shared path's mixture (its input again after the last level)."""
        shared = self.shared(shared_input)
        specific = {head: self.specific[head](x) for head, x in inputs.items()}
        mixtures = {
            head: _mix_one(self.gates[head](x), torch.cat([specific[head], shared], dim=1))
            for head, x in inputs.items()
        }
        if self.shared_gate is None:
            return mixtures, shared_input
        return mixtures, _mix_one(self.shared_gate(shared_input), torch.cat([*specific.values(), shared], dim=1))


def _mix_one(weights: Tensor, outputs: Tensor) -> Tensor:
    return mix(weights.unsqueeze(1), outputs).squeeze(1)


class PLE(TowersOnTop):
    """Levels of shared and head-specific experts, then a tower per head: z_k = w_k . tower_k(y_k) + b_k.

    x: `[B, width]`, the input of every path at the first level; y_k: `[B, H]`, head k's mixture after the last level
    (see ExtractionLevel; with one level this is the paper's CGC model); tower_k: an MLP of `tower_dims`; z_k: `[B]`.

    Parameters
    ----------
    layout, heads, backbone
        As of Architecture.
    n_shared_experts
        Shared experts of a level, at least 1.
    n_specific_experts
        Experts of each head in a level, at least 1.
    n_levels
        Number of levels, at least 1.
    gate_dims
        Widths of hidden ReLU layers in each gate, `()` for the paper's linear gate.
    **tower_options
        Those of TowersOnTop: head_options, tower_dims, tower_activation, tower_dropout, tower_batch_norm.

    Raises
    ------
    ValueError
        For other numbers of experts or levels, for options that MLP refuses and for a backbone that cannot be built on
        a mixture.

    Notes
    -----
    Experts of the first level are backbones on `x`; those above it see a mixture, which has no fields left: there the
    backbone is built on `Layout((H,))`, unless it offers `without_fields(width)`, as DeepFM does (an MLP of its dims).
    Below the last level a head's experts also feed the shared path and so every head: they then count as shared.

    References
    ----------
    Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
    Recommendations, RecSys 2020.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        n_shared_experts: int = 4,
        n_specific_experts: int = 4,
        n_levels: int = 1,
        gate_dims: Sequence[int] = (),
        **tower_options: Any,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, **tower_options)
        check_count("n_shared_experts", n_shared_experts)
        check_count("n_specific_experts", n_specific_experts)
        check_count("n_levels", n_levels)
        levels: list[ExtractionLevel] = []
        for number in range(1, n_levels + 1):
            level = ExtractionLevel(
                levels[-1].output_dim if levels else layout.width,
                self.heads,
                _expert_above(backbone, levels) if levels else lambda: backbone(layout),
                n_shared=n_shared_experts,
                n_specific=n_specific_experts,
                gate_dims=gate_dims,
                last=number == n_levels,
            )
            levels.append(level)
        self.levels = nn.ModuleList(levels)
        self.towers = self._new_towers(levels[-1].output_dim)

    def forward(self, x: Tensor) -> Outputs:
        """Map `x [B, width]` to one logit per head."""
        mixtures, shared = dict.fromkeys(self.heads, x), x
        for level in self.levels:
            mixtures, shared = level(mixtures, shared)
        out: Outputs = self.towers(mixtures, x)
        return out

    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return the parameters that reach the logits of `heads` alone, and with `shared` those that reach several.

        With one level the former are the heads' experts, gates and towers. With more, the experts below the last level
        and the gates two or more below it are shared.
        """
        # A mixture of head k reaches the shared path only through the next level's experts of k, so the gates one
        # level below the last are still that head's alone.
        levels = cast("list[ExtractionLevel]", list(self.levels))
        own = [levels[-1].specific, *(level.gates for level in levels[-2:]), *self.towers.parts]
        return split_parameters(self, own, heads, shared)


def _expert_above(backbone: BackboneFactory, levels: Sequence[ExtractionLevel]) -> Callable[[], Backbone]:
    width = levels[-1].output_dim
    without_fields: Callable[[int], Backbone] | None = getattr(levels[0].shared[0], "without_fields", None)

    def build() -> Backbone:
        try:
            return without_fields(width) if without_fields else backbone(Layout((width,)))
        except ValueError as error:
            raise ValueError(
                f"Experts above PLE's first level see a mixture of width {width}, which the backbone refuses: {error} "
                "Set n_levels to 1 or choose another backbone."
            ) from error

    return build
