"""Relaxed partial transport against POT's exact and entropic solvers and its own invariants; relabelling."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvr_plugins.testing import PretendedDevice
from cvr_plugins.transport import (
    Plan,
    _partial,
    _sinkhorn,
    pseudo_positives,
    relaxed_partial_transport,
    sinkhorn,
    squared_distances,
)


def grouped_cost(seed: int, positives: int = 10, unclicked: int = 300, planted: int = 30) -> tuple[Tensor, Tensor]:
    """Cost with `planted` unclicked rows close to a positive, as many to each, and the rest far; and which rows."""
    generator = torch.Generator().manual_seed(seed)
    a = 3 * torch.randn(positives, 8, generator=generator, dtype=torch.float64)
    b = 3 * torch.randn(unclicked, 8, generator=generator, dtype=torch.float64) + 6
    rows = torch.randperm(unclicked, generator=generator)[:planted]
    noise = torch.randn(planted, 8, generator=generator, dtype=torch.float64)
    b[rows] = a.repeat(planted // positives, 1) + 0.3 * noise
    return squared_distances(a, b), torch.zeros(unclicked, dtype=torch.bool).index_fill(0, rows, True)


def extended(cost: Tensor, kappa: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row masses, column masses and cost of the problem with the virtual row, written out for POT."""
    positives, unclicked = cost.shape
    row_mass = np.append(np.full(positives, kappa / positives), 1 - kappa)
    column_mass = np.full(unclicked, 1 / unclicked)
    return row_mass, column_mass, np.vstack([cost.numpy(), np.zeros(unclicked)])


def exact(cost: Tensor, kappa: float) -> np.ndarray:
    """POT's optimum of the linear programme, virtual row last."""
    row_mass, column_mass, matrix = extended(cost, kappa)
    return ot.emd(row_mass, column_mass * (row_mass.sum() / column_mass.sum()), matrix, numItermax=1_000_000)


def whole(plan: Plan) -> Tensor:
    """The plan with its virtual row."""
    assert plan.virtual is not None
    return torch.cat([plan.plan, plan.virtual[None]])


@pytest.mark.parametrize(
    ("seed", "options"), [(0, {"regularization": 0.01, "outer_steps": 20}), (1, {"outer_steps": 200})]
)
def test_plan_and_matched_columns_are_those_of_the_linear_programme(seed, options):
    cost, planted = grouped_cost(seed)
    want = exact(cost, 0.1)
    got = relaxed_partial_transport(cost, 0.1, **options)
    assert (got.plan * cost).sum().item() == pytest.approx((want[:-1] * cost.numpy()).sum(), rel=1e-6)
    assert torch.equal(pseudo_positives(got), planted)
    assert np.array_equal(pseudo_positives(got).numpy(), want[:-1].sum(0) > want[-1])


@pytest.mark.parametrize(("step", "domain"), [(1, "auto"), (5, "log"), (12, "auto")])
def test_each_step_is_pots_entropic_plan_at_its_share_of_the_regularization(step, domain, uniform_cost):
    cost = uniform_cost(12, 90, 5, seed=1)
    row_mass, column_mass, matrix = extended(cost, 0.1)
    want = ot.sinkhorn(
        row_mass, column_mass, matrix, 0.1 * cost.mean().item() / step, numItermax=100_000, stopThr=1e-13
    )
    got = relaxed_partial_transport(cost, 0.1, outer_steps=step, tolerance=1e-10, max_iterations=5000, domain=domain)
    assert np.abs(whole(got).numpy() - want).sum() < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    positives=st.integers(1, 12),
    unclicked=st.integers(1, 40),
    kappa=st.floats(0.001, 0.999),
    exponent=st.floats(-6, 1),
    seed=st.integers(0, 10_000),
    domain=st.sampled_from(["auto", "log"]),
)
def test_plans_hold_their_marginals_at_any_size_and_regularization(
    positives, unclicked, kappa, exponent, seed, domain, uniform_cost
):
    cost = uniform_cost(positives, unclicked, 3, seed)
    got = relaxed_partial_transport(
        cost, kappa, regularization=10**exponent, outer_steps=2, max_iterations=100, domain=domain
    )
    plan = whole(got)
    row_mass, column_mass, _ = (torch.from_numpy(x) for x in extended(cost, kappa))
    assert plan.isfinite().all()
    assert plan.min() >= 0
    error = (plan.sum(1) - row_mass).abs().sum() + (plan.sum(0) - column_mass).abs().sum()
    assert got.marginal_error == pytest.approx(error.item(), abs=1e-6)
    assert not got.converged or error < 1.1e-6


