"""The element-wise functions against 80-digit arithmetic, and where they divide by nothing."""

from __future__ import annotations

import decimal
import itertools
from decimal import Decimal

import pytest
import torch

from cvr_plugins import functional as F

LOGITS = [-200.0, -50.0, -3.0, -0.1, 0.0, 1e-3, 2.0, 36.0, 50.0, 200.0]
PAIRS = list(itertools.product(LOGITS, repeat=2))


@pytest.fixture(autouse=True)
def _digits():
    with decimal.localcontext() as context:
        # 1 - p of a logit of 200 needs 87 digits.
        context.prec = 220
        yield


def sigmoid(z: float) -> Decimal:
    return 1 / (1 + (-Decimal(z)).exp())


def column(values, dtype=torch.float64):
    return torch.tensor(list(values), dtype=dtype)


def assert_digits(found, expected, dtype, absolute=4.0):
    """Compare to the type's precision: relative, or `absolute` roundings of 1 where the result is nearly 0."""
    epsilon = torch.finfo(dtype).eps
    for got, want in zip(found.tolist(), map(float, expected), strict=True):
        assert got == pytest.approx(want, rel=20 * epsilon, abs=absolute * epsilon)


dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@dtypes
@pytest.mark.parametrize("label", [0.0, 0.25, 1.0])
def test_bce(label, dtype):
    y = Decimal(label)
    values = [torch.tensor(z, dtype=dtype).item() for z in LOGITS]
    expected = [-(y * sigmoid(z).ln() + (1 - y) * (1 - sigmoid(z)).ln()) for z in values]
    z = column(values, dtype).requires_grad_()
    loss = F.bce(z, torch.full_like(z, label))
    # A logit is added and subtracted on the way.
    assert_digits(loss, expected, dtype, absolute=200)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert_digits(gradient, [sigmoid(v) - y for v in values], dtype)


@dtypes
def test_the_logarithms_of_ctcvr_and_its_complement(dtype):
    pairs = [tuple(torch.tensor(pair, dtype=dtype).tolist()) for pair in PAIRS]
    ctr, cvr = column((a for a, _ in pairs), dtype), column((b for _, b in pairs), dtype)
    p = [sigmoid(a) * sigmoid(b) for a, b in pairs]
    assert_digits(F.log_ctcvr(ctr, cvr), [x.ln() for x in p], dtype)
    assert_digits(F.log_not_ctcvr(ctr, cvr), [(1 - x).ln() for x in p], dtype)
    for label in (0.0, 1.0):
        y = Decimal(label)
        expected = [-(y * x.ln() + (1 - y) * (1 - x).ln()) for x in p]
        assert_digits(F.ctcvr_nll(ctr, cvr, torch.full_like(ctr, label)), expected, dtype)


@dtypes
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_gradient_of_ctcvr_nll_survives_saturation(label, dtype):
    pairs = [tuple(torch.tensor(pair, dtype=dtype).tolist()) for pair in PAIRS]
    ctr, cvr = (column((pair[i] for pair in pairs), dtype).requires_grad_() for i in (0, 1))
    found = torch.autograd.grad(F.ctcvr_nll(ctr, cvr, torch.full_like(ctr, label)).sum(), (ctr, cvr))
    for gradient, order in zip(found, (1, -1), strict=True):
        expected = []
        for pair in pairs:
            p, q = (sigmoid(z) for z in pair[::order])
            # -(1 - p) where t = 1, and p q (1 - p) / (1 - p q) where t = 0.
            expected.append(-(1 - p) if label else p * q * (1 - p) / (1 - p * q))
        assert_digits(gradient, expected, dtype)


@dtypes
def test_log_mixture_and_its_complement(dtype):
    rows = list(itertools.product([-50.0, -0.5, 3.0, 50.0], repeat=3))
    rows = [tuple(torch.tensor(row, dtype=dtype).tolist()) for row in rows]
    gate, first, second = (column((row[i] for row in rows), dtype) for i in range(3))
    mixture = [sigmoid(g) * sigmoid(a) + (1 - sigmoid(g)) * sigmoid(b) for g, a, b in rows]
    assert_digits(F.log_mixture(gate, first, second), [m.ln() for m in mixture], dtype)
    assert_digits(F.log_mixture(gate, -first, -second), [(1 - m).ln() for m in mixture], dtype)


@dtypes
def test_binary_entropy_and_its_gradient(dtype):
    values = [-50.0, -3.0, 0.0, 0.5, 2.0]
    z = column(values, dtype).requires_grad_()
    entropy = F.binary_entropy(z)
    p = [sigmoid(v) for v in values]
    # Where the true entropy is below the rounding of its terms it is 0 or tiny, which is all that is asked of it.
    for got, want in zip(entropy.tolist(), (-x * x.ln() - (1 - x) * (1 - x).ln() for x in p), strict=True):
        assert got == pytest.approx(float(want), rel=1e-5, abs=1e-12)
    (gradient,) = torch.autograd.grad(entropy.sum(), z)
    for got, v, x in zip(gradient.tolist(), values, p, strict=True):
        assert got == pytest.approx(-v * float(x * (1 - x)), rel=1e-5, abs=1e-12)


@dtypes
@pytest.mark.parametrize("floor", [0.01, 0.3, 1.0])
def test_the_propensity_and_the_weights_of_variance_and_bias(floor, dtype):
    values = [torch.tensor(z, dtype=dtype).item() for z in LOGITS]
    z = column(values, dtype).requires_grad_()
    clipped = [max(sigmoid(v), Decimal(floor)) for v in values]
    assert_digits(F.propensity(z, floor), clipped, dtype, absolute=0)
    assert not F.propensity(z, floor).requires_grad
    for power, weigh in ((1, F.variance_weight), (2, F.bias_weight)):
        weight = weigh(z, floor)
        assert not weight.requires_grad
        for got, p, v in zip(weight.tolist(), clipped, values, strict=True):
            # Above the floor even 1 - p keeps its digits; a float32 below 1e-38 is 0.
            want = float(min(1 - sigmoid(v), 1 - Decimal(floor)) ** power / p ** (power + 1))
            assert got == pytest.approx(want, rel=6e-6, abs=1e-37)
            assert got >= 0


def test_masked_mean_divides_by_the_masked_rows_and_survives_none():
    values = column([1.0, 2.0, 4.0])
    assert F.masked_mean(values, column([1.0, 0.0, 1.0])).item() == 2.5
    assert F.masked_mean(values, column([0.0, 0.0, 0.0])).item() == 0


def test_weighted_mean_divides_by_the_batch_or_by_the_weights_and_survives_none():
    values, weights = column([1.0, 2.0, 4.0]), column([0.5, 0.0, 0.25])
    assert F.weighted_mean(values, weights, normalize=False).item() == 1.5 / 3
    assert F.weighted_mean(values, weights, normalize=True).item() == 1.5 / 0.75
    assert F.self_normalized(values, weights).item() == 1.5 / 0.75
    for normalize in (False, True):
        leaf = values.clone().requires_grad_()
        mean = F.weighted_mean(leaf, torch.zeros(3, dtype=torch.float64), normalize=normalize)
        mean.backward()
        assert mean.item() == 0
        assert leaf.grad.tolist() == [0, 0, 0]
