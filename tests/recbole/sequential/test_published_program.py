"""PARS as RecBole trains it, against the NumPy twin of the published program."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from cvr_plugins.sequential import latest_events, mask_items

TWIN = Path(__file__).parents[2] / "sequential" / "test_published_program.py"
MASK_RATIO, LAMBDA = 0.3, 0.7


@pytest.fixture(scope="module")
def twin():
    spec = importlib.util.spec_from_file_location("published_program", TWIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def events_with_an_unseen_item(make_events):
    """The last item is browsed in the last session alone, which is a test session: it stands for the padding class."""
    events = make_events(shortest=2, longest=6, sessions=40)
    last = events[-1]
    return [*events[:-1], (last[0], "padding", last[2], last[3])]


@pytest.mark.parametrize(("order", "projected"), [("code", True), ("paper", False)])
def test_recboles_training_has_the_programs_losses_and_labels(
    order, projected, twin, make_events, write, recbole, monkeypatch
):
    run = recbole(
        "PARS",
        write(events_with_an_unseen_item(make_events)),
        pll_order=order,
        projection_size=6 if projected else None,
        alpha_new=1 - twin.ALPHA,
        mask_ratio=MASK_RATIO,
        mlm_weight=LAMBDA,
        n_layers=2,
        n_heads=twin.HEADS,
        hidden_dropout_prob=0.0,
        attn_dropout_prob=0.0,
        initializer_range=0.5,
        layer_norm_eps=twin.EPS,
        learning_rate=0.02,
        learner="adamw",
        weight_decay=0.01,
        clip_grad_norm={"max_norm": 1.0},
        epochs=3,
    )
    core = run.model.double().core
    part = run.train._dataset
    assert part.id2token("item_id", run.model.n_items - 1) == "padding"
    sessions = part.session_interaction(slice(None))["item_id_list"]
    assert not (sessions == run.model.n_items - 1).any()
    program = twin.Program(sessions.numpy(), run.model.n_items)
    steps = []

    def step(ids, rows, real=core.step):
        batch = latest_events(rows, core.encoder.max_length)
        torch.manual_seed(len(steps))
        masked = mask_items(batch, mask_ratio=MASK_RATIO, mask_id=core.encoder.mask_id).sequences
        arrays = (each.numpy() for each in (ids, batch, masked))
        pll, mlm = program.losses(*arrays, twin.weights_of(core), order=order, projected=projected)
        torch.manual_seed(len(steps))
        losses = real(ids, rows)
        # The labels start in float32, and the program adds 1e-10 to what it divides by.
        assert losses["pll"].item() == pytest.approx(pll, rel=2e-7)
        assert losses["mlm"].item() == pytest.approx(LAMBDA * mlm, rel=1e-9)
        steps.append(losses)
        return losses

    monkeypatch.setattr(core, "step", step)
    run.trainer.fit(run.train, saved=False, show_progress=False)
    assert len(steps) == 3 * len(run.train)
    np.testing.assert_allclose(twin.dense_labels(core), program.labels, rtol=0, atol=5e-8)
    assert np.abs(program.labels - twin.Program(sessions.numpy(), run.model.n_items).labels).max() > 0.05
