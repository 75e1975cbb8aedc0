"""The contracts between methods, frameworks and plugins: what each is given and returns."""

from __future__ import annotations

import keyword
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

API_VERSION = 1
"""Version of these contracts; a method that needs a newer one says so in `Method.api` and is skipped."""

CTR_TOWER = "ctr_tower"
"""The propensity that is no model of its own: the objective's own CTR head, detached, as it is at each step."""

Inputs = Mapping[str, Tensor]
"""Feature name -> values of a batch: `[B]` for a token or a float, `[B, L]` for a padded sequence."""


@dataclass(frozen=True)
class Labels:
    """Labels of a batch, float 0/1, each `[B]`.

    `conversion` is 0 wherever `click` is 0: what would have happened there was not observed.
    `action` is the post-click action (cart, wish list, long view), None where the log has none.
    `propensity` is no label but travels with them: the probability of the click in [0, 1] as known before training,
    None where no objective reads it.
    """

    click: Tensor
    conversion: Tensor
    action: Tensor | None = None
    propensity: Tensor | None = None

    @property
    def click_and_conversion(self) -> Tensor:
        """t = o * r, the label of CTCVR, `[B]`."""
        return self.click * self.conversion


@dataclass(frozen=True)
class Layout:
    """How the concatenated input `[B, width]` divides: embedded fields first, dense values last.

    embedded: width of each embedded field, in order; names: of the embedded fields (for messages);
    dense: number of dense values after them.
    """

    embedded: tuple[int, ...]
    dense: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.embedded) or self.dense < 0 or self.width < 1:
            raise ValueError(f"A layout needs at least one field, each at least one wide; got {self!r}.")
        if self.names and len(self.names) != len(self.embedded):
            raise ValueError(f"A layout has one name per embedded field; got {self!r}.")

    @property
    def width(self) -> int:
        """Columns of the concatenated input."""
        return sum(self.embedded) + self.dense

    def fields(self, x: Tensor) -> Tensor:
        """Return the embedded part of `x [B, width]` as `[B, F, D]`.

        Raises ValueError if the fields are not equally wide (field interactions need one embedding size).
        """
        if len(set(self.embedded)) != 1:
            named = zip(self.names or [f"field {i}" for i in range(len(self.embedded))], self.embedded, strict=True)
            widths = ", ".join(f"{name}: {width}" for name, width in named) or "none"
            raise ValueError(
                f"Field interactions need one embedding size for all features; got {widths}. "
                "Give every feature the same embed_dim, or choose the backbone 'mlp'."
            )
        return x[:, : sum(self.embedded)].unflatten(1, (len(self.embedded), self.embedded[0]))


@dataclass(frozen=True)
class Outputs:
    """What an architecture computes for a batch.

    logits: head name -> `[B]`; embedding: the concatenated input `[B, E]`; hidden: head name -> `[B, H]`, the
    representation the head's logit is computed from (the same tensor for heads that share it); embed: feature
    values -> `[N, E]` with today's embeddings, for objectives that keep rows of earlier batches; inputs: the feature
    values themselves, for objectives that keep a network of their own.
    """

    logits: Mapping[str, Tensor]
    embedding: Tensor
    hidden: Mapping[str, Tensor]
    embed: Callable[[Inputs], Tensor] | None = None
    inputs: Inputs | None = None


@dataclass(frozen=True)
class Phase:
    """One optimiser step per batch: which loss terms are summed, and which parameters the step moves.

    terms: names of the loss terms, None for all; trains: heads whose own parameters move, None for all of them;
    shared: whether embeddings, shared layers and the objective's own parameters move too.
    """

    name: str
    terms: tuple[str, ...] | None = None
    trains: tuple[str, ...] | None = None
    shared: bool = True


_FIGURES: ContextVar[dict[str, Tensor] | None] = ContextVar("figures", default=None)


@contextmanager
def measuring() -> Iterator[dict[str, Tensor]]:
    """Yield name -> total and count, `[2]`, of what objectives measure in the block."""
    found: dict[str, Tensor] = {}
    token = _FIGURES.set(found)
    try:
        yield found
    finally:
        _FIGURES.reset(token)


