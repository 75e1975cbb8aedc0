"""Unclicked rows as unlabelled ones that are their own pseudo-labels: NISE."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cvr_plugins.contracts import Labels, Mechanism, Outputs
from cvr_plugins.functional import bce, binary_entropy, masked_mean
from cvr_plugins.objectives._ctr import OptionalCTR
from cvr_plugins.options import check_flag


class NISE(OptionalCTR):
    """CVR over the entire space: clicked rows by their label, unclicked rows by the entropy of their prediction.

    `L = L_ctr + w * L_cvr` with `L_ctr = mean_D bce(o, p_ctr)`,
    `L_cvr = mean_D [ o bce(r, p_cvr) + (1 - o) bce(p_cvr, p_cvr) ]`, and w from the weighting: the method's own is
    `dynamic`, `w = alpha * min(sg(L_ctr) / sg(L_cvr), beta)`, with its options `alpha` and `beta`.

    o: click `[B]`; r: conversion `[B]`, read where o = 1 only; D: the batch; sg: no gradient.

    Parameters
    ----------
    train_ctr
        False leaves out the CTR task, its head, all predictions but CVR, and the weighting, which has nothing to
        balance (the paper's NISE-1).
    unclicked
        False leaves out the unclicked rows, and L_cvr is the mean over the clicked ones, 0 if there are none (NISE-2,
        eq. 2). NISE-3, without dynamic weighting, is `weighting: fixed`.

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    The second part of L_cvr, the term `unclicked`, is the entropy of p_cvr. It moves a logit z by its gradient
    `-z p_cvr (1 - p_cvr)`, away from 0, since the pseudo-label is not detached: detached, its gradient would be 0 and
    the method its own ablation.

    Logits start near 0, from where the entropy drives an unclicked row to either side. Where conversions are frequent
    among clicks and data are few that side is a matter of chance: on ml-100k-funnel the oracle AUC is .601 (standard
    deviation of five seeds .053), without the unclicked rows .709 (.006). Fewer of them help: with
    `non_click_fraction: 0.05` it is .727 (.009), and .718 (.010) without the term.

    References
    ----------
    Huang et al., NISE, RecSys 2024, eqs. 9 to 11.
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",), "cvr": ("ctr",), "unclicked": ("ctr",)}
    cvr_terms = ("cvr", "unclicked")
    mechanism = Mechanism("factor/cvr", "weight factor of the CVR loss")

    def __init__(self, *, train_ctr: bool = True, unclicked: bool = True) -> None:
        super().__init__()
        self._set_train_ctr(train_ctr)
        self.unclicked = check_flag("unclicked", unclicked)

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `cvr` (clicked rows) and `unclicked`, without those switched off."""
        cvr = out.logits["cvr"]
        errors = bce(cvr, y.conversion)
        terms = {"ctr": bce(out.logits["ctr"], y.click).mean()} if self.train_ctr else {}
        if self.unclicked:
            terms["cvr"] = (y.click * errors).mean()
            terms["unclicked"] = ((1 - y.click) * binary_entropy(cvr)).mean()
        else:
            terms["cvr"] = masked_mean(errors, y.click)
        return terms
