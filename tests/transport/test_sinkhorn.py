"""Distances against NumPy, entropic transport against POT, hand-worked plans and its own invariants."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr_plugins.transport import sinkhorn, squared_distances


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_distances_match_differences_taken_one_by_one_even_with_a_common_offset(dtype, tolerance, offset):
    generator = torch.Generator().manual_seed(0)
    a = (torch.randn(7, 33, generator=generator, dtype=torch.float64) + offset).to(dtype)
    b = (torch.randn(11, 33, generator=generator, dtype=torch.float64) + offset).to(dtype)
    got = squared_distances(a, b)
    want = ((a.double().numpy()[:, None] - b.double().numpy()) ** 2).sum(-1)
    assert got.dtype == dtype
    assert np.abs(got.double().numpy() - want).max() <= tolerance * want.max()


def test_distances_in_float64_of_float32_points_separate_near_duplicates():
    a = torch.full((1, 64), 0.1)
    b = a + torch.tensor([[0.0], [1e-4]])
    far = torch.full((1, 64), 30.0)
    got = squared_distances(a, torch.cat([b, far]), dtype=torch.float64)
    want = ((a.double()[:, None] - torch.cat([b, far]).double()) ** 2).sum(-1)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-11)
    assert 0 <= got[0, 0] < 1e-3 * got[0, 1]


def test_distances_are_never_negative_and_carry_no_gradient():
    a = (1e4 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1))).requires_grad_()
    got = squared_distances(a, a)
    assert got.min() >= 0
    assert not got.requires_grad


def test_distances_ignore_autocasting_and_widen_half_precision():
    a, b = torch.rand(5, 64), torch.rand(6, 64)
    plain = squared_distances(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(squared_distances(a, b), plain)
    assert squared_distances(a.bfloat16(), b.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (torch.rand(3), torch.rand(3, 2), {}, r"matrix of representations for 'a'; got \[3\]"),
        (torch.rand(3, 2), torch.rand(3, 2, dtype=torch.float64).long(), {}, "floating-point.*'b' is torch.int64"),
        (torch.rand(3, 2), torch.rand(3, 4), {}, "one width; 'a' has 2 columns and 'b' 4"),
        (torch.rand(3, 2), torch.rand(3, 2), {"dtype": torch.int32}, "floating-point type; got dtype=torch.int32"),
    ],
)
def test_distances_refuse_what_does_not_fit(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        squared_distances(a, b, **options)


def test_sinkhorn_of_two_by_two_is_the_logistic_function():
    half = torch.tensor([0.5, 0.5])
    plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), half, half, 0.5, tolerance=1e-14)
    stay = 0.5 / (1 + math.exp(-2))
    torch.testing.assert_close(plan.plan, torch.tensor([[stay, 0.5 - stay], [0.5 - stay, stay]], dtype=torch.float64))
    assert plan.cost == pytest.approx(1 - 2 * stay)


@pytest.mark.parametrize(
    ("rows", "columns", "regularization", "domain"),
    [(3, 5, 0.5, "log"), (40, 30, 0.05, "auto"), (40, 30, 0.05, "log"), (64, 300, 0.02, "auto")],
)
def test_sinkhorn_plan_is_pots(rows, columns, regularization, domain, uniform_cost):
    cost = uniform_cost(rows, columns, 4, seed=rows)
    a = torch.rand(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    b = torch.rand(columns, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    a, b = a / a.sum(), b / b.sum()
    want = ot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), regularization, numItermax=20000, stopThr=1e-12)
    got = sinkhorn(cost, a, b, regularization, tolerance=1e-10, domain=domain)
    assert got.converged
    assert got.domain == ("scaling" if domain == "auto" else "log")
    assert np.abs(got.plan.numpy() - want).max() < 1e-9
    assert np.abs(got.plan.numpy() - want).sum() < 1e-6


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    exponent=st.floats(-5, 1),
    iterations=st.integers(1, 60),
    domain=st.sampled_from(["auto", "log"]),
)
def test_marginal_error_is_the_plans_whether_or_not_it_converged(
    rows, columns, seed, exponent, iterations, domain, uniform_cost
):
    cost = uniform_cost(rows, columns, 2, seed)
    a, b = torch.full((rows,), 2.0 / rows), torch.full((columns,), 2.0 / columns)
    plan = sinkhorn(cost, a, b, 10**exponent, max_iterations=iterations, domain=domain)
    error = (plan.plan.sum(1) - 2.0 / rows).abs().sum() + (plan.plan.sum(0) - 2.0 / columns).abs().sum()
    assert plan.plan.min() >= 0
    assert plan.marginal_error == pytest.approx(error.item(), abs=1e-6)
    assert plan.converged == (plan.marginal_error <= 1e-6)
    assert plan.converged or plan.iterations >= iterations


@pytest.mark.parametrize("regularization", [0.2, 0.005])
def test_domains_acceleration_and_frequency_of_checks_do_not_change_the_plan(regularization, uniform_cost):
    cost = uniform_cost(20, 35, 3, seed=4)
    a, b = torch.full((20,), 1 / 20), torch.full((35,), 1 / 35)
    runs = [
        sinkhorn(cost, a, b, regularization, tolerance=1e-11, max_iterations=50_000, **options)
        for options in ({}, {"domain": "log"}, {"accelerate": False}, {"check_every": 1}, {"check_every": 64})
    ]
    assert all(run.converged for run in runs)
    assert [run.domain for run in runs] == ["scaling", "log", "scaling", "scaling", "scaling"]
    for run in runs[1:]:
        assert (run.plan - runs[0].plan).abs().max() < 1e-8


def test_acceleration_saves_most_of_the_iterations_where_the_plain_iteration_is_slow(uniform_cost):
    cost = uniform_cost(20, 35, 3, seed=4)
    a, b = torch.full((20,), 1 / 20), torch.full((35,), 1 / 35)
    fast = sinkhorn(cost, a, b, 0.005, max_iterations=20_000)
    plain = sinkhorn(cost, a, b, 0.005, max_iterations=20_000, accelerate=False)
    assert fast.converged
    assert plain.converged
    assert 4 * fast.iterations < plain.iterations


@pytest.mark.parametrize(("seed", "regularization"), [(1, 0.005), (2, 0.001), (5, 0.002)])
def test_acceleration_takes_back_extrapolations_that_lead_astray(seed, regularization, uniform_cost):
    # With every extrapolation kept, each of these is still 0.13 or more off its marginals after 5000 iterations.
    cost = uniform_cost(4, 30, 4, seed)
    got = sinkhorn(cost, torch.full((4,), 1 / 4), torch.full((30,), 1 / 30), regularization, max_iterations=2000)
    assert got.converged


def test_prior_multiplies_the_kernel_and_forbids_where_it_is_zero(uniform_cost):
    cost = uniform_cost(6, 8, 3, seed=5)
    a, b = np.full(6, 1 / 6), np.full(8, 1 / 8)
    prior = torch.rand(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior[0, :4] = 0
    kernel = (prior * torch.exp(-cost / 0.1)).numpy()
    u = np.ones(6)
    for _ in range(5000):
        v = b / (kernel.T @ u)
        u = a / (kernel @ v)
    got = sinkhorn(cost, torch.from_numpy(a), torch.from_numpy(b), 0.1, prior=prior, tolerance=1e-12)
    assert np.abs(got.plan.numpy() - u[:, None] * kernel * v).max() < 1e-10
    assert got.plan[0, :4].sum() == 0


@pytest.mark.parametrize("domain", ["auto", "log"])
def test_prior_that_cannot_carry_the_marginals_does_not_converge_and_says_so(domain):
    prior = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    third = torch.full((3,), 1 / 3)
    got = sinkhorn(torch.zeros(3, 3), third, third, 1.0, prior=prior, max_iterations=2000, domain=domain)
    assert not got.converged
    assert got.plan.isfinite().all()
    assert got.plan[prior == 0].sum() == 0
    assert (got.plan.sum(1) - 1 / 3).abs().sum().item() == pytest.approx(got.marginal_error, abs=1e-6)
    assert got.marginal_error > 0.3


def test_rows_and_columns_without_mass_get_none_and_leave_the_rest_alone(uniform_cost):
    cost = uniform_cost(4, 6, 3, seed=6)
    a, b = torch.tensor([0.5, 0.0, 0.25, 0.25]), torch.tensor([0.0, 0.25, 0.25, 0.25, 0.0, 0.25])
    got = sinkhorn(cost, a, b, 0.1, tolerance=1e-12)
    keep_rows, keep_columns = a > 0, b > 0
    reduced = sinkhorn(cost[keep_rows][:, keep_columns], a[keep_rows], b[keep_columns], 0.1, tolerance=1e-12)
    assert torch.equal(got.plan[keep_rows][:, keep_columns], reduced.plan)
    assert got.plan[1].sum() == 0
    assert got.plan[:, [0, 4]].sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": torch.rand(3)}, r"cost matrix with a row and a column at least; got \[3\]"),
        ({"cost": torch.rand(0, 4)}, r"got \[0, 4\]"),
        ({"cost": torch.ones(3, 4, dtype=torch.bool)}, "real numbers; got torch.bool"),
        ({"cost": torch.full((3, 4), math.nan)}, "NaN or infinite"),
        ({"cost": torch.full((3, 4), 1e300, dtype=torch.float64), "regularization": 1e-30}, "too large for"),
        ({"row_mass": torch.ones(4)}, r"row_mass of shape \[3\] to fit the cost; got \[4\]"),
        ({"column_mass": torch.tensor([1.0, 1.0, 1.0, -0.5])}, "column_mass of finite values, none negative"),
        ({"row_mass": torch.zeros(3)}, "row_mass of finite values, none negative and not all zero"),
        ({"row_mass": torch.ones(3)}, "one total; got 3 and 1. Rescale"),
        ({"regularization": 0.0}, "regularization must be a finite number above 0; got 0.0"),
        ({"tolerance": -1.0}, "tolerance must be a finite number of at least 0; got -1.0"),
        ({"max_iterations": 0}, "max_iterations must be a whole number of at least 1; got 0"),
        ({"check_every": 0}, "check_every must be a whole number of at least 1; got 0"),
        ({"domain": "lgo"}, "domain must be one of 'auto', 'log'; got 'lgo'"),
        ({"prior": torch.ones(4, 3)}, r"prior of the cost's shape \[3, 4\]; got \[4, 3\]"),
        ({"prior": torch.full((3, 4), -1.0)}, "prior of finite values, none negative"),
        ({"prior": torch.eye(3, 4)}, "positive entry in every row and column"),
    ],
)
def test_sinkhorn_refuses_what_does_not_fit(change, message):
    arguments = {"cost": torch.rand(3, 4), "row_mass": torch.full((3,), 1 / 3), "column_mass": torch.full((4,), 0.25)}
    arguments |= {"regularization": 0.1} | change
    positional = [arguments.pop(name) for name in ("cost", "row_mass", "column_mass", "regularization")]
    with pytest.raises(ValueError, match=message):
        sinkhorn(*positional, **arguments)
