"""Training epoch by epoch with neither framework: what phases move, state, schedulers, replaced parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

from cvr_plugins import CVRModel, Objective, Phase
from cvr_plugins.assembly import assemble
from cvr_plugins.config import ConfigError
from cvr_plugins.contracts import Labels, Mechanism
from cvr_plugins.functional import bce, masked_mean
from cvr_plugins.learners import LEARNERS, SCHEDULERS
from cvr_plugins.testing._log import new_encoder, simulate
from cvr_plugins.training.history import EpochRecord, History
from cvr_plugins.training.loop import Loop
from cvr_plugins.training.optimisers import learner_class, make_optimizers, make_schedulers, scheduler_class
from cvr_plugins.training.results import acted
from cvr_plugins.training.snapshot import Snapshot
from cvr_plugins.training.step import TrainingError


class TwoPhases(Objective):
    """First the CTR head and what is shared, then the CVR head alone; counts clicks, scales by a parameter."""

    phases = (
        Phase("click", terms=("ctr",), trains=("ctr",)),
        Phase("conversion", terms=("cvr", "scaled"), trains=("cvr",), shared=False),
    )

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("clicks", torch.zeros(()))

    def loss(self, out, y):
        cvr = masked_mean(bce(out.logits["cvr"], y.conversion), y.click)
        return {"ctr": self.scale * bce(out.logits["ctr"], y.click).mean(), "cvr": cvr, "scaled": 0.1 * cvr}

    def after_batch(self, out, y, x):
        assert not torch.is_grad_enabled()
        assert not out.logits["cvr"].requires_grad
        self.clicks += y.click.sum()


class Replacing(Objective):
    """After the first epoch its parameter gives way to a new one, after the second another part is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.extra = nn.Linear(1, 1)

    def loss(self, out, y):
        logit = out.logits["ctr"] + self.bias
        if self.extra is not None:
            logit = logit + self.extra(logit.detach().unsqueeze(1)).squeeze(1)
        return {"ctr": bce(logit, y.click).mean()}

    def on_epoch_end(self, epoch):
        if epoch == 0:
            self.bias = nn.Parameter(torch.full((), 3.0))
        if epoch == 1:
            self.extra = None
        return epoch < 2


class Staged(Objective):
    """Ready after two epochs."""

    ended = 0

    @property
    def ready(self):
        return self.ended >= 2

    def loss(self, out, y):
        return {"ctr": bce(out.logits["ctr"], y.click).mean()}

    def on_epoch_end(self, epoch):
        self.ended = epoch + 1
        return False


def only_phase(phase):
    return type("OnePhase", (TwoPhases,), {"phases": (phase,)})


def model_of(objective, *, method="Naive", **parts):
    torch.manual_seed(0)
    encoder = new_encoder()
    architecture, _, weighting = assemble(method, options={"dims": [4], "activation": "tanh"}, **parts).build(
        encoder.layout
    )
    return CVRModel(encoder, architecture, objective, weighting)


def loop_of(model, *, make=torch.optim.Adam, lr=0.05, scheduler=None, scheduler_params=None, plugin=None):
    optimizers = make_optimizers(model, make, {"lr": lr})
    schedulers = make_schedulers(
        optimizers, scheduler, scheduler_params or {}, watched="ctr/entire/auc", direction="max"
    )
    name, device = type(model.objective).__name__, torch.device("cpu")
    return Loop(model, optimizers, name=name, plugin=plugin, device=device, schedulers=schedulers)


def batches(number=3, rows=64):
    log = simulate(number * rows, seed=1)
    return [tuple(log.batch(start, start + rows)) for start in range(0, number * rows, rows)]


PHASES = [
    (Phase("all"), {"shared", "ctr", "cvr"}),
    (Phase("all of ctr", terms=("ctr",)), {"shared", "ctr"}),
    (Phase("ctr", terms=("ctr",), trains=("ctr",)), {"shared", "ctr"}),
    (Phase("ctr alone", trains=("ctr",), shared=False), {"ctr"}),
    (Phase("heads", shared=False), {"ctr", "cvr"}),
    (Phase("shared", trains=()), {"shared"}),
    (Phase("others' term", terms=("ctr",), trains=("cvr",), shared=False), set()),
    (Phase("cvr", terms=("cvr",), trains=("ctr", "cvr")), {"shared", "cvr"}),
]


