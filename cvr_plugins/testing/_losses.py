"""Checks of the loss: its form, the batches it survives, what it leaves alone and what its gradient moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Outputs
from cvr_plugins.model import CVRModel
from cvr_plugins.testing import _log
from cvr_plugins.testing._case import Case, same, seeded, training_batch
from cvr_plugins.testing._check import Problem, check, require
from cvr_plugins.testing._log import Batch, extreme_logits, take


@check(
    "terms",
    "the loss of an ordinary batch is finite scalars by name, at least one of which trains something",
    cause="terms that were not averaged over the batch, a single tensor instead of a dictionary, or a detach too many",
    requires=("construction",),
)
def terms(case: Case) -> None:
    """Form of what `loss` returns."""
    batch = training_batch(0)
    model = case.model()
    found: Any = model.objective.loss(model.outputs(batch.x), batch.y)
    named = isinstance(found, dict) and found and all(isinstance(name, str) for name in found)
    require(named, "loss() to return a dictionary, name of a term -> scalar", _shown(found))
    for name, term in found.items():
        scalar = isinstance(term, Tensor) and not term.dim() and term.is_floating_point()
        require(scalar, f"the loss term {name!r} to be a scalar tensor", _shown(term))
        require(term.isfinite(), f"the loss term {name!r} to be finite", str(term.item()))
    trains = any(term.requires_grad for term in found.values())
    require(trains, "at least one loss term with a gradient", "none has one")


@check(
    "edge_batches",
    "loss and gradients are finite on batches without clicks, without conversions, of one row, of extreme logits",
    cause="a division by the number of clicked rows, or the logarithm of a probability that was rounded to 0 or 1: "
    "divide by the size of the batch or use functional.masked_mean, and compute from logits (functional.bce)",
    requires=("terms", "training"),
)
def edge_batches(case: Case) -> None:
    """Loss and gradients on each edge, by a new model and by one that has state."""
    for model in (case.model(), case.trained()[0].model):
        model.train()
        for kind, batch in _log.edge_batches().items():
            out = model.outputs(batch.x)
            terms = model.weigh(model.objective.loss(out, batch.y))[0]
            _require_finite(terms, list(model.parameters()), kind)
        # From about 104 on a float32 sigmoid is exactly 0 or 1: the propensity at its ends.
        for size in (50.0, 200.0):
            logits, batch = extreme_logits(model.objective.heads, size)
            with torch.no_grad():
                out = replace(model.outputs(batch.x), logits=logits)
            _require_finite_at(model, out, batch, f"logits of +-{size:g}")
            for row in range(len(batch.y.click)):
                rows = torch.tensor([row])
                shown = ", ".join(f"{head} {values[row].item():g}" for head, values in logits.items())
                kind = f"a batch of one row with the logits {shown}"
                _require_finite_at(model, _rows_of(out, rows), take(batch, rows), kind)


@check(
    "purity",
    "loss changes no state, no input and no generator, and gives the same values when it is called again",
    cause="a counter, a running average or a memory updated in loss() instead of after_batch(), or random numbers "
    "drawn in it",
    requires=("terms", "training"),
)
def purity(case: Case) -> None:
    """Compare everything before and after a call of `loss`."""
    model = case.trained()[0].model
    batch = training_batch(9)
    seeded(3)
    out = model.outputs(batch.x)
    before, generator = _state(model.objective), torch.get_rng_state()
    inputs = {**{f"out.logits[{h!r}]": t for h, t in out.logits.items()}, "y.click": batch.y.click}
    inputs |= {"y.conversion": batch.y.conversion, "out.embedding": out.embedding}
    optional = {"y.action": batch.y.action, "y.propensity": batch.y.propensity}
    inputs |= {name: column for name, column in optional.items() if column is not None}
    copies = {name: value.detach().clone() for name, value in inputs.items()}
    first = model.objective.loss(out, batch.y)
    drew_nothing = torch.equal(generator, torch.get_rng_state())
    require(drew_nothing, "loss() to draw no random number", "torch's generator moved on")
    changed = _changes(before, _state(model.objective))
    require(not changed, "loss() to change nothing of the objective", f"it changed {', '.join(changed)}")
    touched = [name for name, value in inputs.items() if not torch.equal(value.detach(), copies[name])]
    require(not touched, "loss() to leave what it is given as it was", f"it changed {', '.join(touched)}")
    second = model.objective.loss(out, batch.y)
    for name, term in first.items():
        again = second[name].item() if name in second else "absent"
        unchanged = name in second and same(term.detach(), second[name].detach())
        twice = f"the loss term {name!r} of one batch to be the same twice"
        require(unchanged, twice, f"{term.item()}, then {again}")


@check(
    "stops",
    "no loss term moves a head that `stops` names for it",
    cause="a weight or a target computed from that head's logit without detach(); functional.propensity detaches",
    requires=("phases", "training"),
)
def stops(case: Case) -> None:
    """The gradient of each present term at the heads it must not move, exactly zero."""
    for model in (case.model(), case.trained()[0].model):
        model.train()
        for number in range(3):
            batch = training_batch(8 + number)
            out = model.outputs(batch.x)
            for name, term in model.objective.loss(out, batch.y).items():
                for head in model.objective.stops.get(name, ()) if term.requires_grad else ():
                    own = model.architecture.parameters_for([head], shared=False)
                    largest = _largest(term, [out.logits[head], *own])
                    zero = f"the gradient of the loss term {name!r} to be exactly 0 at the head {head!r}"
                    require(not largest, zero, f"entries up to {largest:.3g}")


def _require_finite_at(model: CVRModel, out: Outputs, batch: Batch, kind: str) -> None:
    """Look at the gradients at what the objective is given, without going back through the model."""
    logits, hidden = ({k: v.clone().requires_grad_() for k, v in part.items()} for part in (out.logits, out.hidden))
    embedding = out.embedding.clone().requires_grad_()
    leaves = Outputs(logits, embedding, hidden, embed=out.embed, inputs=out.inputs)
    moved = [*logits.values(), embedding, *hidden.values(), *model.objective.parameters()]
    _require_finite(model.weigh(model.objective.loss(leaves, batch.y))[0], moved, kind)


def _rows_of(out: Outputs, rows: Tensor) -> Outputs:
    logits, hidden = ({name: values[rows] for name, values in part.items()} for part in (out.logits, out.hidden))
    inputs = None if out.inputs is None else {name: values[rows] for name, values in out.inputs.items()}
    return Outputs(logits, out.embedding[rows], hidden, embed=out.embed, inputs=inputs)


def _require_finite(terms: Mapping[str, Tensor], moved: list[Any], kind: str) -> None:
    for name, term in terms.items():
        require(term.isfinite(), f"a finite loss term {name!r} on {kind}", str(term.item()))
    inputs = [value for value in moved if value.requires_grad]
    total = sum(term for term in terms.values() if term.requires_grad)
    # Finite terms of an infinite gradient are told by name only where there is something to tell.
    if not isinstance(total, Tensor) or _finite(total, inputs):
        return
    for name, term in terms.items():
        finite = not term.requires_grad or _finite(term, inputs)
        value = f"entries that are not, while its value is {term.item():.4g}"
        require(finite, f"a finite gradient of the loss term {name!r} on {kind}", value)
    raise Problem(f"a finite gradient of the loss on {kind}", "terms whose gradients overflow together")


def _finite(term: Tensor, inputs: list[Tensor]) -> bool:
    found = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
    return all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None)


def _largest(term: Tensor, inputs: list[Any]) -> float:
    found = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
    return max((gradient.abs().max().item() for gradient in found if gradient is not None), default=0.0)


def _state(objective: nn.Module) -> dict[str, Any]:
    """Attribute path -> value: tensors and plain values copied, anything else as it is."""
    found: dict[str, Any] = {}
    for prefix, module in objective.named_modules():
        dot = f"{prefix}." if prefix else ""
        tensors = {**module._parameters, **module._buffers}
        found |= {dot + name: None if t is None else t.detach().clone() for name, t in tensors.items()}
        own = {name: value for name, value in vars(module).items() if name not in _MODULE_ATTRIBUTES}
        found |= {dot + name: _copied(value) for name, value in own.items()}
    return found


_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in {**before, **after}
        if name not in before or name not in after or not _equal(before[name], after[name])
    ]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return same(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return first is second or (isinstance(first, (bool, int, float, str)) and bool(first == second))


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)} and type {value.dtype}"
    return f"{value!r}" if isinstance(value, (dict, int, float, str, type(None))) else f"a {type(value).__name__}"
