"""Sinkhorn's matrix scaling: accelerated, in the scaling domain while its numbers fit, started where the last led."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cvr_plugins.options import check_choice, check_count, check_number

# A scaling is folded into the potentials beyond exp(+-100), and a kernel entry below exp(-700) is held there, off the
# denormal numbers, which are slow: the mass it stands for is at most exp(-700 + 2 * 100), nothing to a float64 sum.
_SPREAD, _FLOOR = 100.0, -700.0
# The marginal error that float32 potentials can reach, with room to spare.
_FLOAT32_TOLERANCE = 1e-4
# Iterates an extrapolation looks back on.
_TRAIL = 9
# An extrapolation moves no potential further than this, so that none can throw a scaling out of range.
_LEAP = 20.0

Domain = Literal["auto", "log"]


@dataclass(frozen=True)
class Plan:
    """A transport plan and how it was reached.

    Attributes
    ----------
    plan
        Mass sent from each row to each column, `[P, U]`.
    marginal_error
        Total |plan's marginals - prescribed marginals|, over rows and columns, in units of mass.
    iterations
        Sinkhorn iterations (one update of all rows and one of all columns), all outer steps together.
    domain
        `"scaling"`, or `"log"` if the scalings left the range of the number format (or the log domain was asked for).
    converged
        Whether the marginal error reached the tolerance.
    cost
        sum_ij C_ij pi_ij, the virtual row included, in the units the solver worked in.
    virtual
        Mass the virtual row sends to each column, `[U]`; None for a problem without a virtual row.
    """

    plan: Tensor
    marginal_error: float
    iterations: int
    domain: str
    converged: bool
    cost: float
    virtual: Tensor | None = None


@dataclass(frozen=True)
class Options:
    """How an iteration runs and when it ends; `sinkhorn` documents the fields. ValueError for one out of range."""

    max_iterations: int
    tolerance: float
    check_every: int
    accelerate: bool
    domain: Domain

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, low=0)
        check_count("max_iterations", self.max_iterations)
        check_count("check_every", self.check_every)
        check_choice("domain", self.domain, ("auto", "log"))

    def due(self, iteration: int) -> bool:
        """Whether the marginal error is looked at after so many iterations."""
        return iteration > 0 and (iteration % self.check_every == 0 or iteration == self.max_iterations)


class _Shortcut:
    """Anderson extrapolation of the row potentials, taken back where it lowered the dual objective.

    With iterates x_1 ... x_m and residuals r_k = x_{k+1} - x_k, weighted by the square root of the row's mass:
    x = x_m - sum_k gamma_k (x_{k+1} - x_k), gamma = argmin || r_last - sum_k gamma_k (r_{k+1} - r_k) ||.

    A plain iteration never lowers the dual objective a^T f + b^T g. Since extrapolations that do are refused, and plain
    iterations lie between any two, the whole converges because the plain iteration does.

    Walker and Ni, Anderson Acceleration for Fixed-Point Iterations, SIAM J. Numer. Anal. 2011.
    """

    def __init__(self, row_mass: Tensor) -> None:
        # A handful of unknowns: fitted on the host in float64, since not every device has the solver.
        self._weight = row_mass.sqrt().cpu().double()[:, None]
        self._trail: deque[Tensor] = deque(maxlen=_TRAIL)
        self._before: tuple[float, Tensor] | None = None

    def note(self, iterate: Tensor) -> None:
        self._trail.append(iterate)

    def take(self, dual: float) -> Tensor:
        """The iterate to go on from, given the dual objective of the last but one."""
        latest = self._trail[-1]
        if len(self._trail) < _TRAIL:
            return latest
        trail = torch.stack(tuple(self._trail), 1).cpu().double()
        self._trail.clear()
        if not bool(trail.isfinite().all()):
            return latest
        if self._before is not None and dual < self._before[0] - 1e-13 * (1.0 + abs(dual)):
            latest, self._before = self._before[1], None
            return latest
        self._before = (dual, latest)
        moves = trail.diff(dim=1)
        residuals = moves * self._weight
        bends = residuals.diff(dim=1)
        gamma = torch.linalg.lstsq(bends, residuals[:, -1:], rcond=1e-8, driver="gelsd").solution
        leap = (moves[:, 1:] @ gamma)[:, 0]
        leap *= _LEAP / leap.abs().max().clamp_min(_LEAP)
        return latest - leap.to(latest.dtype).to(latest.device)


class Scaler:
    """Sinkhorn iterations on the kernels exp(-rate * score), rate = 1, 2, ..., each started from the one before.

    score: [P, U], +inf where no mass may go; row_mass [P] and column_mass [U] positive, of one total.

    The potentials f [P] and g [U] are such that the plan is exp(f_i + g_j - rate * score_ij). At rate 0 they are the
    logarithms of the marginals; as the rate grows they become affine in it, so that the next start is extrapolated.
    `plan` is the plan of the latest step, in a buffer that the next one overwrites.
    """

    def __init__(self, score: Tensor, row_mass: Tensor, column_mass: Tensor, options: Options) -> None:
        self.score, self.row_mass, self.column_mass, self.options = score, row_mass, column_mass, options
        double = score.dtype == torch.float64
        self.tolerance = options.tolerance if double else max(options.tolerance, _FLOAT32_TOLERANCE)
        self.domain = "scaling" if double and options.domain == "auto" else "log"
        self.iterations = 0
        self.error = math.inf
        self.plan = torch.empty_like(score)
        self.f, self.g = row_mass.log(), column_mass.log()
        # Every row and every column of the first kernel gets an entry at its marginal's size: none underflows whole.
        self._df = score.amin(1)
        self._dg = torch.sub(score, self._df[:, None], out=self.plan).amin(0)

    def step(self, rate: float) -> None:
        """Solve at one rate; sets plan, error, iterations, and domain if it had to change."""
        f, g = self.f, self.g
        self.f, self.g = f + self._df, g + self._dg
        if self.domain == "scaling" and not self._scale(rate):
            self.domain = "log"
        if self.domain == "log":
            self._log(rate)
        self._df, self._dg = self.f - f, self.g - g

    def result(self, plan: Tensor, **reported: Any) -> Plan:
        """The plan, made of the latest step's, with how it was reached."""
        return Plan(
            plan=plan,
            marginal_error=self.error,
            iterations=self.iterations,
            domain=self.domain,
            converged=self.error <= self.tolerance,
            **reported,
        )

    def _exponents(self, rate: float, f: Tensor | None, g: Tensor | None) -> Tensor:
        if g is None:
            torch.mul(self.score, -rate, out=self.plan)
        else:
            torch.add(g, self.score, alpha=-rate, out=self.plan)
        return self.plan if f is None else self.plan.add_(f[:, None])

    def _scale(self, rate: float) -> bool:
        last, accelerate = self.options.max_iterations, self.options.accelerate
        kernel = self._exponents(rate, self.f, self.g).clamp_min_(_FLOOR).exp_()
        u, v = torch.ones_like(self.f), torch.ones_like(self.g)
        shortcut = _Shortcut(self.row_mass)
        iteration = 0
        while True:
            row_sum = kernel @ v
            due = self.options.due(iteration)
            if due:
                # One transfer for all three numbers: on an accelerator each is a synchronisation.
                log_u, log_v = u.log(), v.log()
                error, dual, spread = torch.stack(
                    [
                        (u * row_sum - self.row_mass).abs().sum(),
                        (self.row_mass * log_u).sum() + (self.column_mass * log_v).sum(),
                        torch.max(log_u.abs().max(), log_v.abs().max()),
                    ]
                ).tolist()
                if not (math.isfinite(error) and math.isfinite(spread)):
                    self.iterations += iteration
                    return False
                inside = spread <= _SPREAD
                if inside and (error <= self.tolerance or iteration == last):
                    break
                if not inside:
                    self.f, self.g = self.f + log_u, self.g + log_v
                    kernel = self._exponents(rate, self.f, self.g).clamp_min_(_FLOOR).exp_()
                    u, v = torch.ones_like(u), torch.ones_like(v)
                    shortcut = _Shortcut(self.row_mass)
                    row_sum = kernel.sum(1)
                    if iteration == last:
                        off = (row_sum - self.row_mass).abs().sum() + (kernel.sum(0) - self.column_mass).abs().sum()
                        error = off.item()
                        break
            u = self.row_mass / row_sum
            if accelerate:
                shortcut.note(u.log())
                if due:
                    u = shortcut.take(dual).exp()
            v = self.column_mass / (u @ kernel)
            iteration += 1
        self.f, self.g = self.f + u.log(), self.g + v.log()
        kernel.mul_(u[:, None]).mul_(v)
        self.error = error
        self.iterations += iteration
        return True

    def _log(self, rate: float) -> None:
        log_row, log_column = self.row_mass.log(), self.column_mass.log()
        shortcut = _Shortcut(self.row_mass)
        iteration = 0
        while True:
            row_sum = torch.logsumexp(self._exponents(rate, None, self.g), 1)
            due = self.options.due(iteration)
            if due:
                error, dual = torch.stack(
                    [
                        ((self.f + row_sum).exp_() - self.row_mass).abs_().sum(),
                        (self.row_mass * self.f).sum() + (self.column_mass * self.g).sum(),
                    ]
                ).tolist()
                if error <= self.tolerance or iteration == self.options.max_iterations:
                    break
            self.f = log_row - row_sum
            if self.options.accelerate:
                shortcut.note(self.f)
                if due:
                    self.f = shortcut.take(dual)
            self.g = log_column - torch.logsumexp(self._exponents(rate, self.f, None), 0)
            iteration += 1
        self._exponents(rate, self.f, self.g).exp_()
        self.error = error
        self.iterations += iteration
