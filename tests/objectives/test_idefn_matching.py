from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.contracts import Labels, Layout, Outputs, measuring
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import IdeFN
from cvr_plugins.transport import pseudo_positives, relaxed_partial_transport

USERS, ITEMS, DIM, NEAR = 400, 600, 8, 60


class Encoder(nn.Module):
    """User and item embeddings side by side; the first `NEAR` users are neighbours, and so are the first items."""

    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, DIM), nn.Embedding(ITEMS, DIM)
        with torch.no_grad():
            for table in (self.user, self.item):
                table.weight[:NEAR] = table.weight[:NEAR] * 0.5 + 1.0

    def forward(self, x):
        return torch.cat([self.user(x["user"]), self.item(x["item"])], dim=1)


def make_model(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = IdeFN(**options)
        backbone = functools.partial(MLP, dims=(16,))
        architecture = Towers(Layout((DIM, DIM)), objective.heads, backbone=backbone)
        return CVRModel(Encoder(), architecture, objective).double()


def draw_batch(rng, rows=512, conversions=4):
    """Features, labels and the false negatives `[B]` of a batch.

    Exposures of near users to near items would convert. `conversions` rows are such and clicked; about a fiftieth are
    such without a click, the false negatives. Other rows have a near user or a near item, but not both.
    """
    user, item = rng.integers(0, USERS, rows), rng.integers(0, ITEMS, rows)
    item = np.where((user < NEAR) & (item < NEAR), rng.integers(NEAR, ITEMS, rows), item)
    false_negative = rng.random(rows) < 0.02
    click = (rng.random(rows) < 0.1) & ~false_negative
    converted = np.zeros(rows, dtype=bool)
    converted[rng.choice(np.flatnonzero(click), conversions, replace=False)] = True
    near = false_negative | converted
    user[near], item[near] = rng.integers(0, NEAR, near.sum()), rng.integers(0, NEAR, near.sum())
    x = {"user": torch.from_numpy(user), "item": torch.from_numpy(item)}
    y = Labels(torch.from_numpy(click).double(), torch.from_numpy(converted).double())
    return x, y, false_negative


def remember(model, x, y):
    model.objective.after_batch(model.outputs(x), y, x)


def pseudo_labels(model, x, y):
    found = model.objective.pseudo_labels(model.outputs(x), y)
    return None if found is None else found.numpy()


def expected_labels(converted, embedding, y, *, kappa=0.02, relabel="argmax", cost="features", most=None, **options):
    """Pseudo-labels of a batch from the representations of the converted rows, straight from the transport."""
    unclicked = (y.click == 0).numpy()
    most = max(1, int(kappa * unclicked.sum())) if most is None else most
    converted, others = converted.detach().numpy()[-most:], embedding.detach().numpy()[unclicked]
    both = np.concatenate([converted, others]).reshape(-1, 2, DIM)
    weights = np.sqrt(((both - both.mean(0)) ** 2).mean(0).sum(1)) if cost == "features" else np.ones(2)
    apart = converted.reshape(-1, 1, 2, DIM) - others.reshape(1, -1, 2, DIM)
    distances = ((apart / weights[:, None]) ** 2).sum((2, 3))
    plan = relaxed_partial_transport(torch.from_numpy(distances), kappa, **options)
    found = np.zeros(len(unclicked))
    found[unclicked] = pseudo_positives(plan, relabel=relabel).numpy()
    return found


@pytest.mark.parametrize(("relabel", "cost"), [("mass", "features"), ("argmax", "features"), ("argmax", "plain")])
def test_pseudo_labels_are_those_of_transport_from_memory_and_batch(relabel, cost):
    options = {"kappa": 0.05, "regularization": 0.2, "outer_steps": 9, "max_iterations": 400, "tolerance": 1e-8}
    options |= {"relabel": relabel, "cost": cost}
    rng, model = np.random.default_rng(3), make_model(**options)
    with torch.no_grad():
        # A feature that would make up all of a plain cost.
        model.encoder.user.weight.mul_(30)
    converted = []
    for _ in range(4):
        x, y, _ = draw_batch(rng)
        embedding = model.encoder(x)
        converted.append(embedding[y.conversion.bool()])
        expected = expected_labels(torch.cat(converted), embedding, y, **options)
        assert expected.sum() > 0
        np.testing.assert_array_equal(pseudo_labels(model, x, y), expected)
        remember(model, x, y)


@pytest.mark.parametrize("bound", [{"memory_size": 5}, {"positives": 0.6}])
def test_positives_are_the_newest_and_at_most_as_many_as_the_memory_holds_and_can_be_matched(bound):
    # Of 460 unclicked rows nine can be matched.
    rng, model = np.random.default_rng(0), make_model(**bound)
    x, y, _ = draw_batch(rng, conversions=9)
    remember(model, x, y)
    held = model.encoder(x)[y.conversion.bool()][-5:]
    for own, older in ((2, 3), (5, 0), (9, 0)):
        x, y, _ = draw_batch(rng, conversions=own)
        embedding = model.encoder(x)
        positives = torch.cat([held[5 - older :], embedding[y.conversion.bool()][-5:]])
        assert len(positives) == 5
        np.testing.assert_array_equal(pseudo_labels(model, x, y), expected_labels(positives, embedding, y, most=5))


def test_unclicked_term_is_off_until_a_conversion_is_seen():
    rng, model = np.random.default_rng(5), make_model()
    for _ in range(2):
        x, y, _ = draw_batch(rng, conversions=0)
        assert pseudo_labels(model, x, y) is None
        term = model.loss_terms(x, y)["unclicked"]
        assert term.item() == 0
        term.backward()
        assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
        remember(model, x, y)
    assert model.objective.memory_fill == 0

    x, y, _ = draw_batch(rng, conversions=1)
    assert model.loss_terms(x, y)["unclicked"] > 0
    remember(model, x, y)
    assert model.objective.memory_fill == 1
    x, y, _ = draw_batch(rng, conversions=0)
    assert model.loss_terms(x, y)["unclicked"] > 0


def test_representations_are_todays():
    rng, model = np.random.default_rng(7), make_model()
    first, y_first, _ = draw_batch(rng, conversions=20)
    remember(model, first, y_first)
    x, y, _ = draw_batch(rng, conversions=0)
    before = pseudo_labels(model, x, y)
    stale = model.encoder(first)[y_first.conversion.bool()]
    with torch.no_grad():
        for table in (model.encoder.user, model.encoder.item):
            table.weight.copy_(table.weight.roll(100, 0))
            table.weight[:NEAR] -= 1.5
    embedding, today = model.encoder(x), model.encoder(first)[y_first.conversion.bool()]
    after = pseudo_labels(model, x, y)
    np.testing.assert_array_equal(after, expected_labels(today, embedding, y))
    assert (after != expected_labels(stale, embedding, y)).any()
    assert (after != before).any()


def test_as_many_rows_are_relabelled_as_may_be_matched_however_many_have_converted():
    # 100 unclicked rows, equally far from each other; each of 40 converted rows lies on the spot of one of them. Ten
    # rows can be matched, and the last ten converted ones fill a row each.
    unclicked = torch.eye(100, dtype=torch.float64)
    embedding = torch.cat([unclicked, unclicked[:40]])
    click = torch.cat([torch.zeros(100), torch.ones(40)]).double()
    out = Outputs({"cvr": torch.zeros(140, dtype=torch.float64)}, embedding, {})
    objective = IdeFN(kappa=0.1, train_ctr=False)
    assert objective.pseudo_labels(out, Labels(click, click)).nonzero().squeeze(1).tolist() == list(range(30, 40))


def test_unclicked_rows_may_all_be_negatives_of_the_same_weight():
    rng, model = np.random.default_rng(1), make_model(relabel="none", alpha=0.7, gamma=3.0)
    x, y, _ = draw_batch(rng)
    remember(model, x, y)
    assert model.objective.memory_fill == 0
    p = model.predict(x)["cvr"].detach().numpy()
    expected = 3.0 * 0.3 * np.mean((y.click.numpy() == 0) * -np.log1p(-p))
    assert model.loss_terms(x, y)["unclicked"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rows", "told"), [(512, False), (40, True)])
def test_a_batch_too_small_for_a_match_is_told_once(rows, told, caplog):
    rng, model = np.random.default_rng(1), make_model(kappa=0.02)
    for _ in range(2):
        x, y, _ = draw_batch(rng, rows=rows, conversions=1)
        remember(model, x, y)
    assert ["train_batch_size of" in record.message for record in caplog.records] == [True] * told


def measured(objective, out, y):
    with measuring() as found:
        objective.loss(out, y)
    return {name: figure.tolist() for name, figure in found.items()}


def test_the_matching_is_measured_where_the_loss_is_and_the_memory_reported():
    rng, model = np.random.default_rng(1), make_model(memory_size=20)
    x, y, _ = draw_batch(rng, conversions=0)
    objective, out = model.objective, model.outputs(x)
    assert measured(objective, out, y) == {"relabelled": [0, (1 - y.click).sum().item()]}
    assert objective.diagnostics() == {"memory/size": 20, "memory/fill": 0, "memory/seen": 0}
    earlier, y_earlier, _ = draw_batch(rng, conversions=25)
    remember(model, earlier, y_earlier)
    assert objective.diagnostics() == {"memory/size": 20, "memory/fill": 20, "memory/seen": 25}
    figures = measured(objective, out, y)
    assert figures["relabelled"] == [pseudo_labels(model, x, y).sum(), (1 - y.click).sum().item()]
    assert 0 <= figures["transport/marginal_error"][0] <= 1e-6
    assert figures["transport/iterations"][0] >= 5
    assert figures["transport/converged"] == [1, 1]
    hurried = make_model(memory_size=20, max_iterations=1, regularization=0.01)
    hurried.load_state_dict(model.state_dict())
    figures = measured(hurried.objective, hurried.outputs(x), y)
    assert figures["transport/marginal_error"][0] > 1e-6
    assert figures["transport/converged"] == [0, 1]
