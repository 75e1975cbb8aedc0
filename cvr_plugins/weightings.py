"""Weightings of the CTR loss against the CVR loss: dynamic, fixed, DWA and DTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvr_plugins.contracts import Labels, Objective, Weighting
from cvr_plugins.metrics import auc
from cvr_plugins.options import check_count, check_number

__all__ = ["DTP", "DWA", "Dynamic", "Fixed", "terms_by_task", "unbalanced"]

TASKS = ("ctr", "cvr")

_LEAST_AUC = 0.01


def terms_by_task(objective: Objective) -> dict[str, tuple[str, ...]]:
    """Return "ctr" and "cvr" -> names of the objective's loss terms that make up the task's loss."""
    return {"ctr": tuple(objective.ctr_terms), "cvr": tuple(objective.cvr_terms)}


def unbalanced(objective: Objective, weighting: Weighting) -> str:
    """Say why `weighting` cannot balance the losses of `objective`, in one sentence; "" if it can."""
    terms, name, title = terms_by_task(objective), type(objective).__name__, type(weighting).__name__
    for task, names in terms.items():
        if not names:
            return f"{title} balances a CTR and a CVR loss, and {name} has no {task.upper()} loss with these options."
    both = sorted(set(terms["ctr"]) & set(terms["cvr"]))
    if both:
        return f"{name} names the loss term {both[0]!r} in ctr_terms and in cvr_terms; one term has one factor."
    missing = [task for task in weighting.reads if task not in objective.tasks]
    if missing:
        predicted = ", ".join(objective.tasks)
        return f"{title} reads predictions of {missing[0]!r}, and {name} predicts {predicted} with these options."
    return ""


class Fixed(Weighting):
    """A constant: `L = L_ctr + cvr_weight * L_cvr`.

    Parameters
    ----------
    cvr_weight
        Above 0; 1 is the plain sum of the losses.

    Raises
    ------
    ValueError
        For other values.

    References
    ----------
    With 1 the ablation NISE-3 of Huang et al., NISE, RecSys 2024, section 5.5.
    """

    def __init__(self, *, cvr_weight: float = 1.0) -> None:
        super().__init__()
        self.cvr_weight = check_number("cvr_weight", cvr_weight, low=0, open_low=True)

    def factors(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return `cvr_weight` for "cvr"."""
        return {"cvr": self.cvr_weight}