@dataclass(frozen=True)
class Mechanism:
    """The figure of an epoch by which a method's mechanism is seen to act.

    figure: its name, of one that `Objective.measure` takes or `Objective.diagnostics` returns, or `"factor/cvr"`, the
    mean factor of the weighting; says: what it is, for tables (`"unclicked rows relabelled"`); idle: its value where
    the mechanism did nothing, None where no value says so.
    """

    figure: str
    says: str
    idle: float | None = None


class Objective(nn.Module):
    """How logits and labels become loss terms, and how logits become predicted probabilities.

    Subclasses give `loss` and, if they predict anything besides CTR, CVR and CTCVR from the heads `ctr` and `cvr`,
    `predict`. Options are keyword-only constructor arguments; state that outlives a batch is a buffer.
    """

    heads: tuple[str, ...] = ("ctr", "cvr")
    needs: tuple[str, ...] = ("click", "conversion")
    tasks: tuple[str, ...] = ("cvr", "ctr", "ctcvr")
    stops: Mapping[str, tuple[str, ...]] = {}
    """Loss term -> heads it must not move (the conformance suite proves it)."""
    phases: tuple[Phase, ...] = (Phase("joint"),)
    ctr_terms: tuple[str, ...] = ("ctr",)
    """Loss terms that make up the CTR loss where a Weighting balances the two; one that `loss` leaves out counts 0."""
    cvr_terms: tuple[str, ...] = ("cvr", "ctcvr")
    """Likewise of the CVR loss: the terms that train the CVR prediction. A term in neither is never reweighted."""
    ready: bool = True
    """Whether a model trained so far is one to keep, asked after each epoch; may be a property. False in a first stage
    of training, of which trainers keep the latest epoch, which counts neither as the best nor for early stopping."""
    first_stage: int = 0
    """How many epochs that stage takes; a run of no more epochs is refused before training."""
    propensity: str = CTR_TOWER
    """Where an objective with "propensity" among its `needs` has it from: a name of `cvr_plugins.propensities`."""
    mechanism: Mechanism | None = None
    """What shows that the method acts, in every table of its results; None for a method without a mechanism."""

    @abstractmethod
    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return loss term -> weighted scalar; pure: changes no state, draws no random number of its own.

        It may call `measure`.
        """
        raise NotImplementedError  # pragma: no cover

    def measure(self, name: str, total: Tensor, count: Tensor | float) -> None:
        """Say a figure of the batch in `loss`, where it is at hand: an epoch's is `sum total / sum count`.

        Scalars, the sums being over the epoch's batches: rows that were relabelled, say, and unclicked rows. Of an
        epoch whose counts are 0 it is left out.
        """
        found = _FIGURES.get()
        if found is not None:
            found[name] = torch.stack([total.detach(), torch.as_tensor(count).to(total)])

    def predict(self, out: Outputs) -> dict[str, Tensor]:
        """Return task -> probability `[B]`, at least for every name in `tasks`.

        Here `p_ctr = sigmoid(z_ctr)`, `p_cvr = sigmoid(z_cvr)`, `p_ctcvr = p_ctr * p_cvr`.
        """
        ctr, cvr = torch.sigmoid(out.logits["ctr"]), torch.sigmoid(out.logits["cvr"])
        return {"cvr": cvr, "ctr": ctr, "ctcvr": ctr * cvr}

    def prepare(self, architecture: Architecture, encoder: nn.Module) -> None:
        """Look at the network, once, when the model is put together; for an objective that changes or copies it later.

        A reference that is kept must not make it a part of the objective: keep it in a list. Raises ValueError for an
        architecture that the objective cannot work on.
        """
        return None

    def after_batch(self, out: Outputs, y: Labels, x: Inputs) -> None:
        """Update state after a batch's last optimiser step; called without gradients."""
        return None

    def diagnostics(self) -> dict[str, float]:
        """Return what is worth logging about the objective's state, after an epoch's last batch; without gradients."""
        return {}

    def on_epoch_end(self, epoch: int) -> bool:
        """Do what an epoch's end calls for; True says that parameters were replaced or removed."""
        return False


