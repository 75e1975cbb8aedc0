"""Doubly robust learning whose imputed error is first corrected to fit the clicked rows: TDR."""

from __future__ import annotations

import torch
from torch import Tensor

from cvr_plugins.contracts import CTR_TOWER, Labels, Outputs
from cvr_plugins.objectives.counterfactual import DR


class TargetedDR(DR):
    """DR of an imputed conversion, with the imputed error moved along `1/p - 1` until it fits: the objective of TDR-JL.

    With p the click propensity, without gradient and clipped, `h = 1/p - 1`, `e = bce(r, p_cvr)` and
    `e_hat = bce(r_hat, p_cvr)`, r_hat the sigmoid of the head `imputation`:

    - the corrected imputation is `e~ = e_hat + eta h`, where `eta = sum_O [ h (e - e_hat) ] / sum_O [ h^2 ]` is the
      regression of the residuals of the clicked rows on h, which solves `sum_O [ h (e - e~) ] = 0`;
    - `L_tdr = mean_D [ e~ + o/p (e - e~) ]`, of which the imputation head gets no gradient;
    - `L_imp = mean_D [ o w (sg(e) - e_hat)^2 ]`, w the weights of DR, of which the CVR head gets none;
    - `L = L_ctr + lambda_cvr * L_tdr + lambda_imputation * L_imp + lambda_ctcvr * L_ctcvr`.

    D: the batch; O: its clicked rows; N: the others; o: click; r: conversion, read where o = 1 only; each `[B]`. Two
    steps per batch, as in DR with `alternate`: the imputation head alone on `L_imp`, then everything else.

    Parameters
    ----------
    propensity, lambda_cvr, lambda_imputation, lambda_ctcvr, train_ctr
        As in DR.
    propensity_floor
        In (0, 1]; p is clipped to [floor, max(floor, 1 - floor)].

    Raises
    ------
    ValueError
        For other values and combinations.

    Notes
    -----
    By the equation that eta solves, `L_tdr = mean_D [ o e + (1 - o) e~ ]`, the form of EIB; and eta being linear in the
    errors, it is `mean_D [ e_hat + o W (e - e_hat) ]`, DR with the weights `W = 1 + h S`,
    `S = sum_N [ h ] / sum_O [ h^2 ]`, which is how it is computed: in every batch `sum_O [ W h ] = sum_D [ h ]`, what
    1/p has on average only. W is 1/p if S = 1. Without a click, or if h is 0 in all clicked rows, eta is 0 and W is 1.

    If `e_hat` is right, eta is 0 and `L_tdr` the loss over the entire space, whatever the propensity. If p is right, S
    tends to 1 as the batch grows, and `L_tdr` to that loss; in a finite batch eta depends on the clicks, so that there
    is a bias of order 1/B, the price of the lower variance. Both need batches of many clicks: with a few, all of high
    propensity, S extrapolates.

    Deviations: e~ is corrected in every batch, and eta, which is a function of the CVR head, is differentiated: held
    constant it has no gradient, and the CVR head would learn as by DR-JL. The released program corrects once, after
    training, and makes one step on squared errors with it. The clip from above, without which clicked rows of p near 1
    let eta grow without bound. TDR-CL's collaborative learning of the imputation is left out.

    References
    ----------
    Li et al., TDR-CL, ICLR 2023 (TDR-JL).
    """

    def __init__(
        self,
        *,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        lambda_cvr: float = 1.0,
        lambda_imputation: float = 1.0,
        lambda_ctcvr: float = 0.0,
        train_ctr: bool = True,
    ) -> None:
        super().__init__(
            propensity=propensity,
            propensity_floor=propensity_floor,
            imputes="conversion",
            alternate=True,
            lambda_cvr=lambda_cvr,
            lambda_imputation=lambda_imputation,
            lambda_ctcvr=lambda_ctcvr,
            train_ctr=train_ctr,
        )

    def _weights(self, out: Outputs, y: Labels) -> Tensor:
        floor = self.propensity_floor
        self._inverse_weights(out, y)
        odds = 1 / self._click_propensity(out, y).clamp(max=max(floor, 1 - floor)) - 1
        unclicked = ((1 - y.click) * odds).sum()
        squares = (y.click * odds.square()).sum()
        scale = torch.where(squares > 0, unclicked / squares, torch.zeros_like(squares))
        return y.click * (1 + scale * odds)
