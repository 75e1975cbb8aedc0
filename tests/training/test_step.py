"""Training with neither framework: what a step and an epoch return, phase by phase, and what may not happen."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins import CVRModel, Objective, Phase
from cvr_plugins.assembly import assemble
from cvr_plugins.functional import bce
from cvr_plugins.methods import METHODS
from cvr_plugins.testing._log import new_encoder, simulate
from cvr_plugins.training.change import Before
from cvr_plugins.training.loop import EpochSums
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
        encoder = new_encoder()
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


def test_the_sums_of_an_epoch_are_means_of_its_batches(model, batch):
    made = model(InTurns(), weighting="dynamic")
    sums = EpochSums(made, name="InTurns", epoch=3, device=torch.device("cpu"), before=Before(None))
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
        encoder = new_encoder()
        made = CVRModel(encoder, *assemble(method, options={"dims": [4]}).build(encoder.layout))
        step = stepper(made, lr=0.01).train_batch(batch.x, batch.y)
        assert step.terms
        assert step.loss.isfinite()