class Dynamic(Weighting):
    """The ratio of the batch's losses: `L = L_ctr + w * L_cvr`, `w = alpha * min(sg(L_ctr) / sg(L_cvr), beta)`.

    sg: no gradient. Below the cap both losses count the same in each batch, times alpha, however rare conversions
    are; at `L_cvr = 0` the weight is at the cap.

    Parameters
    ----------
    alpha
        Above 0, size of the CVR loss relative to the CTR loss.
    beta
        Above 0, cap of the ratio.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    Deviation: the ratio is taken to |L_cvr|, since a doubly robust loss may be negative, and a negative weight would
    have the model maximise it.

    References
    ----------
    Huang et al., NISE, RecSys 2024, eq. 11.
    """

    def __init__(self, *, alpha: float = 1.0, beta: float = 50.0) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, low=0, open_low=True)
        self.beta = check_number("beta", beta, low=0, open_low=True)

    def factors(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return w for "cvr"."""
        cvr = losses["cvr"].abs()
        ratio = losses["ctr"].abs() / cvr.clamp(min=torch.finfo(cvr.dtype).tiny)
        return {"cvr": self.alpha * ratio.clamp(max=self.beta)}


class DWA(Weighting):
    """Dynamic weight average: the loss that fell less in the last two epochs counts more.

    `w_k = 2 softmax_k( r_k / temperature )`, `r_k = |mean loss of the last epoch| / |that of the one before|`, for
    k = CTR, CVR; both weights are 1 in the first two epochs, and add up to 2 in all. r_k = 1 where the earlier mean
    is 0. The mean is over the epoch's batches.

    Parameters
    ----------
    temperature
        Above 0, and high for equal weights.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    State: the sums of the running epoch, the means of the one before, the weights. Deviation: absolute values, since a
    doubly robust loss may be negative.

    References
    ----------
    Liu et al., End-to-end Multi-task Learning with Attention, CVPR 2019, eq. 7.
    """

    sums: Tensor
    batches: Tensor
    means: Tensor
    weights: Tensor

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, low=0, open_low=True)
        self.register_buffer("sums", torch.zeros(2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("means", torch.full((2,), math.nan))
        self.register_buffer("weights", torch.ones(2))

    def factors(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the weights of this epoch."""
        return dict(zip(TASKS, self.weights.unbind(), strict=True))

    def after_batch(self, losses: Mapping[str, Tensor], predictions: Mapping[str, Tensor], y: Labels) -> None:
        """Add the losses to those of the epoch."""
        self.sums += torch.stack([losses[task] for task in TASKS]).to(self.sums)
        self.batches += 1

    @torch.no_grad()
    def on_epoch_end(self, epoch: int) -> None:
        """Compare the epoch's mean losses with those of the one before."""
        if not self.batches:
            return
        means = self.sums.abs() / self.batches
        if self.means.isfinite().all():
            largest = torch.finfo(means.dtype).max
            ratios = torch.where(self.means > 0, means / self.means, torch.ones_like(means)).clamp(max=largest)
            self.weights = 2 * torch.softmax(ratios / self.temperature, dim=0)
        self.means = means
        self.sums = torch.zeros_like(self.sums)
        self.batches = torch.zeros_like(self.batches)


class DTP(Weighting):
    """Dynamic task prioritisation: the task that is predicted worse counts more.

    `w_k = -(1 - kappa_k)^focal_gamma * log(kappa_k)` with kappa_k the running AUC of task k: CTR on all rows, CVR on
    the clicked ones, where conversions are observed. Every `update_every` batches the exact AUC over their rows
    enters as `kappa <- running_average * AUC + (1 - running_average) * kappa`; one batch may hold no conversion. An
    undefined AUC (one class only) leaves kappa as it is, and until both tasks have one both weights are 1. An AUC
    below 0.01 counts as 0.01, so that no weight is infinite; at 1 a weight is 0.

    Parameters
    ----------
    focal_gamma
        At least 0.
    running_average
        In (0, 1], share of the newest AUC.
    update_every
        Batches, at least 1.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    State: the AUCs, the weights, and predictions and labels of the batches since the last update. Deviation: AUC over
    several batches instead of a figure per batch.

    References
    ----------
    Guo et al., Dynamic Task Prioritization for Multitask Learning, ECCV 2018, eqs. 3 and 4.
    """

    reads = TASKS
    aucs: Tensor
    weights: Tensor
    scores: Tensor
    labels: Tensor
    sizes: Tensor

    def __init__(self, *, focal_gamma: float = 1.0, running_average: float = 0.5, update_every: int = 100) -> None:
        super().__init__()
        self.focal_gamma = check_number("focal_gamma", focal_gamma, low=0)
        self.running_average = check_number("running_average", running_average, low=0, high=1, open_low=True)
        self.update_every = check_count("update_every", update_every)
        self.register_buffer("aucs", torch.full((2,), math.nan))
        self.register_buffer("weights", torch.ones(2))
        self._forget_batches()

    def _forget_batches(self) -> None:
        device = self.weights.device
        self.register_buffer("scores", torch.empty(0, 2, dtype=self.weights.dtype, device=device))
        self.register_buffer("labels", torch.empty(0, 2, dtype=torch.bool, device=device))
        self.register_buffer("sizes", torch.empty(0, dtype=torch.int64, device=device))

    def factors(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """Return the weights since the last update."""
        return dict(zip(TASKS, self.weights.unbind(), strict=True))

    def after_batch(self, losses: Mapping[str, Tensor], predictions: Mapping[str, Tensor], y: Labels) -> None:
        """Keep the batch's predictions and labels; update the AUCs once there are enough batches."""
        scores = torch.stack([predictions[task] for task in TASKS], dim=1)
        labels = torch.stack([y.click, y.click_and_conversion], dim=1) > 0
        self.scores = torch.cat([self.scores, scores.to(self.scores)])
        self.labels = torch.cat([self.labels, labels.to(self.labels)])
        # Their number is a shape, which can be asked for without waiting for the device.
        self.sizes = torch.cat([self.sizes, self.sizes.new_full((1,), len(scores))])
        if len(self.sizes) >= self.update_every:
            self._update()
            self._forget_batches()

    def _update(self) -> None:
        scores, labels = self.scores.double().cpu().numpy(), self.labels.cpu().numpy()
        clicked = labels[:, 0]
        found = (_auc(labels[:, 0], scores[:, 0]), _auc(labels[clicked, 1], scores[clicked, 1]))
        share = self.running_average
        running = [
            before if now is None else now if math.isnan(before) else share * now + (1 - share) * before
            for now, before in zip(found, self.aucs.tolist(), strict=True)
        ]
        self.aucs = self.aucs.new_tensor(running)
        if not any(map(math.isnan, running)):
            kappa = self.aucs.clamp(min=_LEAST_AUC)
            self.weights = -((1 - kappa) ** self.focal_gamma) * kappa.log()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # How many rows there are since the last update is known from the state alone.
        for name in ("scores", "labels", "sizes"):
            held, found = getattr(self, name), state_dict.get(prefix + name)
            if isinstance(found, Tensor) and found.shape[1:] == held.shape[1:] and found.dim() == held.dim():
                self.register_buffer(name, held.new_empty(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    # A model that has diverged is reported by its loss, not here.
    return auc(labels, scores) if np.isfinite(scores).all() else None
