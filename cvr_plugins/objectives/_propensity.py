"""The propensities that weighted losses divide by, from the CTR head or from a model fitted before training."""

from __future__ import annotations

from torch import Tensor

from cvr_plugins.contracts import CTR_TOWER, Labels, Objective, Outputs
from cvr_plugins.functional import bias_weight, known_propensity, propensity, variance_weight
from cvr_plugins.objectives._labels import check_labels


def needs_with(needs: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the labels that an objective of these `needs` is trained on if its propensity is from `source`."""
    return needs if source == CTR_TOWER else (*needs, "propensity")


def click_propensity(objective: Objective, out: Outputs, y: Labels, floor: float) -> Tensor:
    """`clip(p, floor, 1)`, p the propensity of a click, detached, `[B]`. Raises ValueError if the batch lacks it."""
    if objective.propensity == CTR_TOWER:
        return propensity(out.logits["ctr"], floor)
    return known_propensity(_given(objective, y), floor)


def no_click_propensity(objective: Objective, out: Outputs, y: Labels, floor: float) -> Tensor:
    """`clip(1 - p, floor, 1)`, p the propensity of a click, detached, `[B]`.

    Raises ValueError if the batch lacks it.
    """
    if objective.propensity == CTR_TOWER:
        return propensity(-out.logits["ctr"], floor)
    return known_propensity(1 - _given(objective, y), floor)


def variance_weights(objective: Objective, out: Outputs, y: Labels, floor: float) -> Tensor:
    """`(1 - p) / p^2`, p the clipped propensity of a click, detached, `[B]`: see `functional.variance_weight`.

    Raises ValueError if the batch lacks the propensity.
    """
    if objective.propensity == CTR_TOWER:
        return variance_weight(out.logits["ctr"], floor)
    p = known_propensity(_given(objective, y), floor)
    return (1 - p) / p.square()


def bias_weights(objective: Objective, out: Outputs, y: Labels, floor: float) -> Tensor:
    """`(1 - p)^2 / p^3`, p the clipped propensity of a click, detached, `[B]`: see `functional.bias_weight`.

    Raises ValueError if the batch lacks the propensity.
    """
    if objective.propensity == CTR_TOWER:
        return bias_weight(out.logits["ctr"], floor)
    p = known_propensity(_given(objective, y), floor)
    return (1 - p).square() / p.pow(3)


def _given(objective: Objective, y: Labels) -> Tensor:
    check_labels(type(objective).__name__, ("propensity",), y)
    assert y.propensity is not None
    return y.propensity
