"""Masked sub-networks: a prediction and an imputation model that share half of every width, each through a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from cvr_plugins.architectures.backbones import logit_layer, read_logit
from cvr_plugins.architectures.heads import check_heads
from cvr_plugins.architectures.partly_shared import (
    Coordinates,
    PartlyShared,
    PartlySharedLinear,
    PartlySharedTable,
    prune,
)
from cvr_plugins.contracts import Architecture, Backbone, BackboneFactory, Layout, Outputs
from cvr_plugins.options import check_choice, check_number

MODELS = {"prediction": "cvr", "imputation": "imputation"}
"""The two models that share weights -> the head that each one computes."""

KINDS = ("embeddings", "linear")
"""What may be pruned: embedding tables; weights of linear layers, without biases and the vectors of the logits."""

SCOPES = ("per_tensor", "global")


class Masked(Architecture):
    """Prediction and imputation model with part of every embedding and linear width in common, and a mask each.

    Model m in {prediction, imputation}, with the heads `cvr` and `imputation`: `z_m = h_m . backbone_m(x_m)`. Of an
    embedding of width D the first half of the columns is one table that both models look ids up in, and the second
    half a table of each model; of a linear layer of the backbone the first half of the output units has one weight and
    one bias for both, the second half weights of each model. h_m is private, without a bias. A width of 1 cannot be
    divided and is private; of an odd one the private part is the larger. Every weight of a model is multiplied by a
    mask of that model, of ones until `prune` drops coordinates; see PartlyShared for what that means for the other.
    Everything else in a backbone (batch normalisation) and every other head (`ctr`) is private: a head without a
    partner has whole tables, a backbone and a logit layer of its own.

    x: `[B, K * E + dense]` from an encoder whose tables `prepare` has taken over, K the number of heads, or
    `[B, width]` of the layout, which then is every head's input.

    Parameters
    ----------
    layout, heads, backbone, head_options
        As of Architecture.
    shared_fraction
        In [0, 1), the share of a width that the two models have in common, 0 for two models with nothing in common.

    Raises
    ------
    ValueError
        Without the heads `cvr` and `imputation`, for another fraction, and for head options that make the two models'
        layers differ in shape.

    References
    ----------
    Zheng et al., Adap-SL, SIGIR 2025, section 4.3.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        head_options: Mapping[str, Mapping[str, Any]] | None = None,
        shared_fraction: float = 0.5,
    ) -> None:
        super().__init__(layout, heads, backbone=backbone, head_options=head_options)
        missing = [head for head in MODELS.values() if head not in self.heads]
        if missing:
            raise ValueError(
                f"The architecture 'masked' is for methods with the heads 'cvr' and 'imputation'; got "
                f"{list(self.heads)}. Choose a method with an imputation, such as MultiDR, or another architecture."
            )
        self.shared_fraction = check_number("shared_fraction", shared_fraction, low=0, high=1, open_high=True)
        networks = {head: backbone(layout, **(head_options or {}).get(head, {})) for head in self.heads}
        self.networks = nn.ModuleDict(networks)
        self.logits = nn.ModuleDict(
            {
                head: nn.Linear(network.output_dim, 1, bias=False)
                if head in MODELS.values()
                else logit_layer(network.output_dim)
                for head, network in networks.items()
            }
        )
        self.tables = nn.ModuleList()
        self.own_tables = nn.ModuleList()
        self.layers = nn.ModuleList(self._share_layers({head: networks[head] for head in MODELS.values()}))
        self._set_columns()

    def _share_layers(self, networks: dict[str, Backbone]) -> list[PartlyShared]:
        """Put partly shared layers into the place of the two networks' linear ones; return their weights and biases."""
        found = {
            head: {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
            for head, network in networks.items()
        }
        first, second = found.values()
        shapes = [{name: layer.weight.shape for name, layer in layers.items()} for layers in (first, second)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "The prediction and the imputation model share layers, so cvr_params and imputation_params must give "
                "them the same widths."
            )
        made = []
        for name in first:
            layers = {head: layers[name] for head, layers in found.items()}
            weight = self._shared({head: layer.weight for head, layer in layers.items()}, axis=0, kind="linear")
            biases = {head: layer.bias for head, layer in layers.items() if layer.bias is not None}
            bias = self._shared(biases, axis=0, kind="bias") if biases else None
            for head, network in networks.items():
                _put(network, name, PartlySharedLinear(weight, bias, head))
            made += [weight] if bias is None else [weight, bias]
        return made

    def _shared(self, weights: Mapping[str, Tensor], *, axis: int, kind: str, trained: bool = True) -> PartlyShared:
        return PartlyShared(weights, axis=axis, fraction=self.shared_fraction, kind=kind, trained=trained)

    def prepare(self, encoder: nn.Module) -> None:
        """Take over the embedding tables of an encoder: from now on it gives the columns of every head.

        A table's columns become the shared ones and the prediction model's private ones; the imputation model's, and
        the whole table of every further head, start as copies.
        """
        others = [head for head in self.heads if head not in MODELS.values()]
        modules = encoder.named_modules(remove_duplicate=False)
        made: dict[nn.Embedding, PartlySharedTable] = {}
        for name, table in [(n, m) for n, m in modules if isinstance(m, nn.Embedding)]:
            if table in made:
                _put(encoder, name, made[table])
                continue
            trained = table.weight.requires_grad
            shared = self._shared(
                dict.fromkeys(MODELS.values(), table.weight), axis=1, kind="embeddings", trained=trained
            )
            copies = {head: table.weight.detach().clone() for head in others}
            own = nn.ParameterDict({h: nn.Parameter(copy, requires_grad=trained) for h, copy in copies.items()})
            self.tables.append(shared)
            self.own_tables.append(own)
            made[table] = PartlySharedTable(self.heads, shared, own, table)
            _put(encoder, name, made[table])

    def _set_columns(self) -> None:
        """Find each head's columns of the wide input: its part of every field, and the dense values."""
        number = len(self.heads)
        for place, head in enumerate(self.heads):
            columns: list[int] = []
            start = 0
            for width in self.layout.embedded:
                columns += range(start + place * width, start + (place + 1) * width)
                start += number * width
            columns += range(start, start + self.layout.dense)
            self.register_buffer(f"columns_{head}", torch.tensor(columns), persistent=False)
        self.wide = start + self.layout.dense

    def forward(self, x: Tensor) -> Outputs:
        """Map `x`, `[B, K * E + dense]` or `[B, width]`, to one logit per head.

        Raises ValueError for another width.
        """
        if x.shape[1] not in (self.layout.width, self.wide):
            raise ValueError(
                f"The architecture 'masked' takes an input {self.wide} or {self.layout.width} wide; got {x.shape[1]}. "
                "The encoder must look every embedded field up in an nn.Embedding."
            )
        hidden = {head: self.networks[head](self._columns_of(head, x)) for head in self.heads}
        logits = {head: read_logit(self.logits[head], hidden[head]) for head in self.heads}
        return Outputs(logits=logits, embedding=x, hidden=hidden)

    def _columns_of(self, head: str, x: Tensor) -> Tensor:
        # Where nothing is embedded both widths are the same.
        if x.shape[1] == self.layout.width:
            return x
        return x.index_select(1, getattr(self, f"columns_{head}"))

    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return what the models of `heads` alone have, and with `shared` what the two models have in common."""
        check_heads(self, heads)
        chosen: list[nn.Parameter] = []
        for head in dict.fromkeys(heads):
            chosen += [*self.networks[head].parameters(), *self.logits[head].parameters()]
            if head in MODELS.values():
                chosen += [p for weight in self.weights() for p in weight.of(head).parameters()]
            else:
                chosen += [cast(nn.ParameterDict, own)[head] for own in self.own_tables]
        common = [weight.both for weight in self.weights() if weight.both is not None] if shared else []
        return chosen + common

    def weights(self) -> list[PartlyShared]:
        """Return every partly shared weight: of tables, then weights and biases of layers."""
        return cast("list[PartlyShared]", [*self.tables, *self.layers])

    def coordinates(self, model: str, kinds: Sequence[str] = KINDS) -> list[Coordinates]:
        """Return the coordinates of a model ("prediction", "imputation") that may be pruned, tensor by tensor."""
        weights = [weight for weight in self.weights() if weight.kind in kinds]
        return [each for weight in weights for each in weight.coordinates(MODELS[model])]

    def prune(
        self,
        model: str,
        keep: float,
        *,
        kinds: Sequence[str] = ("embeddings",),
        scope: str = "per_tensor",
        gradient_share: float = 0.0,
    ) -> None:
        """Drop coordinates of a model until the share `keep` of all that it ever had is left.

        model: "prediction" or "imputation"; kinds: of tensors; scope: "per_tensor" leaves that share of each tensor
        (the shared and the private part of a weight are two), "global" of all together; see `prune` for the score.
        Raises ValueError for another scope.
        """
        check_choice("scope", scope, SCOPES)
        found = self.coordinates(model, kinds)
        groups = [[each] for each in found] if scope == "per_tensor" else [found]
        prune([group for group in groups if group], keep, gradient_share)

    def track_gradients(self, model: str) -> None:
        """Sum a model's absolute gradients from now on, for scores that count them."""
        for weight in self.weights():
            weight.of(MODELS[model]).track_gradients()

    def forget_gradients(self) -> None:
        """Begin the sums of absolute gradients anew."""
        for weight in self.weights():
            for model in MODELS.values():
                weight.of(model).forget_gradients()

    def active(self, model: str, kinds: Sequence[str] = KINDS) -> dict[str, float]:
        """Return the share of a model's coordinates in use: "total", "shared" and "private", 1 where there is none."""
        found = self.coordinates(model, kinds)
        parts = {
            "total": found,
            "shared": [each for each in found if each.is_shared],
            "private": [each for each in found if not each.is_shared],
        }
        return {name: _active_share(part) for name, part in parts.items()}


def _active_share(part: Sequence[Coordinates]) -> float:
    total = sum(each.mask.numel() for each in part)
    return sum(int(each.mask.sum()) for each in part) / total if total else 1.0


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module into another's place. Raises ValueError for the root itself."""
    parent, _, attribute = name.rpartition(".")
    if not attribute:
        raise ValueError(f"The architecture 'masked' cannot take the place of a whole {type(root).__name__}.")
    setattr(root.get_submodule(parent), attribute, module)