@pytest.mark.parametrize("domain", ["auto", "log"])
def test_marginal_error_is_the_plans_when_the_iteration_is_cut_off_far_from_the_end(domain, uniform_cost):
    cost = uniform_cost(3, 50, 3, seed=0)
    got = relaxed_partial_transport(
        cost, 0.1, regularization=1e-4, outer_steps=1, max_iterations=200, check_every=200, domain=domain
    )
    row_mass, column_mass, _ = (torch.from_numpy(x) for x in extended(cost, 0.1))
    error = (whole(got).sum(1) - row_mass).abs().sum() + (whole(got).sum(0) - column_mass).abs().sum()
    assert not got.converged
    assert got.marginal_error > 1e-3
    assert got.marginal_error == pytest.approx(error.item(), rel=1e-9)


def test_scalings_that_overflow_are_redone_in_the_log_domain():
    cost = torch.rand(6, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"regularization": 3e-5, "outer_steps": 20, "check_every": 500, "accelerate": False}
    fallen = relaxed_partial_transport(cost, 0.1, **options)
    assert fallen.domain == "log"
    assert fallen.converged
    assert np.abs(whole(fallen).numpy() - exact(cost, 0.1)).sum() < 1e-5


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scaled_costs_give_the_same_plan(scale, uniform_cost):
    cost = uniform_cost(6, 50, 3, seed=3)
    want = relaxed_partial_transport(cost, 0.1)
    assert (relaxed_partial_transport(scale * cost, 0.1).plan - want.plan).abs().max() < 1e-9


def test_unscaled_cost_takes_the_regularization_in_its_own_units(uniform_cost):
    cost = 7 * uniform_cost(6, 50, 3, seed=3)
    want = relaxed_partial_transport(cost, 0.1)
    got = relaxed_partial_transport(cost, 0.1, regularization=0.1 * cost.mean().item(), scale_cost=False)
    assert (got.plan - want.plan).abs().max() < 1e-12
    assert got.cost == pytest.approx((got.plan * cost).sum().item())


def test_equal_costs_spread_the_mass_evenly():
    for cost in (torch.zeros(4, 10), torch.full((4, 10), 3.0)):
        got = relaxed_partial_transport(cost, 0.2)
        assert got.converged
        torch.testing.assert_close(got.plan, torch.full((4, 10), 0.2 / 40, dtype=torch.float64))
        assert not pseudo_positives(got).any()


def test_float32_cost_is_computed_in_float64_and_neither_changed_nor_differentiated(uniform_cost):
    cost = uniform_cost(5, 20, 3, seed=0).float().requires_grad_()
    before = cost.detach().clone()
    got = relaxed_partial_transport(cost, 0.2)
    assert got.plan.dtype == torch.float64
    assert not got.plan.requires_grad
    assert torch.equal(got.plan, relaxed_partial_transport(before.double(), 0.2).plan)
    assert torch.equal(cost.detach(), before)


def test_a_device_without_float64_runs_float32_in_the_log_domain(monkeypatch):
    def narrow(cost: Tensor, caller: str) -> Tensor:
        return cost.float()

    cost, planted = grouped_cost(2)
    monkeypatch.setattr(_partial, "working", narrow)
    monkeypatch.setattr(_sinkhorn, "working", narrow)
    got = relaxed_partial_transport(cost, 0.1, tolerance=1e-9)
    assert got.plan.dtype == torch.float32
    assert got.domain == "log"
    assert got.converged
    assert 1e-9 < got.marginal_error <= 1e-4
    assert torch.equal(pseudo_positives(got), planted)
    plan = sinkhorn(cost, torch.full((10,), 0.1), torch.full((300,), 1 / 300), 10.0)
    assert plan.plan.dtype == torch.float32
    assert plan.converged


