"""CVR decomposed over what users do between click and purchase: ESM2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cvr_plugins.contracts import Labels, Mechanism, Objective, Outputs
from cvr_plugins.functional import bce, ctcvr_nll, log_mixture
from cvr_plugins.objectives._labels import check_labels
from cvr_plugins.options import check_number


class ESM2(Objective):
    """CTR, CTAVR and CTCVR over all exposures, composed from four conditional probabilities.

    `L = weight_ctr * mean_D bce(o, p_ctr) + weight_ctavr * mean_D bce(o a, p_ctavr)
    + weight_ctcvr * mean_D bce(t, p_ctcvr)` with
    `p_ctr = y1`, `p_ctavr = y1 y2`, `p_cvr = y2 y3 + (1 - y2) y4`, `p_ctcvr = y1 p_cvr`.

    y1 (head `ctr`): click; y2 (`action`): action given click; y3 (`cvr_with_action`): conversion given click and
    action; y4 (`cvr_without_action`): conversion given click and no action. o: click, a: action (cart, wish list; of
    several columns, ACTION_FIELD: [cart, wish_list], their OR), r: conversion, t = o r, each `[B]`; D: the batch. All
    losses come from logits in log space.

    Parameters
    ----------
    weight_ctr, weight_ctavr
        At least 0, and 0 leaves the term out.
    weight_ctcvr
        Above 0, since no other term trains y3 and y4.

    Raises
    ------
    ValueError
        For other values, and for labels without `action`.

    Notes
    -----
    Deviation: means instead of sums over the batch, so that the learning rate does not depend on its size.

    References
    ----------
    Wen et al., Entire Space Multi-Task Modeling via Post-Click Behavior Decomposition, SIGIR 2020, eqs 1-4 and 8-11.
    """

    heads = ("ctr", "action", "cvr_with_action", "cvr_without_action")
    needs = ("click", "conversion", "action")
    tasks = ("cvr", "ctr", "ctcvr", "ctavr")
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("action", "cvr_with_action", "cvr_without_action"),
        "ctavr": ("cvr_with_action", "cvr_without_action"),
    }
    cvr_terms = ("ctcvr",)
    mechanism = Mechanism("conversions_per_action", "conversions per action", idle=0.0)

    def __init__(self, *, weight_ctr: float = 1.0, weight_ctavr: float = 1.0, weight_ctcvr: float = 1.0) -> None:
        super().__init__()
        self.weight_ctr = check_number("weight_ctr", weight_ctr, low=0)
        self.weight_ctavr = check_number("weight_ctavr", weight_ctavr, low=0)
        self.weight_ctcvr = check_number("weight_ctcvr", weight_ctcvr, low=0, open_low=True)
        if not self.weight_ctr:
            self.ctr_terms = ()

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `ctavr` and `ctcvr`, without those of weight 0."""
        check_labels(type(self).__name__, self.needs, y)
        assert y.action is not None
        click, action, with_action, without_action = (out.logits[head] for head in self.heads)
        terms = {}
        if self.weight_ctr:
            terms["ctr"] = self.weight_ctr * bce(click, y.click).mean()
        if self.weight_ctavr:
            terms["ctavr"] = self.weight_ctavr * ctcvr_nll(click, action, y.click * y.action).mean()
        log_ctcvr = logsigmoid(click) + log_mixture(action, with_action, without_action)
        log_not_ctcvr = torch.logaddexp(
            logsigmoid(-click), logsigmoid(click) + log_mixture(action, -with_action, -without_action)
        )
        label = y.click_and_conversion
        self.measure("conversions_per_action", (label * y.action).sum(), (y.click * y.action).sum())
        terms["ctcvr"] = self.weight_ctcvr * -(label * log_ctcvr + (1 - label) * log_not_ctcvr).mean()
        return terms

    def predict(self, out: Outputs) -> dict[str, Tensor]:
        """Return `p_cvr`, `p_ctr`, `p_ctcvr = p_ctr * p_cvr` and `p_ctavr`, each `[B]`."""
        click, action, with_action, without_action = (out.logits[head] for head in self.heads)
        ctr = click.sigmoid()
        mixture = action.sigmoid() * with_action.sigmoid() + (-action).sigmoid() * without_action.sigmoid()
        # The two weights add up to 1 only to rounding.
        cvr = mixture.clamp(max=1)
        return {"cvr": cvr, "ctr": ctr, "ctcvr": ctr * cvr, "ctavr": ctr * action.sigmoid()}
