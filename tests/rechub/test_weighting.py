"""CVRTrainer with a weighting: what it minimises, what it reports, and its state over epochs and interruptions."""

from __future__ import annotations

import json
import math

import pytest
import torch

from cvr_plugins import Labels, Weighting
from cvr_plugins.plugins import registry
from cvr_plugins.rechub import TrainingError, model_class
from cvr_plugins.rechub.runner import run
from cvr_plugins.rechub.scoring import TrainedRun

WEIGHTINGS = [entry.name for entry in registry().entries("weighting")]


@pytest.fixture
def method(build):
    """A model of a method by name, with a weighting."""

    def make(name="ESMM", weighting=None, **options):
        if weighting == "dtp":
            options = {"update_every": 7, **options}
        return build(model_class(name), weighting=weighting, **options)

    return make


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_factors_of_a_weighting_are_in_the_history(weighting, method, trainer, loader):
    model = method("ESMM", weighting)
    history = trainer(model, n_epoch=4).fit(loader(300, shuffle=True), loader(200, seed=1))
    assert len(history.records) == 4
    for record in history.records:
        assert all(math.isfinite(value) for value in [*record.losses.values(), *record.factors.values()])
        assert set(record.factors) == ({"cvr"} if weighting in ("fixed", "dynamic") else {"ctr", "cvr"})
        assert all(value >= 0 for value in record.factors.values())
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    pairs = [tuple(record.factors.values()) for record in history.records]
    if weighting == "dwa":
        assert pairs[:2] == [(1, 1), (1, 1)]
        assert all(sum(pair) == pytest.approx(2, abs=1e-5) and pair != (1, 1) for pair in pairs[2:])
    elif weighting == "fixed":
        assert pairs == [(1,)] * 4
    else:
        assert len(set(pairs)) == 4, "another figure each epoch"


def test_losses_are_reported_before_and_factors_beside_them(method, trainer, loader):
    """Once weighted, below the cap, the two would be the same number in each batch."""
    model = method("NISE", alpha=2.0)
    seen = []
    made = trainer(model, n_epoch=1, optimizer_params={"lr": 0.0}, on_epoch=seen.append)
    data = loader(150)
    made.fit(data)
    expected = {"ctr": [], "cvr": [], "unclicked": [], "factor": []}
    model.train()
    with torch.no_grad():
        for x, ys in data:
            terms = model.objective.loss(model.outputs(x), Labels(ys[:, 0], ys[:, 1]))
            for name, term in terms.items():
                expected[name].append(term.item())
            expected["factor"].append(2 * (terms["ctr"] / (terms["cvr"] + terms["unclicked"])).item())
    means = {name: sum(values) / len(values) for name, values in expected.items()}
    (record,) = seen
    assert record.factors == pytest.approx({"cvr": means.pop("factor")}, rel=1e-5)
    assert record.losses == pytest.approx(means, rel=1e-5)
    assert trainer(method("ESMM"), n_epoch=1).fit(data).records[0].factors == {}


def no_nan(state):
    return {name: value.nan_to_num(-1.0) for name, value in state.items()}


def test_a_second_fit_goes_on_where_the_first_ended(method, trainer, loader):
    """The last epoch of a fit counts as one: its losses are not mixed with those of the next."""
    model = method("NISE", "dwa")
    trainer(model, n_epoch=1).fit(loader())
    assert model.weighting.batches == 0
    trainer(model, n_epoch=1).fit(loader())
    assert model.weighting.weights.tolist() != [1, 1], "two epochs are known"


def test_the_best_epochs_state_comes_back_with_its_weights(method, trainer, loader, weights, same, tmp_path):
    states = []
    model = method("NISE", "dtp")
    made = trainer(model, n_epoch=5, model_path=tmp_path, on_epoch=lambda record: states.append(weights(model)))
    watched = iter([0.5, 0.6, 0.9, 0.7, 0.8])
    made.watch.value = lambda report: next(watched)
    assert made.fit(loader(shuffle=True), loader(seed=9)).best_epoch == 2
    expected = no_nan(states[2])
    assert not same(no_nan({name: states[4][name] for name in expected}), expected)
    assert same(no_nan(weights(model)), expected)
    fresh = method("NISE", "dtp")
    fresh.load_state_dict(torch.load(tmp_path / "model_base_0.pth", weights_only=True))
    assert same(no_nan(weights(fresh)), expected)


def test_a_finished_run_has_its_factors_in_its_history_and_its_weighting_in_its_checkpoint(shop, tmp_path):
    keys = {"model": "ESCM2_IPS", "weighting": "dtp", "update_every": 4}
    result = run({**shop.config, **keys}, folder=tmp_path / "run")
    history = json.loads((result.folder / "history.json").read_text())
    assert history["epochs"][1]["factors"] == result.history.records[1].factors
    assert set(history["epochs"][1]["factors"]) == {"ctr", "cvr"}
    loaded = TrainedRun.load(result.folder).model.weighting
    assert loaded.update_every == 4
    assert loaded.weights.tolist() != [1, 1]
    assert len(loaded.scores) > 0, "batches since the last update"


class Exploding(Weighting):
    def factors(self, losses):
        return {"cvr": math.inf}


def test_a_factor_that_is_not_finite_ends_training_with_its_name(method, trainer, loader):
    model = method("ESMM")
    model.weighting = Exploding()
    with pytest.raises(TrainingError, match="Exploding gave the CVR loss the factor inf in epoch 0 by batch 1"):
        trainer(model).fit(loader())


PLUGIN = """
import torch
from cvr_plugins import Weighting, hookimpl

class Clicks(Weighting):
    '''As many times the share of unclicked rows so far, to a power.'''

    def __init__(self, *, power=1.0):
        super().__init__()
        self.power = power
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("unclicked", torch.zeros(()))

    def factors(self, losses):
        return {"cvr": (self.unclicked / self.rows.clamp(min=1)) ** self.power}

    def after_batch(self, losses, predictions, y):
        self.rows += len(y.click)
        self.unclicked += (y.click == 0).sum()

@hookimpl
def cvr_register_weightings():
    return {"clicks": Clicks}
"""


def test_a_plugins_weighting_works_like_our_own(plugin, method, trainer, loader):
    plugin("acme", PLUGIN)
    data = loader(300)
    model = method("ESCM2_DR", "clicks", power=2.0)
    history = trainer(model, n_epoch=3).fit(data)
    share = 1 - data.labels()["click"].mean()
    assert history.records[2].factors["cvr"] == pytest.approx(share**2, rel=0.1)
    assert model.state_dict()["weighting.rows"] == 900
    with pytest.raises(ValueError, match="Unknown option 'power' for ESCM2_DR"):
        method("ESCM2_DR", "dwa", power=2.0)