@pytest.mark.parametrize("domain", ["auto", "log"])
def test_plans_are_made_on_the_device_of_the_cost(domain):
    cost, masses = grouped_cost(2)[0][:, :60], (torch.full((10,), 0.1), torch.full((60,), 1 / 60))
    with PretendedDevice():
        got = sinkhorn(cost.cuda(), *(mass.cuda() for mass in masses), 10.0, domain=domain)
        assert got.plan.is_cuda
        plan = got.plan.cpu()
    assert torch.equal(plan, sinkhorn(cost, *masses, 10.0, domain=domain).plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": torch.rand(0, 5)}, r"a row and a column at least; got \[0, 5\]"),
        ({"cost": -torch.ones(2, 3)}, "finite costs that are not negative"),
        ({"cost": torch.tensor([[1.0, math.nan]])}, "finite costs that are not negative"),
        ({"kappa": 0.0}, "kappa must be a number in .0, 1.; got 0.0"),
        ({"outer_steps": 0}, "outer_steps must be a whole number of at least 1; got 0"),
        ({"regularization": math.inf}, "regularization must be a finite number above 0; got inf"),
        ({"regularization": 1e-310}, "overflows torch.float64: raise the regularization 1e-310"),
        ({"domain": "scaling"}, "domain must be one of 'auto', 'log'; got 'scaling'"),
    ],
)
def test_partial_transport_refuses_what_does_not_fit(change, message):
    arguments = {"cost": torch.rand(2, 3), "kappa": 0.2} | change
    with pytest.raises(ValueError, match=message):
        relaxed_partial_transport(arguments.pop("cost"), arguments.pop("kappa"), **arguments)


def test_relabelling_compares_the_sum_or_the_largest_of_the_real_rows_with_the_virtual_one():
    plan = Plan(
        plan=torch.tensor([[0.3, 0.2, 0.1, 0.25, 0.5], [0.0, 0.2, 0.1, 0.25, 0.0]]),
        marginal_error=0.0,
        iterations=1,
        domain="scaling",
        converged=True,
        cost=0.0,
        virtual=torch.tensor([0.1, 0.3, 0.3, 0.5, 0.5]),
    )
    assert pseudo_positives(plan).tolist() == [True, True, False, False, False]
    assert pseudo_positives(plan, relabel="mass").tolist() == [True, True, False, False, False]
    assert pseudo_positives(plan, relabel="argmax").tolist() == [True, False, False, False, False]


def test_relabelling_refuses_an_unknown_rule_and_a_plan_without_a_virtual_row():
    plan = relaxed_partial_transport(torch.rand(2, 3), 0.2)
    with pytest.raises(ValueError, match=r"relabel must be one of 'mass', 'argmax'; got 'argmin'"):
        pseudo_positives(plan, relabel="argmin")
    half = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="needs a plan with a virtual row"):
        pseudo_positives(sinkhorn(torch.rand(2, 2), half, half, 0.1))


@pytest.mark.parametrize("positives", [8, 512])
def test_planted_false_negatives_are_found(positives):
    planted_rows, unclicked = 41, 2048
    found = {"mass": 0, "argmax": 0}
    relabelled = {"mass": 0, "argmax": 0}
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        interests = torch.randn(4, 32, generator=generator)
        a = interests[torch.arange(positives) % 4] + 0.5 * torch.randn(positives, 32, generator=generator)
        b = torch.randn(unclicked, 32, generator=generator)
        planted = torch.zeros(unclicked, dtype=torch.bool)
        planted[torch.randperm(unclicked, generator=generator)[:planted_rows]] = True
        parents = torch.randint(positives, (planted_rows,), generator=generator)
        b[planted] = a[parents] + 0.3 * torch.randn(planted_rows, 32, generator=generator)
        plan = relaxed_partial_transport(squared_distances(a, b), planted_rows / unclicked)
        assert plan.converged
        for rule in found:
            flagged = pseudo_positives(plan, relabel=rule)
            found[rule] += int((flagged & planted).sum())
            relabelled[rule] += int(flagged.sum())
    # By chance: a recall and a precision of 0.02. Measured: recall 0.92 to 0.98, precision 0.95 to 0.97.
    assert found["mass"] >= 0.85 * 2 * planted_rows
    assert found["mass"] >= 0.90 * relabelled["mass"]
    # A matched column's mass is spread over more positives the more there are: the paper's rule misses those.
    assert found["argmax"] <= found["mass"]
    if positives == 512:
        assert found["argmax"] < 0.85 * found["mass"]
