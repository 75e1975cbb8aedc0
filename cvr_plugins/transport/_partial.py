"""Relaxed partial optimal transport between positive and unclicked rows, and the relabelling that reads it (IdeFN)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from cvr_plugins.options import check_choice, check_count, check_number
from cvr_plugins.transport._scaler import Domain, Options, Plan, Scaler
from cvr_plugins.transport._sinkhorn import working


@torch.no_grad()
def relaxed_partial_transport(
    cost: Tensor,
    kappa: float,
    *,
    regularization: float = 0.1,
    outer_steps: int = 5,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    check_every: int = 5,
    accelerate: bool = True,
    scale_cost: bool = True,
    domain: Domain = "auto",
) -> Plan:
    """Match a share kappa of the unclicked rows to the positives at least cost, by proximal point steps.

    min_pi <M, pi> over pi [P + 1, U] >= 0, where row P is a virtual positive that takes what is left over, at no cost:
    every unclicked column has mass 1 / U, every positive row kappa / P, the virtual row 1 - kappa. Step l = 1, 2, ...
    solves pi^(l) = argmin_pi <M, pi> + eps * KL(pi || pi^(l-1)) from pi^(0) = the product of the marginals, by the
    iterations of `sinkhorn`; pi^(l) tends linearly to an optimum of the linear programme. The virtual row's mass being
    fixed, a cost xi of that row would add a constant to the objective, and no plan depends on it.

    Parameters
    ----------
    cost
        ||z_i - z_j||^2 of positive i and unclicked row j, `[P, U]`, finite and not negative.
    kappa
        In (0, 1).
    regularization
        eps, in units of the mean cost (of the cost itself with `scale_cost=False`).
    outer_steps
        Proximal steps; more of them sharpen the plan as a smaller eps does.
    max_iterations, tolerance, check_every, accelerate, domain
        Of each step's inner iteration, see `sinkhorn`.
    scale_cost
        Divide the cost by its mean (unless all of it is 0), so that eps means the same on every data set.

    Returns
    -------
    Plan
        Without a gradient; `plan` `[P, U]` and `virtual` `[U]` are float64, their sum over rows is 1 / U to rounding;
        `cost` is <M, pi> in units of the mean cost (of the cost itself with `scale_cost=False`).

    Raises
    ------
    ValueError
        For a cost that is empty, negative or not finite, kappa outside (0, 1), options out of range.

    Notes
    -----
    pi^(l) has the form diag(u) exp(-l * M / eps) diag(v) and so is the entropic plan at eps / l as well. Hence an inner
    iteration that ends early does not bias the later steps, the marginal error of the last one
    (`Plan.marginal_error`) is all the error there is, and each starts where the potentials of the last two point.

    Deviations: equation 4 as printed is infeasible, and the literal marginals of equation 5 leave no positive more than
    2 % of a column; the marginals above are what the text describes. All rows and all columns are updated at once where
    algorithm 1 updates one coordinate: the same fixed point.

    References
    ----------
    Zhong et al., IdeFN, AAAI 2026, equations 5 to 7.
    """
    options = Options(max_iterations, tolerance, check_every, accelerate, domain)
    check_number("regularization", regularization, low=0, open_low=True)
    check_number("kappa", kappa, low=0, high=1, open_low=True, open_high=True)
    check_count("outer_steps", outer_steps)
    cost = working(cost, "relaxed_partial_transport")
    lowest, mean = torch.stack([cost.amin(), cost.mean()]).tolist()
    if not (lowest >= 0 and math.isfinite(mean)):
        raise ValueError("relaxed_partial_transport needs finite costs that are not negative.")
    positives, unclicked = cost.shape
    unit = regularization * (mean if scale_cost and mean > 0 else 1.0)
    largest = mean * cost.numel() / unit if unit > 0 else math.inf
    if not outer_steps * largest < torch.finfo(cost.dtype).max:
        raise ValueError(f"cost / regularization overflows {cost.dtype}: raise the regularization {regularization}.")
    score = cost.new_zeros(positives + 1, unclicked)
    torch.div(cost, unit, out=score[:-1])
    row_mass = cost.new_full((positives + 1,), kappa / positives)
    row_mass[-1] = 1 - kappa
    column_mass = cost.new_full((unclicked,), 1 / unclicked)
    scaler = Scaler(score, row_mass, column_mass, options)
    for step in range(1, outer_steps + 1):
        scaler.step(step)
    return scaler.result(
        scaler.plan[:-1],
        cost=regularization * torch.dot(score.flatten(), scaler.plan.flatten()).item(),
        virtual=scaler.plan[-1],
    )


@torch.no_grad()
def pseudo_positives(plan: Plan, *, relabel: Literal["mass", "argmax"] = "mass") -> Tensor:
    """Unclicked rows that a relaxed partial plan takes for false negatives, bool `[U]`.

    Parameters
    ----------
    plan
        One of `relaxed_partial_transport`.
    relabel
        `"mass"`: sum_{i <= P} pi_ij > pi_{P+1, j}, the positives together send column j more than the virtual row.
        `"argmax"`: max_{i <= P} pi_ij > pi_{P+1, j}, a single positive does (the paper's letter). With many positives
        the mass of a matched column is spread over several, and this finds few.

    Returns
    -------
    Tensor
        bool `[U]`.

    Raises
    ------
    ValueError
        For a plan without a virtual row or an unknown `relabel`.

    Notes
    -----
    `"mass"` is a deviation.

    References
    ----------
    Zhong et al., IdeFN, AAAI 2026, equations 13 and 14.
    """
    check_choice("relabel", relabel, ("mass", "argmax"))
    if plan.virtual is None:
        raise ValueError("pseudo_positives needs a plan with a virtual row: one of relaxed_partial_transport.")
    sent = plan.plan.sum(0) if relabel == "mass" else plan.plan.amax(0)
    return sent > plan.virtual