@pytest.mark.parametrize(("phase", "parts"), PHASES, ids=[phase.name for phase, _ in PHASES])
def test_a_phase_moves_what_it_declares_and_nothing_else(phase, parts):
    model = model_of(only_phase(phase)(), architecture="shared_bottom")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    if not parts:
        with pytest.raises(TrainingError, match=r"epoch 0 changed no parameter .* its loss has no gradient"):
            loop_of(model).train_epoch(batches(), 0)
        return
    loop_of(model).train_epoch(batches(), 0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    expected = set()
    for name in before:
        (head,) = [head for head in ("ctr", "cvr") if f".{head}." in name] or ["shared"]
        # The objective's own parameter scales the CTR term alone.
        has_gradient = name != "objective.scale" or phase.terms is None or "ctr" in phase.terms
        if head in parts and has_gradient:
            expected.add(name)
    assert moved == expected


class NoGradient(TwoPhases):
    def loss(self, out, y):
        return {name: term.detach() for name, term in super().loss(out, y).items()}


class ByNothing(TwoPhases):
    def loss(self, out, y):
        return {name: 0 * term for name, term in super().loss(out, y).items()}


@pytest.mark.parametrize(
    ("objective", "lr", "gradients", "reason"),
    [
        (NoGradient, 0.1, True, r"detach\(\)"),
        (ByNothing, 0.1, True, "no gradient"),
        (TwoPhases, 0.1, False, "switched off in this process"),
        (TwoPhases, 0.0, True, None),
    ],
)
def test_an_epoch_that_changes_nothing_though_its_rate_is_above_0_is_an_error(objective, lr, gradients, reason):
    loop = loop_of(model_of(objective()), lr=lr)
    with torch.set_grad_enabled(gradients):
        if reason is None:
            assert loop.train_epoch(batches(), 0).unmoved == []
        else:
            with pytest.raises(TrainingError, match=f"{objective.__name__}: epoch 3 changed no parameter.*{reason}"):
                loop.train_epoch(batches(), 3)


def test_a_phase_that_changes_nothing_is_told_once_and_counted_in_each_epoch(caplog):
    loop = loop_of(model_of(TwoPhases()))
    unclicked = [(x, Labels(0 * y.click, 0 * y.conversion)) for x, y in batches()]
    assert [loop.train_epoch(unclicked, epoch).unmoved for epoch in range(2)] == [["conversion"]] * 2
    assert caplog.text.count("phase 'conversion' changed none of its parameters in epoch 0") == 1
    assert loop.train_epoch(batches(), 2).unmoved == []


@pytest.mark.parametrize("weighting", [None, "fixed", "dynamic", "dwa", "dtp"])
def test_an_epoch_equals_a_hand_written_loop_over_batches_and_phases(weighting):
    model, plain = (model_of(TwoPhases(), weighting=weighting) for _ in range(2))
    trained = loop_of(model).train_epoch(batches(), 0)
    optimizers = [torch.optim.Adam(plain.parameters_for(phase), lr=0.05, fused=True) for phase in TwoPhases.phases]
    factors = []
    for x, y in batches():
        for phase, optimizer in zip(TwoPhases.phases, optimizers, strict=True):
            out = plain.outputs(x)
            terms = plain.objective.loss(out, y)
            losses = {"ctr": terms["ctr"].detach(), "cvr": terms["cvr"].detach()}
            found = {} if plain.weighting is None else plain.weighting.factors(losses)
            plain.zero_grad()
            sum(found.get(name, 1.0) * terms[name] for name in phase.terms).backward(inputs=plain.parameters_for(phase))
            optimizer.step()
        factors.append({task: float(factor) for task, factor in found.items()})
        if plain.weighting is not None:
            with torch.no_grad():
                plain.weighting.after_batch(losses, plain.objective.predict(out), y)
    for (name, found), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8, msg=name)
    for task, factor in trained.factors.items():
        assert factor == pytest.approx(sum(each[task] for each in factors) / len(factors), rel=1e-5)
    assert float(model.objective.clicks) == sum(y.click.sum() for _, y in batches())


