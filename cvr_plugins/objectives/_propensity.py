"""What objectives that divide by the propensity of a click have in common: where it comes from, and its weights."""

from __future__ import annotations

from torch import Tensor

from cvr_plugins.contracts import CTR_TOWER, Labels, Mechanism, Objective, Outputs
from cvr_plugins.functional import bias_weight, known_propensity, propensity, variance_weight
from cvr_plugins.objectives._labels import check_labels
from cvr_plugins.options import check_choice, check_number
from cvr_plugins.propensities import NAMES


class PropensityWeighted(Objective):
    """An objective with weights of the propensity p of a click, `[B]`, without gradient, clipped to [floor, 1].

    p is the sigmoid of the head `ctr`, or of a model that was fitted before training and travels with the labels.
    """

    propensity_floor: float
    mechanism = Mechanism("weight", "mean propensity weight", idle=1.0)

    def _set_propensity(self, source: str, floor: float) -> None:
        self.propensity = check_choice("propensity", source, NAMES)
        self.propensity_floor = check_number("propensity_floor", floor, low=0, high=1, open_low=True)
        if self.propensity != CTR_TOWER:
            self.needs = (*self.needs, "propensity")

    def _click_propensity(self, out: Outputs, y: Labels) -> Tensor:
        """`clip(p, floor, 1)`. Raises ValueError if the batch lacks the propensity, as the others do."""
        if self.propensity == CTR_TOWER:
            return propensity(out.logits["ctr"], self.propensity_floor)
        return known_propensity(self._known(y), self.propensity_floor)

    def _inverse_weights(self, out: Outputs, y: Labels) -> Tensor:
        """`o / clip(p, floor, 1)`; measures their mean over the clicked rows, and how many are as large as they may."""
        weights = y.click / self._click_propensity(out, y)
        clicked = y.click.sum()
        self.measure("weight", weights.sum(), clicked)
        self.measure("weight/clipped", (weights * self.propensity_floor > 1 - 1e-6).to(weights).sum(), clicked)
        return weights

    def _no_click_propensity(self, out: Outputs, y: Labels) -> Tensor:
        """`clip(1 - p, floor, 1)`."""
        if self.propensity == CTR_TOWER:
            return propensity(-out.logits["ctr"], self.propensity_floor)
        return known_propensity(1 - self._known(y), self.propensity_floor)

    def _variance_weights(self, out: Outputs, y: Labels) -> Tensor:
        """`(1 - p) / p^2` of the clipped p: see `functional.variance_weight`."""
        if self.propensity == CTR_TOWER:
            return variance_weight(out.logits["ctr"], self.propensity_floor)
        p = self._click_propensity(out, y)
        return (1 - p) / p.square()

    def _bias_weights(self, out: Outputs, y: Labels) -> Tensor:
        """`(1 - p)^2 / p^3` of the clipped p: see `functional.bias_weight`."""
        if self.propensity == CTR_TOWER:
            return bias_weight(out.logits["ctr"], self.propensity_floor)
        p = self._click_propensity(out, y)
        return (1 - p).square() / p.pow(3)

    def _known(self, y: Labels) -> Tensor:
        check_labels(type(self).__name__, ("propensity",), y)
        assert y.propensity is not None
        return y.propensity
