"""Phases, state and replaced parameters: CVRTrainer with objectives that exercise the whole contract."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvr_plugins import Labels, Objective, Phase
from cvr_plugins.functional import bce, masked_mean
from cvr_plugins.rechub import CVRTrainer, TrainingError


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
        self.register_buffer("last_logits", torch.zeros(0))
        self.seen = []

    def loss(self, out, y):
        self.seen.append({head: logit.detach().clone() for head, logit in out.logits.items()})
        cvr = masked_mean(bce(out.logits["cvr"], y.conversion), y.click)
        return {"ctr": self.scale * bce(out.logits["ctr"], y.click).mean(), "cvr": cvr, "scaled": 0.1 * cvr}

    def after_batch(self, out, y, x):
        assert not torch.is_grad_enabled()
        self.clicks += y.click.sum()
        self.last_logits = out.logits["cvr"]
        assert set(x) == {"user", "type", "a.b", "keys"}


@pytest.fixture
def trainer():
    def make(model, **options):
        options = {"n_epoch": 2, "model_path": None, "progress": False, "optimizer_params": {"lr": 0.05}, **options}
        return CVRTrainer(model, **options)

    return make


def only_phase(phase):
    return type("OnePhase", (TwoPhases,), {"phases": (phase,)})


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


@pytest.mark.parametrize("architecture", ["towers", "shared_bottom"])
@pytest.mark.parametrize(("phase", "parts"), PHASES, ids=[phase.name for phase, _ in PHASES])
def test_a_phase_moves_what_it_declares_and_nothing_else(phase, parts, architecture, build, loader, trainer):
    model = build(only_phase(phase), architecture=architecture, activation="tanh")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer(model, n_epoch=1).fit(loader())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    expected = set()
    for name in before:
        (head,) = [head for head in ("ctr", "cvr") if f".{head}." in name] or ["shared"]
        # The objective's own parameter scales the CTR term alone.
        has_gradient = name != "objective.scale" or phase.terms is None or "ctr" in phase.terms
        if head in parts and has_gradient:
            expected.add(name)
    assert moved == expected


def test_phases_step_one_after_another_on_each_batch(build, loader, trainer):
    """Equal to a hand-written alternation of two optimisers."""
    model, plain = build(TwoPhases), build(TwoPhases)
    trainer(model, n_epoch=1).fit(loader(150))
    shared = [*plain.encoder.parameters(), plain.objective.scale]
    own = {head: [p for n, p in plain.architecture.named_parameters() if f".{head}." in n] for head in ("ctr", "cvr")}
    optimizers = [
        torch.optim.Adam([*own["ctr"], *shared], lr=0.05, fused=True),
        torch.optim.Adam(own["cvr"], lr=0.05, fused=True),
    ]
    plain.train()
    for x, ys in loader(150):
        labels = Labels(ys[:, 0], ys[:, 1])
        for optimizer, terms in zip(optimizers, [("ctr",), ("cvr", "scaled")], strict=True):
            found = plain.loss_terms(x, labels)
            plain.zero_grad()
            sum(found[name] for name in terms).backward()
            optimizer.step()
    for (name, found), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8, msg=name)
    # The second phase sees what the first has moved.
    first, second = model.objective.seen[:2]
    assert not torch.equal(first["ctr"], second["ctr"])
    assert not torch.equal(first["cvr"], second["cvr"])


def test_state_is_updated_after_each_batch_and_cut_off_the_graph(build, loader, trainer):
    model = build(TwoPhases)
    data = loader(150)
    trainer(model, n_epoch=1).fit(data)
    assert float(model.objective.clicks) == data.labels()["click"].sum()
    assert torch.equal(model.objective.last_logits, model.objective.seen[-1]["cvr"])
    assert not model.objective.last_logits.requires_grad


def test_state_is_restored_with_the_best_weights(build, loader, trainer, tmp_path, weights, same):
    states = []
    made = trainer(
        build(TwoPhases), n_epoch=6, model_path=tmp_path, on_epoch=lambda record: states.append(weights(made.model))
    )
    history = made.fit(loader(), loader(seed=9))
    best = history.best_epoch
    assert best < 5
    assert float(made.model.objective.clicks) == (best + 1) * loader().labels()["click"].sum()
    assert same(weights(made.model), states[best])
    assert same(torch.load(tmp_path / "model_base_0.pth", weights_only=True), states[best])


def test_every_phase_has_a_scheduler(build, loader, trainer):
    made = trainer(
        build(TwoPhases), scheduler_fn=torch.optim.lr_scheduler.ExponentialLR, scheduler_params={"gamma": 0.5}
    )
    made.fit(loader())
    assert [optimizer.param_groups[0]["lr"] for optimizer in made.loop.optimizers] == pytest.approx([0.0125] * 2)


class Replacing(Objective):
    """After the first epoch its parameter gives way to a new one, after the second another part is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.extra = nn.Linear(1, 1)
        self.replaced = []

    def loss(self, out, y):
        logit = out.logits["ctr"] + self.bias
        if self.extra is not None:
            logit = logit + self.extra(logit.detach().unsqueeze(1)).squeeze(1)
        return {"ctr": bce(logit, y.click).mean()}

    def on_epoch_end(self, epoch):
        if epoch == 0:
            self.replaced.append(self.bias)
            self.bias = nn.Parameter(torch.full((), 3.0))
        if epoch == 1:
            self.extra = None
        return epoch < 2


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_follows_replaced_and_removed_parameters(make, build, loader, trainer):
    model = build(Replacing)
    made = trainer(model, n_epoch=1, optimizer_fn=make, optimizer_params={"lr": 0.01})
    optimizer = made.optimizer
    table = model.encoder.tables[0].weight
    steps = []

    def on_epoch(record):
        state = optimizer.state[table]
        steps.append(int(state["step"]) if state else None)

    made.on_epoch, made.n_epoch = on_epoch, 3
    made.fit(loader())
    (old,) = model.objective.replaced
    # Without validation the last epoch's weights are kept, so the parts as they were then are, too.
    new = model.objective.bias
    assert float(new.detach()) != 3.0
    assert model.objective.extra is None
    followed = optimizer.param_groups[0]["params"]
    assert {id(p) for p in followed} == {id(p) for p in model.parameters()}
    assert len(followed) == len(list(model.parameters()))
    assert not any(p is old for p in followed)
    assert old not in optimizer.state
    assert steps == ([5, 10, 15] if make is torch.optim.Adam else [None] * 3)
    if make is torch.optim.Adam:
        assert int(optimizer.state[new]["step"]) == 10


