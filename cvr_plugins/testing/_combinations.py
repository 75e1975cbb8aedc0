"""Checks that a method works with every part it may be combined with, or is refused with a reason."""

from __future__ import annotations

from typing import Any

import torch

from cvr_plugins.assembly import assemble
from cvr_plugins.contracts import Method
from cvr_plugins.objectives import Naive
from cvr_plugins.plugins import registry
from cvr_plugins.testing._case import Case, new_model, training_batch
from cvr_plugins.testing._check import Problem, check, one_line
from cvr_plugins.testing._training import Trainer

_PLAIN = Method("Naive", Naive)


@check(
    "architectures",
    "every registered architecture and backbone is accepted, or refused with a ValueError when it is built",
    cause="an objective that counts on the width of out.hidden or on another property of its own architecture; check "
    "it in the architecture's constructor, or do without",
    requires=("terms", "predictions", "training"),
)
def architectures(case: Case) -> None:
    """Build each combination, train a batch, predict."""
    for architecture in registry().entries("architecture"):
        for backbone in registry().entries("backbone"):
            names = {"architecture": architecture.qualified, "backbone": backbone.qualified}
            _require_sound(case, names, f"architecture {architecture.key!r} on backbone {backbone.key!r}")


@check(
    "weightings",
    "every registered weighting of the CTR loss against the CVR loss is accepted, or refused when it is built",
    cause="loss terms of other names than `ctr`, `cvr` and `ctcvr`: say in ctr_terms and cvr_terms which make up which "
    "loss, or () where there is no such loss",
    requires=("terms", "predictions", "training"),
)
def weightings(case: Case) -> None:
    """Build with each weighting, train a batch, predict."""
    for weighting in registry().entries("weighting"):
        _require_sound(case, {"weighting": weighting.qualified}, f"weighting {weighting.key!r}")


def _require_sound(case: Case, names: dict[str, str], what: str) -> None:
    fault = _fault(case.method, names, case.own())
    # With a part on which nothing runs it is not this method's fault.
    if fault is not None and _fault(_PLAIN, names, {}) is None:
        expected = f"{what} to be accepted, or refused with a ValueError when it is built"
        raise Problem(expected, one_line(fault)) from fault


def _fault(method: Method, names: dict[str, str], options: dict[str, Any]) -> BaseException | None:
    """Return what goes wrong with a combination that is not clearly refused, None if nothing does."""
    batch = training_batch(0)
    try:
        model = new_model(assemble(method, **names, options=options))
    except ValueError as error:
        # Assembly makes an OptionError of a constructor's TypeError too, which was not meant as a refusal.
        reason = error.__cause__ or error
        return None if isinstance(reason, ValueError) and str(reason).strip() else error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any other is what is looked for
        return error
    try:
        terms = Trainer(model).step(batch)
        with torch.no_grad():
            predicted = model.eval().predict(batch.x)
        for name, value in {**terms, **predicted}.items():
            if not bool(value.isfinite().all()):
                return ArithmeticError(f"{name!r} is not finite")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        return error
    return None