class Weighting(nn.Module):
    """How much the CTR loss and the CVR loss of a batch count against each other, whatever the objective.

    A loss is the sum of the terms that `Objective.ctr_terms` or `cvr_terms` name, each of which is multiplied by the
    factor given here. Options are keyword-only constructor arguments; state that outlives a batch is a buffer.
    """

    reads: tuple[str, ...] = ()
    """Tasks whose predictions `after_batch` reads; an objective that does not predict them is refused."""

    @abstractmethod
    def factors(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return "ctr" and "cvr" -> factor, a finite scalar; one left out is 1. Pure: changes no state.

        losses: "ctr" and "cvr" -> the batch's loss, a scalar without gradient, before any factor.
        """
        raise NotImplementedError  # pragma: no cover

    def after_batch(self, losses: Mapping[str, Tensor], predictions: Mapping[str, Tensor], y: Labels) -> None:
        """Update state after a batch's last optimiser step; called without gradients.

        losses: as in `factors`; predictions: task -> probability `[B]` of the batch that was trained on.
        """
        return None

    def on_epoch_end(self, epoch: int) -> None:
        """Update state once an epoch's batches are trained on, before it is evaluated."""
        return None


class Backbone(nn.Module):
    """A network from the concatenated input to a representation: `[B, width] -> [B, output_dim]`."""

    output_dim: int


BackboneFactory = Callable[..., Backbone]
"""`(layout, **overrides) -> Backbone`: the configured backbone, built anew at each call."""


class Architecture(nn.Module):
    """How the concatenated input becomes one logit per head.

    layout: of the input; heads: names; backbone: factory of the network(s) used inside; head_options: per head,
    options that replace the backbone's for that head (torch-rechub's `cvr_params`, `ctr_params`).
    Options of its own are keyword-only.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[str],
        *,
        backbone: BackboneFactory,
        head_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.heads = tuple(heads)
        unknown = sorted(set(head_options or {}) - set(self.heads))
        if unknown:
            raise ValueError(f"Options for unknown heads {unknown}; this method's heads are {list(self.heads)}.")

    def prepare(self, encoder: nn.Module) -> None:
        """Change the encoder, once, when the model is put together; for an architecture with tables of its own.

        Called before the objective's. An embedding table is an `nn.Embedding` within the encoder, which calls it with
        ids and concatenates whatever width it returns.
        """
        return None

    @abstractmethod
    def forward(self, x: Tensor) -> Outputs:
        """Map `x [B, width]`, or what a prepared encoder gives, to Outputs."""
        raise NotImplementedError  # pragma: no cover

    @abstractmethod
    def parameters_for(self, heads: Sequence[str], shared: bool = True) -> list[nn.Parameter]:
        """Return the parameters that belong to `heads` alone, and with `shared` those of the shared layers too."""
        raise NotImplementedError  # pragma: no cover


@dataclass(frozen=True)
class Method:
    """A named method: an objective, the architecture it is published on, and its defaults.

    name: the class name in torch-rechub, `model:` in RecBole; objective: called with keyword options;
    architecture, backbone, weighting: registered names of the method's own, weighting None for none;
    defaults: option -> value that differs from the constructor's own default; ablations: options each of which make it
    its own baseline, such as `{"unclicked": False}` (the conformance suite proves that it acts); summary: one line;
    reference: authors, title, venue, year, URL; api: the contracts' version it was written for.
    """

    name: str
    objective: Callable[..., Objective]
    architecture: str = "towers"
    backbone: str = "mlp"
    weighting: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ablations: Sequence[Mapping[str, Any]] = ()
    summary: str = ""
    reference: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise ValueError(f"A method's name must be a Python identifier, since a class gets it; got {self.name!r}.")
        if not callable(self.objective):
            raise ValueError(f"Method {self.name}: 'objective' must be callable; got {self.objective!r}.")
