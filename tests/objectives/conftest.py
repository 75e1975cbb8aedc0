"""Batches built by hand, and the comparison of an objective with its NumPy twin in values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cvr_plugins.contracts import Labels, Objective, Outputs

Array = NDArray[np.float64]
Logits = Mapping[str, Array]
Twin = Callable[[Logits, Logits, Mapping[str, Array]], dict[str, float]]
"""`(live, frozen, labels) -> loss term -> value`; `frozen` are the same logits where they are detached."""


def _outputs(logits: Mapping[str, object], dtype: torch.dtype = torch.float64) -> Outputs:
    """Return Outputs whose logits are leaves that require gradients."""
    leaves = {head: torch.tensor(values, dtype=dtype, requires_grad=True) for head, values in logits.items()}
    rows = len(next(iter(leaves.values())))
    return Outputs(logits=leaves, embedding=torch.zeros(rows, 1, dtype=dtype), hidden={}, inputs={})


def _labels(columns: Mapping[str, object], dtype: torch.dtype = torch.float64) -> Labels:
    return Labels(**{name: torch.tensor(values, dtype=dtype) for name, values in columns.items()})


def _gradients(term: torch.Tensor, out: Outputs) -> dict[str, Array]:
    """Return head -> gradient of a loss term with respect to its logits, zero where the term does not use it."""
    if not term.requires_grad:
        return {head: np.zeros(len(leaf)) for head, leaf in out.logits.items()}
    found = torch.autograd.grad(term, list(out.logits.values()), retain_graph=True, allow_unused=True)
    return {
        head: np.zeros(len(leaf)) if grad is None else grad.double().numpy()
        for (head, leaf), grad in zip(out.logits.items(), found, strict=True)
    }


def _random_batch(heads: tuple[str, ...], seed: int, rows: int = 12) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return logits and labels; with conversions and actions on some unclicked rows, which no loss may read."""
    rng = np.random.default_rng(seed)
    logits = {head: rng.normal(0.0, 2.0, rows) for head in heads}
    labels = {name: (rng.random(rows) < 0.5).astype(float) for name in ("click", "conversion", "action")}
    return logits, labels


def _assert_twin(objective: Objective, logits: Logits, labels: Mapping[str, Array], twin: Twin) -> None:
    """Compare every loss term in value, and in gradient against central differences of the twin."""
    out = _outputs(logits)
    terms = objective.loss(out, _labels(labels))
    expected = twin(logits, logits, labels)
    assert set(terms) == set(expected)
    step = 1e-6
    for name, term in terms.items():
        assert term.shape == ()
        assert term.item() == pytest.approx(expected[name], rel=1e-10, abs=1e-12), name
        gradients = _gradients(term, out)
        for head, values in logits.items():
            for row in range(len(values)):
                shift = np.zeros(len(values))
                shift[row] = step
                up = twin({**logits, head: values + shift}, logits, labels)[name]
                down = twin({**logits, head: values - shift}, logits, labels)[name]
                slope = (up - down) / (2 * step)
                assert gradients[head][row] == pytest.approx(slope, rel=1e-5, abs=1e-6), (name, head, row)


@pytest.fixture(scope="session")
def outputs() -> Callable[..., Outputs]:
    return _outputs


@pytest.fixture(scope="session")
def labels_of() -> Callable[..., Labels]:
    return _labels


@pytest.fixture(scope="session")
def gradients() -> Callable[..., dict[str, Array]]:
    return _gradients


@pytest.fixture(scope="session")
def random_batch() -> Callable[..., tuple[dict[str, Array], dict[str, Array]]]:
    return _random_batch


@pytest.fixture(scope="session")
def assert_twin() -> Callable[..., None]:
    return _assert_twin