def test_an_epoch_is_reported_and_its_end_steps_every_scheduler():
    loop = loop_of(model_of(TwoPhases(), weighting="dynamic"), scheduler=ExponentialLR, scheduler_params={"gamma": 0.5})
    trained = loop.train_epoch(batches(), 0)
    assert set(trained.values("train")) == {"train/ctr", "train/cvr", "train/scaled", "factor/cvr"}
    loop.end_epoch(0, None)
    assert [each.param_groups[0]["lr"] for each in loop.optimizers] == [0.025, 0.025]
    with pytest.raises(TrainingError, match="no batch in epoch 1"):
        loop.train_epoch([], 1)


def test_a_plateau_follows_the_watched_metric_and_needs_one():
    loop = loop_of(model_of(TwoPhases()), lr=0.1, scheduler=ReduceLROnPlateau, scheduler_params={"patience": 0})
    for value in (0.5, 0.6, None):
        loop.end_epoch(0, value)
    assert loop.optimizers[0].param_groups[0]["lr"] == 0.1
    loop.end_epoch(0, 0.55)
    assert loop.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)
    loop.check_validated(True)
    with pytest.raises(ConfigError, match="ReduceLROnPlateau follows the validation metric"):
        loop.check_validated(False)


def test_every_name_of_the_tables_makes_one():
    model = model_of(TwoPhases())
    for name in LEARNERS:
        assert len(make_optimizers(model, learner_class(name.upper()), {"lr": 0.1})) == 2
    for name in SCHEDULERS:
        assert issubclass(scheduler_class(name), torch.optim.lr_scheduler.LRScheduler)
    assert scheduler_class(None) is None
    with pytest.raises(ConfigError, match=r"learner must be one of adam, .*; got 'adamm'. Did you mean adam"):
        learner_class("adamm")


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_follows_replaced_and_removed_parameters(make):
    model = model_of(Replacing())
    loop, old, table = loop_of(model, make=make), model.objective.bias, model.encoder.table("user").weight
    (optimizer,) = loop.optimizers
    for epoch in range(3):
        loop.train_epoch(batches(), epoch)
        loop.end_epoch(epoch, None)
    new = model.objective.bias
    assert float(new.detach()) != 3.0
    followed = optimizer.param_groups[0]["params"]
    assert len(followed) == len(set(followed))
    assert set(followed) == set(model.parameters())
    assert old not in optimizer.state
    if make is torch.optim.Adam:
        assert (int(optimizer.state[table]["step"]), int(optimizer.state[new]["step"])) == (9, 6)


def test_optimizers_with_groups_keep_them():
    model = model_of(Replacing())
    bias = model.objective.bias

    def grouped(parameters, lr):
        others = [p for p in parameters if p is not bias]
        return torch.optim.SGD([{"params": others}, {"params": [bias], "lr": 0.5}], lr=lr)

    loop = loop_of(model, make=grouped)
    for epoch in range(3):
        loop.train_epoch(batches(1), epoch)
        loop.end_epoch(epoch, None)
    first, second = loop.optimizers[0].param_groups
    assert second["params"] == []
    assert set(first["params"]) == set(model.parameters())


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_parts_that_were_removed_since_come_back(kept):
    model = model_of(Replacing())
    loop = loop_of(model)
    for epoch in range(3):
        loop.train_epoch(batches(1), epoch)
        if epoch == kept:
            snapshot, weights = Snapshot(model), {n: v.clone() for n, v in model.state_dict().items()}
        loop.end_epoch(epoch, None)
    loop.restore(snapshot)
    found = model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in found.items())
    assert (model.objective.extra is None) == (kept == 2)
    assert set(loop.optimizers[0].param_groups[0]["params"]) == set(model.parameters())
    loop.train_epoch(batches(1), 3)
    assert not torch.equal(model.objective.bias, weights["objective.bias"])


