"""DeepFM: a linear map, the factorisation machine's pairwise term and an MLP side by side."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.backbones import MLP
from cvr_plugins.contracts import Backbone, Layout


class DeepFM(Backbone):
    """The three parts of DeepFM as a representation, h(x) = [mlp(x), w . x, fm(x)]: `[B, width] -> [B, H + 2]`.

    fm(x) = sum_{i<j} <v_i, v_j> = 1/2 sum_d [ (sum_i v_id)^2 - sum_i v_id^2 ], v_i: the i-th embedded field `[B, D]`;
    w: `[width]`; mlp: `[B, H]`. A logit layer on h(x) gives a . mlp(x) + b w . x + c fm(x) + d, the published logit
    where b = c = 1.

    Parameters
    ----------
    layout
        Of at least two embedded fields, all of one width.
    dims, activation, dropout, batch_norm
        Of the MLP.

    Raises
    ------
    ValueError
        For embedded fields of unequal widths or fewer than two of them, and for what MLP refuses.

    Notes
    -----
    The linear term is a map of the embedded input, as in torch-rechub, where the paper gives every feature value a
    weight of its own. Dense values take part in the linear term and the MLP only: they have no embedding to interact
    by.

    References
    ----------
    Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        dims: Sequence[int] = (160, 80),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if len(layout.embedded) < 2:
            raise ValueError(
                f"DeepFM needs at least two embedded features to interact; got {len(layout.embedded)}. "
                "Add features, or choose the backbone 'mlp'."
            )
        layout.fields(torch.empty(0, layout.width))
        self.layout = layout
        self._mlp = functools.partial(MLP, dims=dims, activation=activation, dropout=dropout, batch_norm=batch_norm)
        self.deep = self._mlp(layout)
        self.linear = nn.Linear(layout.width, 1, bias=False)
        self.output_dim = self.deep.output_dim + 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, width]` to `[B, H + 2]`: the MLP's values, the linear term, the pairwise term."""
        fields = self.layout.fields(x)
        pairs = 0.5 * (fields.sum(dim=1).square() - fields.square().sum(dim=1)).sum(dim=1, keepdim=True)
        return torch.cat([self.deep(x), self.linear(x), pairs], dim=1)

    def without_fields(self, width: int) -> MLP:
        """Return the MLP that takes this backbone's place on an input `[B, width]` that has no fields."""
        return self._mlp(Layout((width,)))
