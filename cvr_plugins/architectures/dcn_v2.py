"""DCN-V2: a cross network of explicit feature interactions with an MLP on it or beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.backbones import MLP
from cvr_plugins.contracts import Backbone, Layout
from cvr_plugins.options import check_choice, check_count

STRUCTURES = ("stacked", "parallel")


class CrossLayer(nn.Module):
    """One cross layer, x_{l+1} = x_0 * (W x_l + b) + x_l, products element by element.

    x_0, x_l: `[B, width]`; b: `[width]`; W: `[width, width]`, or with `rank` U V^T, both factors `[width, rank]`.
    """

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        if rank is None:
            self.map: nn.Module = nn.Linear(width, width)
        else:
            self.map = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """Map two `[B, width]` to one."""
        return torch.addcmul(x, x0, self.map(x))


class DCNV2(Backbone):
    """Cross layers and an MLP: `[B, width] -> [B, H]` stacked, `[B, width + H]` parallel.

    stacked: h(x) = mlp(cross(x)); parallel: h(x) = [cross(x), mlp(x)]; cross: `n_cross_layers` of CrossLayer from
    x_0 = x, a polynomial of degree n_cross_layers + 1 in the input; mlp: `[B, H]`, H its last width.

    Parameters
    ----------
    layout
        Of the input; embedded fields may differ in width and dense values take part. Cross layers multiply values, so
        dense ones should be normalised.
    dims, activation, dropout, batch_norm
        Of the MLP.
    n_cross_layers
        At least 1.
    structure
        `"stacked"` or `"parallel"`.
    rank
        None for full matrices, else the rank of W = U V^T (the paper's low-rank layer; not its mixture of low-rank
        experts), at most the input's width.

    Raises
    ------
    ValueError
        For other values, and for what MLP refuses.

    Notes
    -----
    The bias stands inside the product, as in the paper; torch-rechub's CrossNetV2 adds it outside.

    References
    ----------
    Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems, WWW
    2021, figure 1.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        dims: Sequence[int] = (160, 80),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = True,
        n_cross_layers: int = 1,
        structure: str = "stacked",
        rank: int | None = None,
    ) -> None:
        super().__init__()
        if rank is not None and check_count("rank", rank) > layout.width:
            raise ValueError(
                f"rank must not exceed the width of the input, {layout.width}; got {rank}. "
                "Leave it out for full matrices."
            )
        self.parallel = check_choice("structure", structure, STRUCTURES) == "parallel"
        self.cross = nn.ModuleList(
            [CrossLayer(layout.width, rank) for _ in range(check_count("n_cross_layers", n_cross_layers))]
        )
        self.deep = MLP(layout, dims=dims, activation=activation, dropout=dropout, batch_norm=batch_norm)
        self.output_dim = self.deep.output_dim + (layout.width if self.parallel else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, width]` to `[B, output_dim]`."""
        crossed = x
        for layer in self.cross:
            crossed = layer(x, crossed)
        if self.parallel:
            return torch.cat([crossed, self.deep(x)], dim=1)
        deep: Tensor = self.deep(crossed)
        return deep
