"""Training with neither framework: what a step and an epoch return, phase by phase, and what may not happen."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

from cvr_plugins import CVRModel, Objective, Phase
from cvr_plugins.assembly import assemble
from cvr_plugins.config import ConfigError
from cvr_plugins.functional import bce
from cvr_plugins.learners import LEARNERS, SCHEDULERS
from cvr_plugins.methods import METHODS
from cvr_plugins.testing._log import Encoder, simulate
from cvr_plugins.training.loop import EpochSums, Loop
from cvr_plugins.training.optimisers import learner_class, make_optimizers, make_schedulers, scheduler_class
from cvr_plugins.training.step import Stepper, TrainingError


class InTurns(Objective):
    """CTR, then CVR; keeps what `after_batch` was given."""

    phases = (Phase("a", terms=("ctr",)), Phase("b", terms=("cvr",), trains=("cvr",), shared=False))

    def loss(self, out, y):
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), "cvr": bce(out.logits["cvr"], y.conversion).mean()}

    def after_batch(self, out, y, x):
        self.last = out.logits["cvr"]


@pytest.fixture
def model():
    def make(objective, **options):
        torch.manual_seed(0)
        encoder = Encoder()
        architecture, _, weighting = assemble("Naive", options={"dims": [4]}, **options).build(encoder.layout)
        return CVRModel(encoder, architecture, objective, weighting)

    return make


@pytest.fixture
def batch():
    return simulate(64, seed=1).batch(0, 64)


def optimizers(model, lr=0.1):
    return [torch.optim.SGD(model.parameters_for(phase), lr=lr) for phase in model.objective.phases]


def stepper(model, lr=0.1, **options):
    return Stepper(model, optimizers(model, lr), name=type(model.objective).__name__, **options)


def test_a_step_is_the_sum_of_its_phases_each_after_the_one_before(model, batch):
    one, other = model(InTurns()), model(InTurns())
    step = stepper(one).train_batch(batch.x, batch.y)
    steps = stepper(other)
    phases = [steps.train_phase(number, batch.x, batch.y) for number in range(2)]
    assert step.loss.item() == pytest.approx(phases[0].terms["ctr"].item() + phases[1].terms["cvr"].item(), rel=1e-6)
    assert phases[1].terms["ctr"] < phases[0].terms["ctr"], "the second phase sees what the first has moved"
    assert one.objective.last is not None
    assert not one.objective.last.requires_grad
    assert not step.loss.requires_grad


def test_outputs_penalty_and_update_are_the_callers(model, batch):
    made = model(InTurns())
    seen = []

    def update(loss, optimizer, inputs):
        seen.append((loss.item(), None if inputs is None else len(inputs)))

    def outputs(x):
        out = made.outputs(x)
        seen.append("outputs")
        return out

    steps = stepper(made, outputs=outputs, penalty=lambda: torch.tensor(10.0), update=update)
    step = steps.train_batch(batch.x, batch.y)
    assert [each for each in seen if each == "outputs"] == ["outputs"] * 2
    (first, everything), (second, own) = [each for each in seen if each != "outputs"]
    assert first == pytest.approx(step.terms["ctr"].item() + 10)
    assert second == pytest.approx(step.terms["cvr"].item() + 10)
    assert everything is None
    assert 0 < own < len(list(made.parameters()))


def test_a_phase_that_sums_what_there_is_not_is_an_error(model, batch):
    class Wrong(InTurns):
        phases = (Phase("a", terms=("ctcvr",)),)

    made = model(Wrong())
    with pytest.raises(TrainingError, match=r"Wrong: phase 'a' sums the loss term 'ctcvr', which loss\(\) did not ret"):
        stepper(made).train_batch(batch.x, batch.y)


def test_the_sums_of_an_epoch_are_means_of_its_batches(model, batch):
    made = model(InTurns(), weighting="dynamic")
    sums = EpochSums(made, name="InTurns", epoch=3, device=torch.device("cpu"))
    steps = [stepper(made).train_batch(batch.x, batch.y) for _ in range(3)]
    for step in steps:
        sums.add(step)
    losses, factors = sums.means()
    assert losses["ctr"] == pytest.approx(sum(step.terms["ctr"].item() for step in steps) / 3)
    assert factors["cvr"] == pytest.approx(sum(step.factors["cvr"].item() for step in steps) / 3)
    assert sums.loss == pytest.approx(sum(step.loss.item() for step in steps))
    assert sums.batches == 3
    with pytest.raises(TrainingError, match="InTurns: the loss term 'cvr' became nan in epoch 3 by batch 4"):
        sums.add(steps[0]._replace(terms={"ctr": torch.tensor(1.0), "cvr": torch.tensor(torch.nan)}))


def test_every_method_can_be_trained_without_a_framework(batch):
    for method in METHODS:
        torch.manual_seed(0)
        encoder = Encoder()
        made = CVRModel(encoder, *assemble(method, options={"dims": [4]}).build(encoder.layout))
        step = stepper(made, lr=0.01).train_batch(batch.x, batch.y)
        assert step.terms
        assert step.loss.isfinite()


def test_a_loop_reports_an_epoch_and_ends_it(model, batch):
    made = model(InTurns(), weighting="dynamic")
    steps = optimizers(made)
    schedulers = make_schedulers(steps, ExponentialLR, {"gamma": 0.5}, watched="ctr/entire/auc", direction="max")
    loop = Loop(made, steps, name="InTurns", plugin="acme", device=torch.device("cpu"), schedulers=schedulers)
    trained = loop.train_epoch([(batch.x, batch.y)] * 2, 0)
    assert set(trained.values("train")) >= {"train/ctr", "train/cvr", "factor/cvr"}
    assert trained.loss == pytest.approx(2 * sum(trained.losses.values()), rel=0.5)
    assert loop.begins_anew()
    assert not loop.begins_anew()
    loop.end_epoch(0, None)
    assert [each.param_groups[0]["lr"] for each in steps] == [0.05, 0.05]
    with pytest.raises(TrainingError, match="no batch in epoch 1"):
        loop.train_epoch([], 1)
    made.objective.loss = None
    with pytest.raises(TrainingError, match=r"InTurns \(plugin acme\): training raised TypeError"):
        loop.train_epoch([(batch.x, batch.y)], 1)


def test_a_plateau_follows_the_watched_metric_and_needs_one(model):
    made = model(InTurns())
    steps = optimizers(made)
    schedulers = make_schedulers(steps, ReduceLROnPlateau, {"patience": 0}, watched="ctr/entire/auc", direction="max")
    loop = Loop(made, steps, name="InTurns", plugin=None, device=torch.device("cpu"), schedulers=schedulers)
    for value in (0.5, 0.6, None):
        loop.end_epoch(0, value)
    assert steps[0].param_groups[0]["lr"] == 0.1
    loop.end_epoch(0, 0.55)
    assert steps[0].param_groups[0]["lr"] == pytest.approx(0.01)
    loop.check_validated(True)
    with pytest.raises(ConfigError, match="ReduceLROnPlateau follows the validation metric"):
        loop.check_validated(False)


def test_every_name_of_the_tables_makes_one(model):
    made = model(InTurns())
    for name in LEARNERS:
        assert len(make_optimizers(made, learner_class(name), {"lr": 0.1})) == 2
    for name in SCHEDULERS:
        assert issubclass(scheduler_class(name), torch.optim.lr_scheduler.LRScheduler)
    assert scheduler_class(None) is None
    with pytest.raises(ConfigError, match=r"learner must be one of adam, .*; got 'adamm'. Did you mean adam"):
        learner_class("adamm")