def test_optimizers_with_groups_keep_them(build, loader, trainer):
    model = build(Replacing)

    def grouped(parameters, lr):
        parameters = list(parameters)
        bias = [p for p in parameters if p is model.objective.bias]
        others = [p for p in parameters if p is not model.objective.bias]
        return torch.optim.SGD([{"params": others}, {"params": bias, "lr": 0.5}], lr=lr)

    made = trainer(model, n_epoch=3, optimizer_fn=grouped, optimizer_params={"lr": 0.01})
    made.fit(loader())
    first, second = made.optimizer.param_groups
    assert second["params"] == []
    assert {id(p) for p in first["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("best", [0, 1, 2])
def test_parts_that_were_removed_since_the_best_epoch_come_back(best, build, loader, weights, same):
    class Scripted(CVRTrainer):
        def evaluate(self, model, data_loader):
            report = super().evaluate(model, data_loader)
            report.values[self.watch.key] = 0.9 if len(states) == best else 0.5
            states.append(weights(model))
            return report

    states = []
    model = build(Replacing)
    made = Scripted(model, n_epoch=3, model_path=None, progress=False)
    history = made.fit(loader(), loader(seed=1))
    assert history.best_epoch == best
    assert same(weights(model), states[best])
    assert (model.objective.extra is None) == (best == 2)
    assert {id(p) for p in made.optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    # And training can go on from there.
    before = weights(model)
    made.fit(loader(), loader(seed=1))
    assert not same(before, weights(model))


def test_a_phase_that_sums_an_unknown_term_is_an_error(build, loader, trainer):
    model = build(only_phase(Phase("first", terms=("ctr", "cvrr"))))
    message = r"OnePhase \(plugin test-plugin\): phase 'first' sums the loss term 'cvrr', .* returned \['ctr', 'cvr', "
    with pytest.raises(TrainingError, match=message):
        trainer(model).fit(loader())


def test_a_phase_of_an_unknown_head_is_an_error(build, trainer):
    with pytest.raises(ValueError, match="OnePhase: phase 'first' trains the head 'cvt'; the heads are ctr, cvr"):
        trainer(build(only_phase(Phase("first", trains=("cvt",)))))


def test_frozen_tables_stay_as_they_are_in_every_phase(build, loader, trainer):
    for kind in (TwoPhases, only_phase(Phase("all"))):
        model = build(kind)
        model.encoder.tables[0].weight.requires_grad_(False)
        frozen = model.encoder.tables[0].weight.clone()
        free = model.encoder.tables[1].weight.detach().clone()
        trainer(model, optimizer_params={"lr": 0.05, "weight_decay": 0.1}).fit(loader())
        assert torch.equal(model.encoder.tables[0].weight, frozen)
        assert not torch.equal(model.encoder.tables[1].weight, free)
