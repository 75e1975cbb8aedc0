"""Entropic optimal transport between two given marginals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvr_plugins.options import check_number
from cvr_plugins.transport._scaler import Domain, Options, Plan, Scaler


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    row_mass: Tensor,
    column_mass: Tensor,
    regularization: float,
    *,
    prior: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    check_every: int = 5,
    accelerate: bool = True,
    domain: Domain = "auto",
) -> Plan:
    """Entropic optimal transport, argmin_pi <C, pi> + eps * KL(pi || Q) subject to pi 1 = a and pi^T 1 = b.

    The plan is diag(u) K diag(v), K = Q * exp(-C / eps), with u = a / (K v) and v = b / (K^T u) in turn, all at once;
    it ends with v, so that the columns hold to rounding.

    Parameters
    ----------
    cost
        C `[P, U]`, finite.
    row_mass, column_mass
        a `[P]` and b `[U]`, not negative, of one total (equal to 1e-6, then b is rescaled).
    regularization
        eps > 0, in the units of the cost.
    prior
        Q `[P, U]`, not negative, the reference plan (default: 1 everywhere, entropic transport); where it is 0 so is
        the plan. With the previous plan as prior this is one proximal step.
    max_iterations, tolerance, check_every
        Every `check_every` iterations the marginal error is looked at; the iteration stops once it is at most
        `tolerance` (units of mass) or after `max_iterations`, and `Plan` says which.
    accelerate
        Every ninth iteration or later, where the error is looked at, extrapolate log u from the last nine (Anderson's
        method, taken back where it does not help). The plan is the same, the iterations are far fewer where the plain
        iteration is slow; False is the plain iteration.
    domain
        `"auto"` iterates on u and v in float64, folds them into K when they grow, and goes on with their logarithms
        (some eight times slower) if they leave the range of float64 nevertheless; `"log"` begins there. On a device
        without float64 (MPS) the log domain in float32 is all there is, the plan is float32, and the tolerance at least
        1e-4.

    Returns
    -------
    Plan
        Without a gradient; float64 `[P, U]`.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, negative masses, unequal totals, a prior that leaves a
        row or column of positive mass without support, and options out of range.

    References
    ----------
    Cuturi, Sinkhorn Distances, NIPS 2013; folding: Schmitzer, Stabilized Sparse Scaling Algorithms for Entropy
    Regularized Transport Problems, SIAM J. Sci. Comput. 2019, algorithm 2.
    """
    options = Options(max_iterations, tolerance, check_every, accelerate, domain)
    check_number("regularization", regularization, low=0, open_low=True)
    cost = working(cost, "sinkhorn")
    row_mass = _mass(row_mass, "row_mass", cost.shape[0], cost)
    column_mass = _mass(column_mass, "column_mass", cost.shape[1], cost)
    total, column_total = row_mass.sum().item(), column_mass.sum().item()
    if abs(total - column_total) > 1e-6 * total:
        raise ValueError(
            f"sinkhorn needs row and column masses of one total; got {total:.8g} and {column_total:.8g}."
            " Rescale one of them."
        )
    column_mass = column_mass * (total / column_total)
    score = cost / regularization
    if not math.isfinite(score.sum().item()):
        raise ValueError(
            "sinkhorn needs a finite cost / regularization; the cost holds NaN or infinite values, or is too large for"
            f" the regularization {regularization}."
        )
    rows, columns = row_mass > 0, column_mass > 0
    if prior is not None:
        prior = _checked_prior(prior, score, rows, columns)
        score -= prior.log()
    scaler = Scaler(score[rows][:, columns], row_mass[rows], column_mass[columns], options)
    scaler.step(1.0)
    plan = torch.zeros_like(score)
    plan[rows.nonzero(), columns.nonzero().T] = scaler.plan
    if prior is not None:
        plan.masked_fill_(prior == 0, 0.0)
    return scaler.result(plan, cost=torch.dot(cost.flatten(), plan.flatten()).item())


def working(cost: Tensor, caller: str) -> Tensor:
    """The cost in the widest floating type of its device; ValueError if it is no matrix of real numbers."""
    if cost.ndim != 2 or 0 in cost.shape:
        raise ValueError(f"{caller} needs a cost matrix with a row and a column at least; got {list(cost.shape)}.")
    if cost.dtype == torch.bool or cost.is_complex():
        raise ValueError(f"{caller} needs a cost matrix of real numbers; got {cost.dtype}.")
    return cost.to(torch.float32 if cost.device.type == "mps" else torch.float64)


def _mass(mass: Tensor, name: str, size: int, cost: Tensor) -> Tensor:
    if list(mass.shape) != [size]:
        raise ValueError(f"sinkhorn needs {name} of shape [{size}] to fit the cost; got {list(mass.shape)}.")
    mass = mass.to(cost)
    if not (bool((mass >= 0).all()) and 0 < mass.sum().item() < math.inf):
        raise ValueError(f"sinkhorn needs a {name} of finite values, none negative and not all zero.")
    return mass


def _checked_prior(prior: Tensor, score: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    if prior.shape != score.shape:
        raise ValueError(f"sinkhorn needs a prior of the cost's shape {list(score.shape)}; got {list(prior.shape)}.")
    prior = prior.to(score)
    if not (bool((prior >= 0).all()) and math.isfinite(prior.sum().item())):
        raise ValueError("sinkhorn needs a prior of finite values, none negative.")
    support = (prior > 0)[rows][:, columns]
    if not bool(support.any(1).all() and support.any(0).all()):
        raise ValueError("sinkhorn needs a prior with a positive entry in every row and column of positive mass.")
    return prior
