"""Propensity-weighted and doubly robust CVR losses: ESCM2, Multi-IPW, Multi-DR, DR-JL and MRDR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from cvr_plugins.contracts import CTR_TOWER, Labels, Outputs, Phase
from cvr_plugins.functional import bce, ctcvr_nll, masked_mean, weighted_mean
from cvr_plugins.objectives._ctr import OptionalCTR
from cvr_plugins.objectives._propensity import PropensityWeighted
from cvr_plugins.options import check_choice, check_flag, check_number

IMPUTATION_WEIGHTS = ("inverse", "variance", "bias", "mse")


class IPS(PropensityWeighted, OptionalCTR):
    """Clicked rows weighted by the inverse of their click propensity: the objective of Multi-IPW and ESCM2-IPS.

    `L = L_ctr + lambda_cvr * L_ips + lambda_ctcvr * L_ctcvr` with
    `L_ctr = mean_D bce(o, p_ctr)`, `L_ctcvr = mean_D bce(t, p_ctr * p_cvr)` and
    `L_ips = mean_D [ o / clip(sg(p_ctr), propensity_floor, 1) * bce(r, p_cvr) ]`.

    o: click `[B]`; r: conversion `[B]`, read where o = 1 only; t = o r; D: the batch; sg: no gradient.

    Parameters
    ----------
    propensity
        `"ctr_tower"`, the objective's own `p_ctr`, or the name of a model that is fitted before training
        (`cvr_plugins.propensities`: `"logistic_ids"`, `"logistic_features"`, `"column"`, `"uniform"`), whose
        probabilities then take the place of `sg(p_ctr)` in the weights.
    propensity_floor
        In (0, 1]; bounds the weights by its inverse, at the price of bias below it.
    self_normalized
        Divide `L_ips` by the sum of the weights instead of by B (SNIPS): slightly biased, lower variance.
    lambda_cvr
        Above 0.
    lambda_ctcvr
        At least 0, and 0 leaves the term out.
    train_ctr
        False leaves out the CTR task, its head and all predictions but CVR, which needs another propensity than the CTR
        tower's and no CTCVR term.

    Raises
    ------
    ValueError
        For other values and combinations.

    Notes
    -----
    If `p_ctr` is the true click probability and nowhere below the floor, the expectation of `L_ips` over clicks is
    `mean_D bce(r, p_cvr)`, the loss over the entire space. Deviation: the floor, without which one clicked row of tiny
    `p_ctr` outweighs the batch.

    References
    ----------
    Schnabel et al., Recommendations as Treatments, ICML 2016 (IPS and SNIPS: no CTR task, a propensity model fitted
    before); Zhang et al., Multi-IPW, WWW 2020 (no CTCVR term); Wang et al., ESCM2-IPS, SIGIR 2022.
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",), "cvr": ("ctr",)}

    def __init__(
        self,
        *,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        self_normalized: bool = False,
        lambda_cvr: float = 1.0,
        lambda_ctcvr: float = 1.0,
        train_ctr: bool = True,
    ) -> None:
        super().__init__()
        self._set_propensity(propensity, propensity_floor)
        self.self_normalized = check_flag("self_normalized", self_normalized)
        self.lambda_cvr = check_number("lambda_cvr", lambda_cvr, low=0, open_low=True)
        self.lambda_ctcvr = check_number("lambda_ctcvr", lambda_ctcvr, low=0)
        self._set_train_ctr(train_ctr)
        if not self.train_ctr and (self.propensity == CTR_TOWER or self.lambda_ctcvr):
            raise ValueError(
                "train_ctr=False needs a propensity that is fitted before training, such as "
                "propensity='logistic_ids', and lambda_ctcvr=0: without the CTR task there is no p_ctr; got "
                f"propensity={self.propensity!r}, lambda_ctcvr={self.lambda_ctcvr:g}."
            )

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `cvr` and, unless `lambda_ctcvr` is 0, `ctcvr`; without `train_ctr` no `ctr`."""
        cvr_terms = self._cvr_terms(out, y)
        if not self.train_ctr:
            return cvr_terms
        ctr, cvr = out.logits["ctr"], out.logits["cvr"]
        terms = {"ctr": bce(ctr, y.click).mean(), **cvr_terms}
        if self.lambda_ctcvr:
            terms["ctcvr"] = self.lambda_ctcvr * ctcvr_nll(ctr, cvr, y.click_and_conversion).mean()
        return terms

    def _cvr_terms(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        error = bce(out.logits["cvr"], y.conversion)
        weights = self._weights(out, y)
        return {"cvr": self.lambda_cvr * weighted_mean(error, weights, normalize=self.self_normalized)}

    def _weights(self, out: Outputs, y: Labels) -> Tensor:
        """The weights of the observed errors, without gradient, 0 in unclicked rows, `[B]`."""
        return self._inverse_weights(out, y)


class DR(IPS):
    """An imputed error everywhere, corrected by propensity weighting where the error is observed.

    The objective of ESCM2-DR, Multi-DR, DR-JL and MRDR. With `e = bce(r, p_cvr)`, `e_hat` its imputation,
    `w = 1 / clip(sg(p_ctr), propensity_floor, 1)`, or of another `propensity`, and the other symbols as in IPS:

    - `L_dr = mean_D [ e_hat + o w (e - e_hat) ]`, of which the imputation head gets no gradient;
    - `L_imp = mean_D [ o w (sg(e) - e_hat)^2 ]`, of which the CVR head gets no gradient;
    - `L = L_ctr + lambda_cvr * L_dr + lambda_imputation * L_imp + lambda_ctcvr * L_ctcvr`.

    Parameters
    ----------
    **options
        Those of IPS: propensity, propensity_floor, lambda_cvr, lambda_ctcvr, train_ctr, and self_normalized, of both
        weighted sums.
    imputes
        What the head `imputation`, of logit z, predicts. `"error"`: the error itself, `e_hat = softplus(z) >= 0`. In
        `L_dr` it is a constant, so that the CVR head's own gradient is that of IPS; the imputation acts on the model
        through shared layers alone. `"conversion"`: the conversion, `e_hat = bce(sigmoid(z), p_cvr)`. In `L_dr` the CVR
        head learns from unclicked rows too, and its gradient is doubly robust as well as the loss (Guo et al. call it
        double learning). `"constant"`: nothing, there is no such head and no `L_imp`; `e_hat = bce(m, p_cvr)`, m being
        the share of the batch's clicked rows that convert (the ablation of the imputation model).
    imputation_weights
        The weights of `L_imp`, with p the clipped propensity: `"inverse"`, o w; `"variance"`, `o (1 - p) / p^2`, whose
        expectation is the part of the variance of `L_dr` that depends on `e_hat` (MRDR); `"bias"`, `o (1 - p)^2 / p^3`,
        which stands for its bias (DR-BIAS); or `"mse"`, `bias_share` times the weights of `"bias"` plus `1 -
        bias_share` times those of `"variance"` (DR-MSE).
    bias_share
        In [0, 1], None for 0.5, of `"mse"` alone.
    alternate
        False trains all heads in one step; True (DR-JL, MRDR) makes two steps per batch: the imputation head alone on
        `L_imp`, then everything else on the remaining terms, against the imputation just improved. It needs
        `imputes="conversion"`: an error imputed by a head that moves nothing else never reaches the CVR head.
    lambda_imputation
        Above 0.

    Raises
    ------
    ValueError
        For other values and that combination.

    Notes
    -----
    The expectation of `L_dr` over clicks is the loss over the entire space if `p_ctr` *or* `e_hat` is right.

    What keeps it finite, where the papers report that training diverges: the floor bounds the weights; errors come
    from logits and their gradients are at most 1 a row; and `e_hat` is detached in `L_dr`. Undetached, `L_dr` is
    linear in `e_hat` with the factor `1 - o w`, negative on clicked rows: it has no minimum, and is lowered without
    bound by raising `e_hat` there. As it stands, `"error"` leaves every term bounded below as a function of what it
    trains. `"conversion"` does not (a clicked row amounts to the label `r~ + w (r - r~)`, which may lie outside
    [0, 1]), but the gradient with respect to a CVR logit stays below `lambda_cvr (1 + w) / B`.

    References
    ----------
    Wang et al., DR-JL, ICML 2019; Zhang et al., Multi-DR, WWW 2020; Guo et al., MRDR, SIGIR 2021; Wang et al.,
    ESCM2-DR, SIGIR 2022; Dai et al., A Generalized Doubly Robust Learning Framework, KDD 2022 (DR-BIAS, DR-MSE).
    """

    heads: tuple[str, ...] = ("ctr", "cvr", "imputation")
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("cvr", "imputation"),
        "cvr": ("ctr", "imputation"),
        "imputation": ("ctr", "cvr"),
        "ctcvr": ("imputation",),
    }

    def __init__(
        self,
        *,
        imputes: str = "error",
        imputation_weights: str = "inverse",
        bias_share: float | None = None,
        alternate: bool = False,
        lambda_imputation: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.imputes = check_choice("imputes", imputes, ("error", "conversion", "constant"))
        self.imputation_weights = check_choice("imputation_weights", imputation_weights, IMPUTATION_WEIGHTS)
        if bias_share is not None and self.imputation_weights != "mse":
            raise ValueError(f"bias_share is for imputation_weights='mse'; got {self.imputation_weights!r} with it.")
        self.bias_share = 0.5 if bias_share is None else check_number("bias_share", bias_share, low=0, high=1)
        self.alternate = check_flag("alternate", alternate)
        self.lambda_imputation = check_number("lambda_imputation", lambda_imputation, low=0, open_low=True)
        if self.imputes == "constant":
            if self.alternate or self.imputation_weights != "inverse":
                raise ValueError("imputes='constant' fits nothing: leave alternate and imputation_weights out.")
            self.heads = tuple(head for head in self.heads if head != "imputation")
            kept = {term: tuple(head for head in heads if head != "imputation") for term, heads in self.stops.items()}
            self.stops = {term: heads for term, heads in kept.items() if heads and term != "imputation"}
        if self.alternate:
            if self.imputes == "error":
                raise ValueError(
                    "alternate needs imputes='conversion': with 'error' the imputation, trained apart, never reaches "
                    "the CVR head, and training is that of MultiIPW (ESCM2_IPS with lambda_ctcvr). Choose that instead."
                )
            self.phases = self._alternating(shared=False)

    def _alternating(self, *, shared: bool) -> tuple[Phase, ...]:
        """Return the two phases; shared: whether the first moves shared layers, too."""
        heads = tuple(head for head in self.heads if head != "imputation")
        terms = (*heads, "ctcvr") if self.lambda_ctcvr else heads
        return (
            Phase("imputation", terms=("imputation",), trains=("imputation",), shared=shared),
            Phase("prediction", terms=terms, trains=heads),
        )

    def _cvr_terms(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        cvr = out.logits["cvr"]
        error = bce(cvr, y.conversion)
        if self.imputes == "constant":
            constant = bce(cvr, masked_mean(y.conversion, y.click).expand_as(cvr))
            correction = weighted_mean(error - constant, self._weights(out, y), normalize=self.self_normalized)
            return {"cvr": self.lambda_cvr * (constant.mean() + correction)}

        imputation = out.logits["imputation"]
        constant = self._imputed_error(imputation.detach(), cvr)
        correction = weighted_mean(error - constant, self._weights(out, y), normalize=self.self_normalized)

        weights = self._imputation_weights(out, y)
        residual = error.detach() - self._imputed_error(imputation, cvr.detach())
        squared = weighted_mean(residual.square(), weights, normalize=self.self_normalized)
        return {
            "cvr": self.lambda_cvr * (constant.mean() + correction),
            "imputation": self.lambda_imputation * squared,
        }

    def _imputation_weights(self, out: Outputs, y: Labels) -> Tensor:
        if self.imputation_weights == "inverse":
            return y.click / self._click_propensity(out, y)
        if self.imputation_weights == "variance":
            return y.click * self._variance_weights(out, y)
        share = 1.0 if self.imputation_weights == "bias" else self.bias_share
        return y.click * (share * self._bias_weights(out, y) + (1 - share) * self._variance_weights(out, y))

    def _imputed_error(self, imputation: Tensor, cvr: Tensor) -> Tensor:
        return softplus(imputation) if self.imputes == "error" else bce(cvr, imputation.sigmoid())
