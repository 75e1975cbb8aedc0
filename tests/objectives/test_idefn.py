from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cvr_plugins.contracts import Labels, Layout, Outputs
from cvr_plugins.objectives.idefn import IdeFN


class Encoder(nn.Module):
    """User and item embeddings side by side, `[B, 8]`."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.user = nn.Embedding(40, 4, _weight=torch.randn(40, 4, generator=generator).double())
        self.item = nn.Embedding(60, 4, _weight=torch.randn(60, 4, generator=generator).double())

    def forward(self, x):
        return torch.cat([self.user(x["user"]), self.item(x["item"])], dim=1)


def labels(click, conversion):
    return Labels(torch.as_tensor(click, dtype=torch.float64), torch.as_tensor(conversion, dtype=torch.float64))


def draw_batch(rng, rows=48, click_rate=0.3, conversion_rate=0.4):
    """A batch with conversions on unclicked rows too, which nothing may read."""
    x = {"user": torch.from_numpy(rng.integers(0, 40, rows)), "item": torch.from_numpy(rng.integers(0, 60, rows))}
    return x, labels(rng.random(rows) < click_rate, rng.random(rows) < conversion_rate)


def outputs(encoder, x, rng=None):
    """Outputs as CVRModel gives them, with logits that are leaves of their own."""
    rng = rng or np.random.default_rng(0)
    rows = len(x["user"])
    logits = {head: torch.from_numpy(rng.normal(size=rows)).requires_grad_() for head in ("ctr", "cvr")}
    return Outputs(logits, encoder(x), {}, embed=encoder)


def filled(objective, encoder, batches=3, seed=9):
    rng = np.random.default_rng(seed)
    converted = 0
    for _ in range(batches):
        x, y = draw_batch(rng)
        objective.after_batch(outputs(encoder, x), y, x)
        converted += y.click_and_conversion.sum()
    assert objective.memory_fill == (converted if objective.unclicked else 0)
    return objective


def twin(z_ctr, z_cvr, click, conversion, pseudo, alpha, gamma):
    """Terms and their gradients with respect to the two logits, in NumPy from the formulas."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def cross_entropy(label, z):
        return -(label * np.log(sigmoid(z)) + (1 - label) * np.log(1 - sigmoid(z)))

    n = len(click)
    clicked, unclicked = gamma * alpha / n * click, gamma * (1 - alpha) / n * (1 - click)
    terms = {
        "ctr": cross_entropy(click, z_ctr).sum() / n,
        "cvr": (clicked * cross_entropy(conversion, z_cvr)).sum(),
    }
    d_ctr, d_cvr = (sigmoid(z_ctr) - click) / n, clicked * (sigmoid(z_cvr) - conversion)
    if pseudo is not None:
        terms["unclicked"] = (unclicked * cross_entropy(pseudo, z_cvr)).sum()
        d_cvr += unclicked * (sigmoid(z_cvr) - pseudo)
    return terms, d_ctr, d_cvr


def test_hand_worked_batch_of_four():
    # Row 2 lies beside the converted row 0 and row 3 far away; with kappa = 1/2, one of the two is matched.
    embedding = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.1, 0.0], [9.0, 9.0]], dtype=torch.float64)
    ln2, ln3 = math.log(2), math.log(3)
    logits = {
        "ctr": torch.zeros(4, dtype=torch.float64, requires_grad=True),
        "cvr": torch.tensor([0.0, ln3, -ln3, 0.0], dtype=torch.float64, requires_grad=True),
    }
    y = labels([1, 1, 0, 0], [1, 0, 0, 0])
    objective = IdeFN(kappa=0.5, alpha=0.8, gamma=30)
    out = Outputs(logits, embedding, {})

    assert objective.pseudo_labels(out, y).tolist() == [0, 0, 1, 0]
    terms = objective.loss(out, y)
    # Clicked rows: p = 1/2 for a conversion, 3/4 for none; unclicked: 1/4 for r~ = 1, 1/2 for r~ = 0. ln 2 + ln 4 each.
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ctr": ln2, "cvr": 30 * 0.8 * 3 * ln2 / 4, "unclicked": 30 * 0.2 * 3 * ln2 / 4}, rel=1e-14
    )
    sum(terms.values()).backward()
    np.testing.assert_allclose(logits["ctr"].grad, [-0.125, -0.125, 0.125, 0.125], rtol=1e-14)
    np.testing.assert_allclose(logits["cvr"].grad, [-3.0, 4.5, -1.125, 0.75], rtol=1e-14)


@pytest.mark.parametrize(
    ("alpha", "gamma", "kappa", "unclicked"),
    [(0.8, 30.0, 0.1, True), (0.3, 7.0, 0.2, True), (1.0, 1.0, 0.1, True), (0.7, 11.0, 0.1, False)],
)
def test_loss_and_gradients_are_those_of_a_numpy_twin(alpha, gamma, kappa, unclicked):
    rng, encoder = np.random.default_rng(0), Encoder()
    objective = filled(IdeFN(alpha=alpha, gamma=gamma, kappa=kappa, unclicked=unclicked), encoder)
    x, y = draw_batch(rng, rows=200)
    out = outputs(encoder, x, rng)
    out.embedding.retain_grad()
    pseudo = objective.pseudo_labels(out, y).numpy()
    assert 0 < pseudo.sum() < len(pseudo)
    assert (pseudo[y.click.bool().numpy()] == 0).all()

    terms = objective.loss(out, y)
    ctr, cvr = out.logits["ctr"], out.logits["cvr"]
    z, columns = (ctr.detach().numpy(), cvr.detach().numpy()), (y.click.numpy(), y.conversion.numpy())
    expected, d_ctr, d_cvr = twin(*z, *columns, pseudo if unclicked else None, alpha, gamma)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-12)
    sum(terms.values()).backward()
    np.testing.assert_allclose(ctr.grad, d_ctr, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(cvr.grad, d_cvr, rtol=1e-10, atol=1e-15)
    assert out.embedding.grad is None, "no gradient flows through the matching"


def test_outputs_without_embed_are_refused_once_the_memory_is_needed():
    encoder, objective = Encoder(), IdeFN(kappa=0.5)
    x, y = draw_batch(np.random.default_rng(1))
    y = labels(y.click, np.arange(48) == y.click.nonzero()[0].item())
    with_embed = outputs(encoder, x)
    without = Outputs(with_embed.logits, with_embed.embedding, {})
    assert objective.loss(without, y)["unclicked"] > 0
    objective.after_batch(without, y, x)
    assert objective.memory_fill == 1
    with pytest.raises(ValueError, match=r"needs Outputs\.embed"):
        objective.loss(without, y)


@pytest.mark.parametrize("fields", [(), (4, 4)], ids=["alone", "in a model"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_representations_that_cannot_be_matched_are_refused(value, fields):
    encoder, objective = Encoder().float(), IdeFN()
    if fields:
        objective.prepare(SimpleNamespace(layout=Layout(fields)), encoder)
    x, y = draw_batch(np.random.default_rng(1))
    with torch.no_grad():
        encoder.item.weight[x["item"][y.click == 0][0]] = value
    out = outputs(encoder, x)
    with pytest.raises(ValueError, match="IdeFN cannot match rows whose representations are not finite"):
        objective.loss(out, y)