def test_epochs_of_a_first_stage_are_each_better_than_those_before_them_and_the_first_after_it_too():
    loop = loop_of(model_of(Staged()))
    anew = []
    for epoch in range(5):
        anew.append((loop.begins_anew(), loop.judged))
        loop.end_epoch(epoch, 0.5)
    assert anew == [(True, False), (True, False), (True, True), (False, True), (False, True)]
    assert "Staged: training ended in its first stage" in loop.ended_unready(2)


def test_frozen_tables_stay_as_they_are_in_every_phase():
    for kind in (TwoPhases, only_phase(Phase("all"))):
        model = model_of(kind())
        frozen = model.encoder.table("user").weight.requires_grad_(False)
        before, free = frozen.clone(), model.encoder.table("item").weight.detach().clone()
        loop_of(model).train_epoch(batches(), 0)
        assert torch.equal(frozen, before)
        assert not torch.equal(model.encoder.table("item").weight, free)


def failing(error):
    class Failing(TwoPhases):
        def loss(self, out, y):
            terms = super().loss(out, y)
            if isinstance(error, Exception):
                raise error
            return {**terms, "cvr": terms["cvr"] * error}

    return Failing()


REFUSED = [
    (failing(float("nan")), r"Failing \(plugin acme\): the loss term 'cvr' became nan in epoch 4 by batch 1\."),
    (failing(KeyError("cvr2")), r"Failing \(plugin acme\): training raised KeyError: 'cvr2'\."),
    (
        only_phase(Phase("first", terms=("ctr", "cvrr")))(),
        r"OnePhase \(plugin acme\): phase 'first' sums the loss term 'cvrr', .* returned \['ctr', 'cvr', ",
    ),
]


@pytest.mark.parametrize(("objective", "message"), REFUSED, ids=["nan", "error", "term"])
def test_what_training_cannot_go_on_from_names_the_method_and_its_plugin(objective, message):
    with pytest.raises(TrainingError, match=message):
        loop_of(model_of(objective), plugin="acme").train_epoch(batches(), 4)


class Measuring(TwoPhases):
    """Says how many rows were clicked, and in which phase; of a batch without a click nothing of those."""

    mechanism = Mechanism("clicked", "clicked rows", idle=0.0)

    def loss(self, out, y):
        self.measure("clicked", y.click.sum(), len(y.click))
        self.measure("converted", y.click_and_conversion.sum(), y.click.sum())
        return super().loss(out, y)

    def diagnostics(self):
        return {"clicks": self.clicks.item()}


def test_what_is_measured_is_of_the_whole_epoch_its_ragged_batch_too():
    log = simulate(150, seed=1)
    parts = [tuple(log.batch(start, min(start + 64, 150))) for start in range(0, 150, 64)]
    found = loop_of(model_of(Measuring())).train_epoch(parts, 0).diagnostics
    click = torch.cat([y.click for _, y in parts])
    converted = torch.cat([y.click_and_conversion for _, y in parts])
    assert found == {
        "clicked": pytest.approx(click.mean().item()),
        "converted": pytest.approx((converted.sum() / click.sum()).item()),
        "clicks": click.sum().item(),
    }
    x, y = parts[0]
    none = Labels(torch.zeros_like(y.click), torch.zeros_like(y.click))
    assert loop_of(model_of(Measuring())).train_epoch([(x, none)], 0).diagnostics == {"clicked": 0, "clicks": 0}


@pytest.mark.parametrize(
    ("diagnostics", "factors", "figure", "value", "idle"),
    [
        ({"clicked": 0.2}, {}, "clicked", 0.2, False),
        ({"clicked": 0.0}, {}, "clicked", 0.0, True),
        ({}, {}, "clicked", None, True),
        ({}, {"cvr": 2.0}, "factor/cvr", 2.0, False),
    ],
)
def test_a_mechanism_is_judged_in_the_kept_epoch(diagnostics, factors, figure, value, idle):
    kept = EpochRecord(0, improved=True, diagnostics=diagnostics, factors=factors)
    later = EpochRecord(1, diagnostics={"clicked": 0.7})
    found = acted(Mechanism(figure, "clicked rows", idle=0.0), History(records=[kept, later]))
    assert found == {"figure": figure, "says": "clicked rows", "value": value, "idle": idle}
    assert acted(None, History(records=[kept])) is None
