"""Click-space training, unclicked rows as negatives, and the entire-space product: the controls and ESMM."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cvr_plugins.contracts import Labels, Objective, Outputs
from cvr_plugins.functional import bce, ctcvr_nll, masked_mean
from cvr_plugins.objectives._ctr import OptionalCTR


class Naive(Objective):
    """CVR from clicked rows only, CTR from all: `mean_D bce(o, p_ctr) + mean_O bce(r, p_cvr)`.

    o: click `[B]`; r: conversion `[B]`; D: the batch; O: its clicked rows. Without a click the CVR term is 0.

    Notes
    -----
    Biased in the entire space wherever clicked rows convert differently from unclicked ones.
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",), "cvr": ("ctr",)}

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr` and `cvr`."""
        return {
            "ctr": bce(out.logits["ctr"], y.click).mean(),
            "cvr": masked_mean(bce(out.logits["cvr"], y.conversion), y.click),
        }


class UnclickedNegative(OptionalCTR):
    """CVR from all exposures, unclicked ones without a conversion: `mean_D bce(o, p_ctr) + mean_D bce(t, p_cvr)`.

    o: click `[B]`; t: click and conversion `[B]`; D: the batch.

    Parameters
    ----------
    train_ctr
        False leaves out the CTR task, its head and all predictions but CVR.

    Notes
    -----
    The control of what is learnt from unclicked rows otherwise: its CVR is CTCVR by another name, and too low by the
    click rate.

    References
    ----------
    Huang et al., NISE, RecSys 2024, table 1 ("Negative").
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",), "cvr": ("ctr",)}

    def __init__(self, *, train_ctr: bool = True) -> None:
        super().__init__()
        self._set_train_ctr(train_ctr)

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, unless switched off, and `cvr`."""
        terms = {"ctr": bce(out.logits["ctr"], y.click).mean()} if self.train_ctr else {}
        return {**terms, "cvr": bce(out.logits["cvr"], y.click_and_conversion).mean()}


class ESMM(Objective):
    """CVR as the factor between CTR and CTCVR: `mean_D bce(o, p_ctr) + mean_D bce(t, p_ctr * p_cvr)`.

    o: click `[B]`; t: click and conversion `[B]`; D: the batch. The CVR tower has no loss of its own.

    References
    ----------
    Ma et al., Entire Space Multi-Task Model, SIGIR 2018, eq. 3.
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",)}

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr` and `ctcvr`."""
        ctr, cvr = out.logits["ctr"], out.logits["cvr"]
        return {
            "ctr": bce(ctr, y.click).mean(),
            "ctcvr": ctcvr_nll(ctr, cvr, y.click_and_conversion).mean(),
        }
