"""False negatives among unclicked rows, found by relaxed partial optimal transport from converted ones: IdeFN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from cvr_plugins.contracts import Inputs, Labels, Mechanism, Outputs
from cvr_plugins.functional import bce
from cvr_plugins.objectives._ctr import OptionalCTR
from cvr_plugins.objectives._memory import RowMemory
from cvr_plugins.options import check_choice, check_count, check_flag, check_number
from cvr_plugins.transport import Plan, pseudo_positives, relaxed_partial_transport, squared_distances


class IdeFN(OptionalCTR):
    """CVR over the entire space: clicked rows by their label, unclicked rows by one that transport gives them.

    `L = L_ctr + gamma * (alpha * L_clicked + (1 - alpha) * L_unclicked)` with
    `L_ctr = mean_D bce(o, p_ctr)`, `L_clicked = mean_D [ o bce(r, p_cvr) ]`,
    `L_unclicked = mean_D [ (1 - o) bce(r~, p_cvr) ]`.

    o: click `[B]`; r: conversion `[B]`, read where o = 1 only; D: the batch; r~: 1 for the unclicked rows that
    `transport.relaxed_partial_transport` matches to converted rows, at the cost `||z_i - z_j||^2` of representations z,
    the concatenated embeddings (`Outputs.embedding`, dense values included) without a gradient.

    The converted rows are the latest `memory_size` of all batches so far, this one included: rows of earlier batches
    come from a memory that keeps their feature values and are embedded anew at each use, so that batches without a
    conversion are matched too and nothing goes stale. Before the first converted row `L_unclicked` is 0. The memory is
    state: it is saved with the weights, and so are the feature values of the converted rows in it.

    Parameters
    ----------
    alpha
        In (0, 1], weight of clicked rows against unclicked ones.
    gamma
        Above 0, weight of CVR against CTR.
    kappa
        In (0, 1), share of the unclicked rows that may be matched.
    memory_size
        At least 1; from 2 kappa U converted rows on (U: unclicked rows of the batch) a single one has too little mass
        to have a row relabelled, and several must agree: with more of them precision rises, recall falls, and where
        conversions show no pattern nothing is relabelled.
    regularization, outer_steps, max_iterations, tolerance
        Of the transport; regularization is above 0, in units of the mean cost.
    relabel
        `"mass"`, r~ = 1 where the converted rows together send more mass than the virtual row does; `"argmax"`, where a
        single one does (the paper's letter), which finds few when the converted rows are many.
    train_ctr
        False leaves out the CTR task, its head and all predictions but CVR (the paper's IdeFN-T).
    unclicked
        False leaves out `L_unclicked` and keeps no memory (IdeFN-R: the click space only).

    Raises
    ------
    ValueError
        For other values.

    Notes
    -----
    Deviations: those of the transport (see there); the memory, without which a batch that holds no conversion (on
    Ali-CCP most of them) could not be matched; and `relabel="mass"`.

    References
    ----------
    Zhong et al., IdeFN, AAAI 2026, eqs. 4 to 7 and 13 to 15.
    """

    stops: Mapping[str, tuple[str, ...]] = {"ctr": ("cvr",), "cvr": ("ctr",), "unclicked": ("ctr",)}
    cvr_terms = ("cvr", "unclicked")

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        gamma: float = 30.0,
        kappa: float = 0.02,
        memory_size: int = 512,
        regularization: float = 0.1,
        outer_steps: int = 5,
        max_iterations: int = 1000,
        tolerance: float = 1e-6,
        relabel: Literal["mass", "argmax"] = "mass",
        train_ctr: bool = True,
        unclicked: bool = True,
    ) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, low=0, high=1, open_low=True)
        self.gamma = check_number("gamma", gamma, low=0, open_low=True)
        self.kappa = check_number("kappa", kappa, low=0, high=1, open_low=True, open_high=True)
        self.regularization = check_number("regularization", regularization, low=0, open_low=True)
        self.outer_steps = check_count("outer_steps", outer_steps)
        self.max_iterations = check_count("max_iterations", max_iterations)
        self.tolerance = check_number("tolerance", tolerance, low=0)
        self.relabel: Literal["mass", "argmax"] = check_choice("relabel", relabel, ("mass", "argmax"))
        self._set_train_ctr(train_ctr)
        self.unclicked = check_flag("unclicked", unclicked)
        if self.unclicked:
            self.mechanism = Mechanism("relabelled", "unclicked rows relabelled", idle=0.0)
        self.memory = RowMemory(check_count("memory_size", memory_size))

    @property
    def memory_size(self) -> int:
        """Converted rows the memory holds at most."""
        return self.memory.capacity

    @property
    def memory_fill(self) -> int:
        """Converted rows the memory holds now."""
        return self.memory.fill

    def loss(self, out: Outputs, y: Labels) -> dict[str, Tensor]:
        """Return the terms `ctr`, `cvr` (clicked rows) and `unclicked`, without those switched off.

        Raises ValueError if the memory holds rows and `out.embed` is missing, or if representations are not finite.
        """
        cvr = out.logits["cvr"]
        terms = {}
        if self.train_ctr:
            terms["ctr"] = bce(out.logits["ctr"], y.click).mean()
        terms["cvr"] = self.gamma * self.alpha * (y.click * bce(cvr, y.conversion)).mean()
        if self.unclicked:
            pseudo = self.pseudo_labels(out, y)
            rows = torch.zeros_like(y.click) if pseudo is None else 1 - y.click
            label = torch.zeros_like(cvr) if pseudo is None else pseudo
            terms["unclicked"] = self.gamma * (1 - self.alpha) * (rows * bce(cvr, label)).mean()
        return terms

    def after_batch(self, out: Outputs, y: Labels, x: Inputs) -> None:
        """Put the batch's converted rows into the memory. Raises ValueError if its features are not the memory's."""
        if self.unclicked:
            self.memory.append(x, _converted(y))

    @torch.no_grad()
    def pseudo_labels(self, out: Outputs, y: Labels) -> Tensor | None:
        """Return r~ `[B]`, 0/1 in the logits' type and 0 on clicked rows; None if there is nothing to match.

        Measures `relabelled`, the share of the unclicked rows; and per matching `transport/marginal_error` (units of
        mass, of 1 in all), `transport/iterations` and `transport/converged` (1 if the error reached the tolerance).
        """
        labels = torch.zeros_like(out.logits["cvr"])
        matched = self._match(out, y)
        if matched is not None:
            rows, plan = matched
            labels[rows] = pseudo_positives(plan, relabel=self.relabel).to(labels)
            for name in ("marginal_error", "iterations", "converged"):
                self.measure(f"transport/{name}", labels.new_tensor(float(getattr(plan, name))), 1)
        self.measure("relabelled", labels.sum(), (1 - y.click).sum())
        return None if matched is None else labels

    def diagnostics(self) -> dict[str, float]:
        """Return `memory/size`, `memory/fill` and `memory/seen`, the converted rows so far."""
        figures = {"size": self.memory_size, "fill": self.memory_fill, "seen": int(self.memory.seen)}
        return {f"memory/{name}": float(value) for name, value in figures.items()}

    def _match(self, out: Outputs, y: Labels) -> tuple[Tensor, Plan] | None:
        """Indices `[U]` of the unclicked rows and the plan to them; None without them or without a converted row."""
        rows = (y.click == 0).nonzero().squeeze(1)
        converted = self._representations_of_converted(out, y)
        if not len(rows) or not len(converted):
            return None
        cost = squared_distances(converted, out.embedding.detach()[rows])
        if not bool(cost.isfinite().all()):
            raise ValueError(
                "IdeFN cannot match rows whose representations are not finite or too large to be squared; "
                "lower the learning rate, or normalise the dense features (dense: tanh)."
            )
        plan = relaxed_partial_transport(
            cost,
            self.kappa,
            regularization=self.regularization,
            outer_steps=self.outer_steps,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        )
        return rows, plan

    def _representations_of_converted(self, out: Outputs, y: Labels) -> Tensor:
        """The latest `memory_size` converted rows, those of this batch last, `[P, E]`."""
        own = out.embedding.detach()[_converted(y)][-self.memory_size :]
        wanted = min(self.memory_size - len(own), self.memory_fill)
        if not wanted:
            return own
        if out.embed is None:
            raise ValueError(
                "IdeFN embeds converted rows of earlier batches anew and needs Outputs.embed to do so; "
                "compute outputs with CVRModel.outputs, which sets it."
            )
        return torch.cat([self.memory.embed(out.embed, wanted).to(own), own])


def _converted(y: Labels) -> Tensor:
    return y.click_and_conversion > 0
