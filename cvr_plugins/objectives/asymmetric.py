"""Two weighted CVR predictors that label, where they agree, the rows a third one is trained on: AS-IPS."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cvr_plugins.contracts import CTR_TOWER, Labels, Mechanism, Outputs
from cvr_plugins.functional import bce, masked_mean, weighted_mean
from cvr_plugins.objectives.counterfactual import IPS
from cvr_plugins.options import check_count, check_flag, check_number


class AsymmetricIPS(IPS):
    """Asymmetric tri-training: heads `first` and `second` learn by IPS, then label rows for the head `cvr`.

    In the first `warm_up` epochs, with w the weights of IPS:

    - `L_first = sum_O [ w bce(r, p_1) ] / sum_O [ w ]`, `L_second` the same of p_2; `L_cvr = mean_O bce(r, p_cvr)`,
      or nothing without `pretrain`.

    From then on, A being the rows of the batch, clicked or not, where `|p_1 - p_2| <= agreement`:

    - `L_cvr = mean_A bce(sg(p_1), p_cvr)`, `L_second = mean_A bce(sg(p_1), p_2)`, and no `L_first`: p_1 would be its
      own label, whose gradient is 0.

    `L = L_ctr + lambda_cvr * (L_cvr + L_first + L_second)`, a mean over no row being 0. p_1, p_2: of the heads `first`
    and `second`, which predict in training only; o: click, O: the clicked rows; r: conversion, read where o = 1 only;
    each `[B]`. The terms are `ctr`, without `train_ctr` none; `cvr`; `second`; and in the first stage `first`. How many
    epochs have ended is state, and saved with the weights.

    Parameters
    ----------
    warm_up
        Epochs, at least 1.
    agreement
        In [0, 1].
    propensity, propensity_floor, train_ctr
        As in IPS.
    self_normalized
        False divides the sums of w by B instead.
    lambda_cvr
        Above 0, of all three.
    pretrain
        False leaves the head `cvr` alone in the first stage.

    Raises
    ------
    ValueError
        For other values and combinations.

    Notes
    -----
    Epochs of the first stage are not kept and do not count towards early stopping (`ready`): with `pretrain` their CVR
    head has learnt from clicked rows alone, without it has not learnt at all. Deviations: cross-entropy of conversions
    for squared errors of ratings; the three predictors are heads of one architecture, and see the same batches; a
    batch's exposures take the place of pairs drawn from all.

    References
    ----------
    Saito, Asymmetric Tri-training for Debiasing Missing-Not-At-Random Explicit Feedback, SIGIR 2020, and its released
    program, which looks at validation data in the second stage only.
    """

    heads = ("ctr", "cvr", "first", "second")
    stops: Mapping[str, tuple[str, ...]] = {
        "ctr": ("cvr", "first", "second"),
        "cvr": ("ctr", "first", "second"),
        "first": ("ctr", "cvr", "second"),
        "second": ("ctr", "cvr", "first"),
    }

    cvr_terms = ("cvr", "first", "second")
    mechanism = Mechanism("agreed", "rows whose labels agree", idle=0.0)

    finished: Tensor
    """Epochs that have ended."""

    def __init__(
        self,
        *,
        warm_up: int = 10,
        agreement: float = 0.1,
        propensity: str = CTR_TOWER,
        propensity_floor: float = 0.01,
        self_normalized: bool = True,
        lambda_cvr: float = 1.0,
        pretrain: bool = True,
        train_ctr: bool = True,
    ) -> None:
        super().__init__(
            propensity=propensity,
            propensity_floor=propensity_floor,
            self_normalized=self_normalized,
            lambda_cvr=lambda_cvr,
            lambda_ctcvr=0.0,
            train_ctr=train_ctr,
        )
        self.warm_up = self.first_stage = check_count("warm_up", warm_up)
        self.pretrain = check_flag("pretrain", pretrain)
        self.agreement = check_number("agreement", agreement, low=0, high=1)
        self.register_buffer("finished", torch.zeros((), dtype=torch.int64))

    @property
    def ready(self) -> bool:  # type: ignore[override]
        """Whether an epoch of the second stage has been trained, asked before that epoch's end."""
        return bool(self.finished >= self.warm_up)

    def on_epoch_end(self, epoch: int) -> bool:
        """Count the epoch; no parameter is replaced."""
        self.finished.fill_(epoch + 1)
        return False

    def _cvr_terms(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        # A branch, and no factor of 0: what gets no gradient at all is left alone by weight decay, too.
        terms = self._by_labels(out, y) if self.finished < self.warm_up else self._by_pseudo_labels(out)
        return {name: self.lambda_cvr * term for name, term in terms.items()}

    def _by_labels(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        errors = {head: bce(out.logits[head], y.conversion) for head in ("cvr", "first", "second")}
        weights = self._weights(out, y)
        naive = masked_mean(errors.pop("cvr"), y.click)
        weighted = {h: weighted_mean(error, weights, normalize=self.self_normalized) for h, error in errors.items()}
        return {"cvr": naive, **weighted} if self.pretrain else weighted

    def _by_pseudo_labels(self, out: Outputs) -> dict[str, Tensor]:
        agreed = self._agreed(out)
        self.measure("agreed", agreed.sum(), len(agreed))
        label = out.logits["first"].detach().sigmoid()
        return {head: masked_mean(bce(out.logits[head], label), agreed) for head in ("cvr", "second")}

    def _agreed(self, out: Outputs) -> Tensor:
        """1 where the two predictors agree, else 0, without gradient, `[B]`."""
        first, second = (out.logits[head].detach().sigmoid() for head in ("first", "second"))
        return ((first - second).abs() <= self.agreement).to(first)
