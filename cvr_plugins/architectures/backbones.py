"""Backbones: networks from the concatenated input to the representation a head reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Backbone, Layout
from cvr_plugins.options import check_choice, check_flag, check_number

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that survives a training batch of one row, using the running statistics there."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[B, C]`."""
        if self.training and input.shape[0] == 1:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def check_dims(dims: Sequence[int]) -> tuple[int, ...]:
    """Return `dims` as a tuple of positive integers, or raise ValueError."""
    if not isinstance(dims, (list, tuple)) or any(type(d) is not int or d < 1 for d in dims):
        raise ValueError(f"dims must be a list of positive integers such as [160, 80]; got {dims!r}.")
    return tuple(dims)


class MLP(Backbone):
    """Linear, batch normalisation, activation, dropout, once per entry of `dims`: `[B, width] -> [B, dims[-1]]`.

    Parameters
    ----------
    layout
        Of the input.
    dims
        Widths; an empty `dims` passes the input through.
    activation
        A name of `ACTIVATIONS`.
    dropout
        In [0, 1).
    batch_norm
        Whether each linear layer is followed by batch normalisation.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    The layer order is torch-rechub's, so that its models' weights fit.
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
        check_choice("activation", activation, list(ACTIVATIONS))
        check_number("dropout", dropout, low=0, high=1, open_high=True)
        check_flag("batch_norm", batch_norm)
        layers: list[nn.Module] = []
        width = layout.width
        for dim in check_dims(dims):
            layers.append(nn.Linear(width, dim))
            if batch_norm:
                layers.append(BatchNorm(dim))
            layers.append(ACTIVATIONS[activation]())
            layers.append(nn.Dropout(dropout))
            width = dim
        self.layers = nn.Sequential(*layers)
        self.output_dim = width

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, width]` to `[B, output_dim]`."""
        hidden: Tensor = self.layers(x)
        return hidden


class NCF(MLP):
    """Neural collaborative filtering: an MLP on the embeddings of a user and an item, `[B, 2 k] -> [B, dims[-1]]`.

    Parameters
    ----------
    layout
        Of two embedded fields, and nothing else: choose them with `inputs: [user_id, item_id]`.
    dims, batch_norm, **options
        As of MLP. With the logit layer the depth is `len(dims) + 1`; the published experiments take dims [k, k] and no
        batch normalisation.

    Raises
    ------
    ValueError
        For a layout of other fields than two embedded ones, and for what MLP refuses.

    References
    ----------
    He et al., Neural Collaborative Filtering, WWW 2017, its MLP part.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        dims: Sequence[int] = (16, 16),
        batch_norm: bool = False,
        **options: Any,
    ) -> None:
        if len(layout.embedded) != 2 or layout.dense:
            names = ", ".join(layout.names) or f"{len(layout.embedded)} fields"
            raise ValueError(
                f"The backbone 'ncf' takes two embeddings, of a user and an item; got {names} and {layout.dense} dense "
                "values. Name the two in inputs, or choose the backbone 'mlp'."
            )
        super().__init__(layout, dims=dims, batch_norm=batch_norm, **options)
        self._mlp: Callable[[Layout], MLP] = functools.partial(MLP, dims=dims, batch_norm=batch_norm, **options)

    def without_fields(self, width: int) -> MLP:
        """Return the MLP that takes this backbone's place on an input `[B, width]` that has no fields."""
        return self._mlp(Layout((width,)))


def logit_layer(width: int) -> nn.Linear:
    """Return the linear layer from a representation to one logit."""
    return nn.Linear(width, 1)


def read_logit(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Apply a logit layer to `[B, H]` and drop the last axis: `[B]`."""
    return torch.squeeze(layer(hidden), dim=1)
