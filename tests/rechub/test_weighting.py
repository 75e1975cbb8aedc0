"""CVRTrainer with a weighting: what it minimises, what it reports, and its state over epochs and interruptions."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from cvr_plugins import Labels, Weighting
from cvr_plugins.config import ConfigError, resolve
from cvr_plugins.plugins import registry
from cvr_plugins.rechub import CVRTrainer, TrainingError, model_class
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


@pytest.fixture
def trainer():
    def make(model, **options):
        options = {"n_epoch": 4, "model_path": None, "optimizer_params": {"lr": 0.01}, "progress": False, **options}
        return CVRTrainer(model, **options)

    return make


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_factors_of_a_weighting_are_in_the_history(weighting, method, trainer, loader):
    model = method("ESMM", weighting)
    history = trainer(model).fit(loader(300, shuffle=True), loader(200, seed=1))
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


def test_loss_terms_are_what_is_minimised(method, loader):
    model = method("NISE")
    x, ys = next(iter(loader()))
    y = Labels(ys[:, 0], ys[:, 1])
    model.eval()
    plain, weighted = model.objective.loss(model.outputs(x), y), model.loss_terms(x, y)
    ratio = plain["ctr"] / (plain["cvr"] + plain["unclicked"])
    for name in ("cvr", "unclicked"):
        torch.testing.assert_close(weighted[name], ratio * plain[name])
    assert torch.equal(weighted["ctr"], plain["ctr"])


def test_the_weighting_decides_what_is_learnt(method, trainer, loader, weights, same):
    states = []
    for options in ({}, {"weighting": "fixed"}, {"weighting": "dwa"}, {"alpha": 3.0}, {"beta": 0.1}):
        model = method("NISE", **options)
        trainer(model).fit(loader())
        states.append({k: v for k, v in weights(model).items() if not k.startswith("weighting.")})
    for i, state in enumerate(states):
        assert not any(same(state, other) for other in states[:i])


def test_two_ways_of_writing_the_plain_sum_are_one(method, trainer, loader, weights, same):
    """NISE on clicked rows with fixed weights is Naive, to the last bit."""
    states = []
    for model in (method("NISE", "fixed", unclicked=False), method("Naive"), method("Naive", "fixed", cvr_weight=1)):
        trainer(model).fit(loader())
        states.append(weights(model))
    assert same(states[0], states[1])
    assert same(states[1], states[2])


def test_without_the_ctr_task_nothing_else_is_predicted(method, trainer, loader):
    model = method("NISE", train_ctr=False)
    assert (model.weighting, model.tasks) == (None, ("cvr",))
    history = trainer(model).fit(loader(), loader(seed=1))
    assert set(history.records[0].losses) == {"cvr", "unclicked"}
    assert not [key for key in history.records[0].metrics if not key.startswith("cvr/")]


def epochs(made, data, numbers) -> list[dict[str, float]]:
    found = []
    for number in numbers:
        data.set_epoch(number)
        found.append(made._train_one_epoch(data, number))
    return found


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_resumed_run_equals_an_uninterrupted_one(weighting, method, trainer, loader, weights, same, tmp_path):
    stop = 2
    data = loader(600, shuffle=True)
    whole, first, resumed = (trainer(method("NISE", weighting), optimizer_params={"lr": 0.05}) for _ in range(3))
    expected = epochs(whole, data, range(5))
    found = epochs(first, data, range(stop))
    state = {"model": first.model.state_dict(), "optimizer": first.loop.optimizers[0].state_dict()}
    torch.save(state, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.model.load_state_dict(state["model"])
    resumed.loop.optimizers[0].load_state_dict(state["optimizer"])
    found += epochs(resumed, data, range(stop, 5))
    assert found == expected
    assert same(no_nan(weights(resumed.model)), no_nan(weights(whole.model)))


def no_nan(state):
    return {name: value.nan_to_num(-1.0) for name, value in state.items()}


def test_a_second_fit_goes_on_where_the_first_ended(method, trainer, loader):
    """The last epoch of a fit counts as one: its losses are not mixed with those of the next."""
    model = method("NISE", "dwa")
    trainer(model, n_epoch=1).fit(loader())
    assert model.weighting.batches == 0
    trainer(model, n_epoch=1).fit(loader())
    assert model.weighting.weights.tolist() != [1, 1], "two epochs are known"


@pytest.mark.parametrize("weighting", ["dwa", "dtp"])
def test_the_best_epochs_state_comes_back_with_its_weights(weighting, method, trainer, loader, weights, same, tmp_path):
    states = []
    model = method("NISE", weighting)
    made = trainer(model, n_epoch=5, model_path=tmp_path, on_epoch=lambda record: states.append(weights(model)))
    watched = iter([0.5, 0.6, 0.9, 0.7, 0.8])
    made.watch.value = lambda report: next(watched)
    assert made.fit(loader(shuffle=True), loader(seed=9)).best_epoch == 2
    expected = no_nan(states[2])
    assert not same(no_nan({name: states[4][name] for name in expected}), expected)
    assert same(no_nan(weights(model)), expected)
    saved = torch.load(tmp_path / "model_base_0.pth", weights_only=True)
    assert same(no_nan(saved), expected)
    fresh = method("NISE", weighting)
    fresh.load_state_dict(saved)
    assert same(no_nan(weights(fresh)), expected)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_model_trains_on_alike(way, method, trainer, loader, weights, same):
    model = method("NISE", "dtp")
    trainer(model, n_epoch=1).fit(loader())
    other = way(model)
    for each in (model, other):
        trainer(each, n_epoch=2).fit(loader(seed=2))
    assert same(no_nan(weights(model)), no_nan(weights(other)))
    assert other.weighting.weights.tolist() != [1, 1]


def test_a_finished_run_has_its_factors_in_its_history_and_its_weighting_in_its_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.integers(0, 20, 900) for name in ("user_id", "item_id", "tag")})
    frame["click"] = (rng.random(900) < 0.4).astype(int)
    frame["conversion"] = frame["click"] * (rng.random(900) < 0.5)
    frame.to_csv(tmp_path / "log.csv", index=False)
    given = {
        "model": "ESCM2_IPS",
        "dataset": str(tmp_path / "log.csv"),
        "weighting": "dtp",
        "update_every": 4,
        "train_batch_size": 100,
        "epochs": 2,
        "dims": [4],
        "show_progress": False,
        "device": "cpu",
    }
    result = run(resolve(given), folder=tmp_path / "run")
    history = json.loads((result.folder / "history.json").read_text())
    assert history["epochs"][1]["factors"] == result.history.records[1].factors
    assert set(history["epochs"][1]["factors"]) == {"ctr", "cvr"}
    loaded = TrainedRun.load(result.folder).model.weighting
    assert loaded.update_every == 4
    assert loaded.weights.tolist() != [1, 1]
    assert len(loaded.scores) > 0, "batches since the last update"
    with pytest.raises(ConfigError, match="Unknown key 'temperature'"):
        run(resolve({**given, "temperature": 2.0}), folder=tmp_path / "other")


class Exploding(Weighting):
    def factors(self, losses):
        return {"cvr": math.inf}


def test_a_factor_that_is_not_finite_ends_training_with_its_name(method, trainer, loader):
    model = method("ESMM")
    model.weighting = Exploding()
    with pytest.raises(
        TrainingError, match=r"ESMM.*: Exploding gave the CVR loss the factor inf in epoch 0 by batch 1"
    ):
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
