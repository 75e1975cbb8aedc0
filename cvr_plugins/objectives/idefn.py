"""False negatives among unclicked rows, found by relaxed partial optimal transport from converted ones: IdeFN."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvr_plugins.contracts import Architecture, Inputs, Labels, Mechanism, Outputs
from cvr_plugins.functional import bce
from cvr_plugins.objectives._ctr import OptionalCTR
from cvr_plugins.objectives._memory import RowMemory
from cvr_plugins.options import check_choice, check_count, check_flag, check_number
from cvr_plugins.transport import Plan, pseudo_positives, relaxed_partial_transport, squared_distances

logger = logging.getLogger("cvr_plugins")


class IdeFN(OptionalCTR):
    """CVR over the entire space: clicked rows by their label, unclicked rows by one that transport gives them.

    `L = L_ctr + gamma * (alpha * L_clicked + (1 - alpha) * L_unclicked)` with
    `L_ctr = mean_D bce(o, p_ctr)`, `L_clicked = mean_D [ o bce(r, p_cvr) ]`,
    `L_unclicked = mean_D [ (1 - o) bce(r~, p_cvr) ]`.

    o: click `[B]`; r: conversion `[B]`, read where o = 1 only; D: the batch; r~: 1 for the unclicked rows that
    `transport.relaxed_partial_transport` matches to converted rows, at the cost `sum_f ||z_if - z_jf||^2 / s_f` of the
    representations z of two rows, the concatenated embeddings (`Outputs.embedding`) without a gradient. f: a feature,
    each dense value being one; s_f: its variance over the rows that are matched, so that features weigh equally.

    U being the unclicked rows of the batch, the converted rows are the latest `max(1, floor(positives * kappa * U))` of
    all batches so far, this one included. Rows of earlier batches come from a memory that keeps their feature values
    and are embedded anew at each use, so that batches without a conversion are matched too and nothing goes stale.
    Before the first converted row `L_unclicked` is 0. The memory is state: it is saved with the weights, and so are the
    feature values of the converted rows in it.

    Parameters
    ----------
    alpha
        In (0, 1], weight of clicked rows against unclicked ones.
    gamma
        Above 0, weight of CVR against CTR.
    kappa
        In (0, 1), share of the unclicked rows that may be matched; below kappa U = 1 next to none is, which is said.
    positives
        In (0, 1], converted rows per row that may be matched. With more than one for each a converted row has less than
        one row's mass to send, and nothing is relabelled, however many and alike they are.
    memory_size
        At least 1.
    cost
        `"features"`, the one above, or `"plain"`, `||z_i - z_j||^2`, in which a feature weighs by its scale: dense
        values, of size 1, make up next to all of it while embeddings are small.
    regularization, outer_steps, max_iterations, tolerance
        Of the transport; regularization is above 0, in units of the mean cost.
    relabel
        `"argmax"`, r~ = 1 where a converted row sends more mass than the virtual row does; `"mass"`, where all together
        do; `"none"`, nowhere, nor is anything matched: unclicked rows are negatives of the same weight.
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
    Ali-CCP most of them) could not be matched; the bound on the converted rows, without which none is relabelled once
    the memory is full; and the cost, of which `"plain"` is the paper's.

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
        positives: float = 1.0,
        memory_size: int = 512,
        cost: str = "features",
        regularization: float = 0.1,
        outer_steps: int = 5,
        max_iterations: int = 1000,
        tolerance: float = 1e-6,
        relabel: str = "argmax",
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
        self.positives = check_number("positives", positives, low=0, high=1, open_low=True)
        self.cost = check_choice("cost", cost, ("features", "plain"))
        self.relabel = check_choice("relabel", relabel, ("argmax", "mass", "none"))
        self._set_train_ctr(train_ctr)
        self.unclicked = check_flag("unclicked", unclicked)
        self._matches = self.unclicked and self.relabel != "none"
        self._fields: tuple[int, ...] = ()
        self._told = False
        if self._matches:
            self.mechanism = Mechanism("relabelled", "unclicked rows relabelled", idle=0.0)
        self.memory = RowMemory(check_count("memory_size", memory_size))

    def prepare(self, architecture: Architecture, encoder: nn.Module) -> None:
        """Learn how the representation divides into features."""
        layout = architecture.layout
        self._fields = (*layout.embedded, *(1,) * layout.dense)

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
            pseudo = self.pseudo_labels(out, y) if self._matches else torch.zeros_like(cvr)
            rows = torch.zeros_like(y.click) if pseudo is None else 1 - y.click
            label = torch.zeros_like(cvr) if pseudo is None else pseudo
            terms["unclicked"] = self.gamma * (1 - self.alpha) * (rows * bce(cvr, label)).mean()
        return terms

    def after_batch(self, out: Outputs, y: Labels, x: Inputs) -> None:
        """Put the batch's converted rows into the memory. Raises ValueError if its features are not the memory's."""
        if not self._matches:
            return
        self.memory.append(x, _converted(y))
        if not self._told:
            # The first batch is a whole one.
            self._told, rows = True, len(y.click)
            matched = self.kappa * (rows - y.click.sum().item())
            if matched < 1:
                logger.warning(
                    "IdeFN may match %.2g rows of a batch of %s (kappa %g of those unclicked), too few to relabel any; "
                    "a train_batch_size of %s would do.",
                    *(matched, rows, self.kappa, math.ceil(rows / matched) if matched else "more"),
                )

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
            how: Any = self.relabel
            labels[rows] = pseudo_positives(plan, relabel=how).to(labels)
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
        most = max(1, int(self.positives * self.kappa * len(rows)))
        converted = self._representations_of_converted(out, y, min(most, self.memory_size))
        if not len(rows) or not len(converted):
            return None
        unclicked = out.embedding.detach()[rows]
        scale = self._scale(torch.cat([converted, unclicked]))
        cost = squared_distances(converted * scale, unclicked * scale)
        if not bool(scale.isfinite().all() and cost.isfinite().all()):
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

    def _scale(self, rows: Tensor) -> Tensor:
        """What the columns of representations are multiplied by, `[E]`: 1 / sqrt(s_f), 0 for a constant feature."""
        if self.cost == "plain" or not self._fields:
            return torch.ones_like(rows[0])
        variances = rows.var(dim=0, unbiased=False).split(self._fields)
        total = torch.cat([each.sum().expand(len(each)) for each in variances])
        # What is not finite stays so.
        return torch.where(total == 0, total, total.rsqrt() + 0 * total)

    def _representations_of_converted(self, out: Outputs, y: Labels, most: int) -> Tensor:
        """The latest converted rows, `most` of them, those of this batch last, `[P, E]`."""
        own = out.embedding.detach()[_converted(y)][-most:]
        wanted = min(most - len(own), self.memory_fill)
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
