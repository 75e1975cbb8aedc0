"""A second, counterfactual CVR tower for unclicked rows: DCMT."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cvr_plugins.contracts import CTR_TOWER, Labels, Outputs
from cvr_plugins.functional import bce, ctcvr_nll, weighted_mean
from cvr_plugins.objectives._propensity import PropensityWeighted
from cvr_plugins.options import check_flag, check_number


class DCMT(PropensityWeighted):
    """CVR on clicked rows, its complement on unclicked rows, both propensity-weighted and softly tied together.

    `L = L_ctr + lambda_cvr * (L_factual + L_counterfactual) + lambda_constraint * L_constraint
    + lambda_ctcvr * L_ctcvr` with

    - `L_factual = mean_D [ o bce(r, p_cvr) / clip(sg(p_ctr)) ]`;
    - `L_counterfactual = mean_D [ (1 - o) bce(1, p_cf) / clip(1 - sg(p_ctr)) ]`: an unclicked row has r = 0, and its
      counterfactual twin the opposite label, 1 - 0 = 1;
    - `L_constraint = mean_D | 1 - (p_cvr + p_cf) |`, which moves both CVR heads;
    - `L_ctr = mean_D bce(o, p_ctr)`, `L_ctcvr = mean_D bce(t, p_ctr * p_cvr)`.

    o: click `[B]`; r: conversion `[B]`, read where o = 1 only; t = o r; p_cf: sigmoid of the head `counterfactual`,
    which serves training only; D: the batch; sg: no gradient; clip: to [propensity_floor, 1].

    Parameters
    ----------
    propensity
        `"ctr_tower"`, or the name of a model that is fitted before training (`cvr_plugins.propensities`), whose
        probabilities then take the place of `sg(p_ctr)`.
    propensity_floor
        In (0, 1].
    self_normalized
        Divide each weighted sum by the sum of its weights (the paper's choice) instead of by B; without a row of its
        kind a sum is 0.
    lambda_cvr
        Above 0.
    lambda_constraint, lambda_ctcvr
        At least 0, and 0 leaves the term out.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    Deviation: the floor.

    References
    ----------
    Zhu et al., DCMT, ICDE 2023; the plain form is eq. 6 of Huang et al., NISE, RecSys 2024.
    """

    heads = ("ctr", "cvr", "counterfactual")
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("cvr", "counterfactual"),
        "cvr": ("ctr", "counterfactual"),
        "counterfactual": ("ctr", "cvr"),
        "constraint": ("ctr",),
        "ctcvr": ("counterfactual",),
    }
    cvr_terms = ("cvr", "counterfactual", "constraint", "ctcvr")

    def __init__(
        self,
        *,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        self_normalized: bool = True,
        lambda_cvr: float = 1.0,
        lambda_constraint: float = 1e-3,
        lambda_ctcvr: float = 1.0,
    ) -> None:
        super().__init__()
        self._set_propensity(propensity, propensity_floor)
        self.self_normalized = check_flag("self_normalized", self_normalized)
        self.lambda_cvr = check_number("lambda_cvr", lambda_cvr, low=0, open_low=True)
        self.lambda_constraint = check_number("lambda_constraint", lambda_constraint, low=0)
        self.lambda_ctcvr = check_number("lambda_ctcvr", lambda_ctcvr, low=0)

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `cvr`, `counterfactual` and, unless switched off, `constraint` and `ctcvr`."""
        ctr, cvr, counterfactual = out.logits["ctr"], out.logits["cvr"], out.logits["counterfactual"]
        unclicked = 1 - y.click
        factual = weighted_mean(
            bce(cvr, y.conversion),
            self._inverse_weights(out, y),
            normalize=self.self_normalized,
        )
        flipped = weighted_mean(
            bce(counterfactual, torch.ones_like(counterfactual)),
            unclicked / self._no_click_propensity(out, y),
            normalize=self.self_normalized,
        )
        terms = {
            "ctr": bce(ctr, y.click).mean(),
            "cvr": self.lambda_cvr * factual,
            "counterfactual": self.lambda_cvr * flipped,
        }
        if self.lambda_constraint:
            gap = (-cvr).sigmoid() - counterfactual.sigmoid()
            terms["constraint"] = self.lambda_constraint * gap.abs().mean()
        if self.lambda_ctcvr:
            terms["ctcvr"] = self.lambda_ctcvr * ctcvr_nll(ctr, cvr, y.click_and_conversion).mean()
        return terms
