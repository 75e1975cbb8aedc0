"""Each weighting by hand; its state saved, moved and resumed; its factors on the terms of every method."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.contracts import Architecture, Labels, Layout, Objective, Outputs, Weighting
from cvr_plugins.model import CVRModel
from cvr_plugins.objectives import ESM2, ESMM, NISE
from cvr_plugins.plugins import registry
from cvr_plugins.weightings import DTP, DWA, Dynamic, Fixed, terms_by_task


def losses(ctr: float, cvr: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"ctr": torch.tensor(ctr, dtype=dtype), "cvr": torch.tensor(cvr, dtype=dtype)}


def factors(weighting: Weighting, ctr: float = 0.6, cvr: float = 0.02) -> list[float]:
    """The factors of CTR and CVR, one left out being 1."""
    found = weighting.factors(losses(ctr, cvr))
    assert set(found) <= {"ctr", "cvr"}
    return [float(found.get(task, 1.0)) for task in ("ctr", "cvr")]


def test_fixed():
    assert factors(Fixed()) == [1, 1]
    assert factors(Fixed(cvr_weight=7.5)) == [1, 7.5]


@pytest.mark.parametrize(
    ("ctr", "cvr", "alpha", "beta", "expected"),
    [
        (0.6, 0.02, 1.0, 50.0, 30.0),
        (0.6, 0.02, 0.5, 50.0, 15.0),
        (0.6, 0.001, 2.0, 50.0, 100.0),
        (0.6, 0.02, 1.0, 10.0, 10.0),
        (0.6, 1.2, 1.0, 50.0, 0.5),
        (0.6, 0.0, 1.0, 50.0, 50.0),
        (0.6, 1e-45, 1.0, 50.0, 50.0),
        (1e30, 1e-30, 1.0, 50.0, 50.0),
        (0.0, 0.5, 1.0, 50.0, 0.0),
        (0.0, 0.0, 1.0, 50.0, 0.0),
        # A doubly robust loss may be negative; a weight may not.
        (0.6, -0.02, 1.0, 50.0, 30.0),
    ],
)
def test_dynamic(ctr, cvr, alpha, beta, expected):
    assert factors(Dynamic(alpha=alpha, beta=beta), ctr, cvr) == [1, pytest.approx(expected)]


def epoch(weighting: DWA, ctr: list[float], cvr: list[float], number: int = 0) -> list[float]:
    """Train on batches with these losses; return the factors then."""
    for pair in zip(ctr, cvr, strict=True):
        weighting.after_batch(losses(*pair), {}, Labels(torch.zeros(1), torch.zeros(1)))
    weighting.on_epoch_end(number)
    return factors(weighting)


def test_dwa_by_hand():
    weighting = DWA()
    assert factors(weighting) == [1, 1]
    assert epoch(weighting, [0.9, 0.7, 0.8], [0.3, 0.2, 0.1]) == [1, 1], "means 0.8 and 0.2, and no epoch before"
    # Means 0.4 and 0.18: ratios 0.5 and 0.9, over the temperature 0.25 and 0.45.
    ctr, cvr = math.exp(0.25), math.exp(0.45)
    expected = [2 * ctr / (ctr + cvr), 2 * cvr / (ctr + cvr)]
    assert epoch(weighting, [0.5, 0.3], [0.16, 0.2], 1) == pytest.approx(expected, rel=1e-6)
    assert factors(weighting, 3.0, 9.0) == pytest.approx(expected, rel=1e-6), "the same for all batches of an epoch"
    # Means 0.4 and 0.09: ratios 1 and 0.5; only the last two epochs count.
    ctr, cvr = math.exp(0.5), math.exp(0.25)
    expected = [2 * ctr / (ctr + cvr), 2 * cvr / (ctr + cvr)]
    assert epoch(weighting, [0.4], [0.09], 2) == pytest.approx(expected, rel=1e-6)


def test_dwa_by_its_temperature():
    sharp, flat = DWA(temperature=0.1), DWA(temperature=1000)
    for weighting in (sharp, flat):
        epoch(weighting, [1.0], [1.0])
    high = math.exp(10) / (math.exp(5) + math.exp(10))
    assert epoch(sharp, [0.5], [1.0], 1) == pytest.approx([2 - 2 * high, 2 * high], rel=1e-5)
    assert epoch(flat, [0.5], [1.0], 1) == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "ratios"),
    [
        ((0.5, 0.0), (0.5, 0.1), (1, 1)),
        ((0.5, 0.0), (0.25, 0.0), (0.5, 1)),
        ((0.5, -0.2), (0.5, 0.1), (1, 0.5)),
        ((0.5, 1e-44), (0.5, 1e30), (1, torch.finfo(torch.float32).max)),
    ],
)
def test_dwa_stays_finite_at_losses_of_nothing_and_below(first, second, ratios):
    weighting = DWA()
    epoch(weighting, [first[0]], [first[1]])
    found = epoch(weighting, [second[0]], [second[1]], 1)
    ctr, cvr = (math.exp((ratio - max(ratios)) / 2) for ratio in ratios)
    assert found == pytest.approx([2 * ctr / (ctr + cvr), 2 * cvr / (ctr + cvr)], rel=1e-6)


def test_dwa_takes_an_epoch_without_a_batch_for_none():
    weighting = DWA()
    epoch(weighting, [1.0], [1.0])
    before = {name: value.clone() for name, value in weighting.state_dict().items()}
    assert epoch(weighting, [], [], 1) == [1, 1]
    assert all(torch.equal(value, before[name]) for name, value in weighting.state_dict().items())


def batch(ctr, cvr, click, conversion) -> tuple[dict[str, torch.Tensor], Labels]:
    columns = [torch.tensor(values, dtype=torch.float32) for values in (ctr, cvr, click, conversion)]
    return {"ctr": columns[0], "cvr": columns[1], "ctcvr": columns[0] * columns[1]}, Labels(*columns[2:])


# Click AUC over both: clicked 0.9, 0.8, 0.3 against unclicked 0.2, 0.5, 0.1 orders 8 of 9 pairs. Conversion AUC
# over the clicked rows: converted 0.6 against 0.4 and 0.7 orders 1 of 2. In neither batch alone is it defined.
FIRST = batch([0.9, 0.2, 0.8], [0.4, 0.9, 0.7], [1, 0, 1], [0, 0, 0])
SECOND = batch([0.5, 0.1, 0.3], [0.1, 0.1, 0.6], [0, 0, 1], [1, 0, 1])


def focal(kappa: float, gamma: float = 1.0) -> float:
    return -((1 - kappa) ** gamma) * math.log(kappa)


def feed(weighting: DTP, *batches) -> list[float]:
    for predictions, y in batches:
        weighting.after_batch(losses(1, 1), predictions, y)
    return factors(weighting)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_dtp_by_hand(gamma):
    weighting = DTP(focal_gamma=gamma, update_every=2)
    assert feed(weighting, FIRST) == [1, 1]
    expected = [focal(8 / 9, gamma), focal(1 / 2, gamma)]
    assert feed(weighting, SECOND) == pytest.approx(expected, rel=1e-5)
    assert feed(weighting, FIRST) == pytest.approx(expected, rel=1e-5), "until the next update"


def test_dtp_averages_the_newest_auc_with_those_before():
    right, wrong = (
        batch([0.9, 0.8, 0.1], [0.9, 0.1, 0.5], [1, 1, 0], [1, 0, 0]),
        batch([0.1, 0.2, 0.9], [0.1, 0.9, 0.5], [1, 1, 0], [1, 0, 0]),
    )
    weighting = DTP(update_every=1, running_average=0.25)
    assert feed(weighting, right) == [0, 0], "at an AUC of 1 nothing is left to learn"
    assert weighting.aucs.tolist() == [1, 1]
    assert feed(weighting, wrong) == pytest.approx([focal(0.75)] * 2)
    assert feed(weighting, wrong) == pytest.approx([focal(0.5625)] * 2)
    assert DTP().running_average == 0.5
    assert DTP().update_every == 100
    newest = DTP(update_every=1, running_average=1)
    assert feed(newest, right, wrong) == pytest.approx([focal(0.01)] * 2), "an AUC of 0 counts as 0.01"


def test_dtp_keeps_an_auc_where_the_new_one_is_undefined():
    weighting = DTP(update_every=1)
    no_conversion = batch([0.9, 0.8, 0.1], [0.9, 0.1, 0.5], [1, 1, 0], [0, 0, 1])
    no_click = batch([0.9, 0.8, 0.1], [0.9, 0.1, 0.5], [0, 0, 0], [0, 0, 0])
    assert feed(weighting, no_conversion) == [1, 1], "both weights are 1 until both tasks have an AUC"
    assert weighting.aucs[0] == 1
    assert weighting.aucs[1].isnan()
    both = batch([0.9, 0.3, 0.5, 0.2], [0.9, 0.1, 0.5, 0.3], [1, 1, 0, 0], [1, 0, 0, 0])
    assert feed(weighting, both) == pytest.approx([focal(0.875), 0.0]), "0.75 averaged with 1; 1 alone"
    assert feed(weighting, no_click) == pytest.approx([focal(0.875), 0.0])
    diverged = batch([math.nan, 0.3], [0.5, 0.1], [1, 0], [1, 0])
    assert feed(weighting, diverged) == pytest.approx([focal(0.875), 0.0])


def train(weighting: Weighting, batches: range) -> list[list[float]]:
    """Some batches of four an epoch, each drawn by its number; return the factors before each."""
    found = []
    for number in batches:
        rng = np.random.default_rng(number)
        rows = int(rng.integers(3, 9))
        click = rng.random(rows) < 0.6
        predictions, y = batch(rng.random(rows), rng.random(rows), click, rng.random(rows) < 0.4)
        now = losses(*rng.random(2))
        found.append([float(weighting.factors(now).get(task, 1.0)) for task in ("ctr", "cvr")])
        weighting.after_batch(now, predictions, y)
        if number % 4 == 3:
            weighting.on_epoch_end(number // 4)
    return found


def made(kind: type[Weighting]) -> Weighting:
    return kind(update_every=3) if kind is DTP else kind()


every_weighting = pytest.mark.parametrize("kind", [entry.value for entry in registry().entries("weighting")])


@every_weighting
def test_factors_are_pure_and_state_follows_the_model(kind):
    weighting = made(kind)
    train(weighting, range(10))
    before = copy.deepcopy(weighting.state_dict())
    weighting.factors(losses(0.3, 0.1))
    weighting.factors(losses(0.1, 0.3))
    state = weighting.state_dict()
    assert all(torch.equal(value.nan_to_num(), state[name].nan_to_num()) for name, value in before.items())
    assert not list(weighting.parameters())
    weighting.double()
    assert {v.dtype for v in weighting.buffers() if v.is_floating_point()} <= {torch.float64}
    train(weighting, range(10, 14))
    assert {v.dtype for v in weighting.buffers() if v.is_floating_point()} <= {torch.float64}
    weighting.to("meta")
    assert {v.device.type for v in weighting.buffers()} <= {"meta"}


def test_a_state_that_is_not_one_is_refused():
    weighting = DTP(update_every=3)
    train(weighting, range(2))
    state = weighting.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*scores"):
        weighting.load_state_dict({name: value for name, value in state.items() if name != "scores"})
    with pytest.raises(RuntimeError, match="size mismatch for scores"):
        weighting.load_state_dict({**state, "scores": torch.zeros(4, 3)})


class Scripted(Weighting):
    """Gives set factors, and keeps what it was asked with."""

    def __init__(self, **found: float) -> None:
        super().__init__()
        self.found, self.seen = found, []

    def factors(self, losses):
        self.seen.append(losses)
        return self.found


def model_of(objective: Objective, weighting: Weighting, architecture: type[Architecture] = Towers) -> CVRModel:
    return CVRModel(nn.Identity(), architecture(Layout((2,)), objective.heads, backbone=MLP), objective, weighting)


def outputs_of(heads, seed: int = 0, rows: int = 12) -> tuple[Outputs, Labels]:
    draw = torch.Generator().manual_seed(seed)
    logits = {head: torch.randn(rows, generator=draw, dtype=torch.float64).requires_grad_() for head in heads}
    click, action, conversion = (torch.rand(3, rows, generator=draw) < 0.5).double()
    return Outputs(logits, torch.randn(rows, 2, generator=draw), {}), Labels(click, conversion, action)


@pytest.mark.parametrize("method", [entry.value for entry in registry().entries("method")], ids=lambda m: m.name)
def test_each_term_of_each_method_has_the_factor_of_its_task_and_no_gradient_reaches_a_factor(method):
    objective = method.objective(**method.defaults)
    out, y = outputs_of(objective.heads)
    terms = objective.loss(out, y)
    weighting = Scripted(ctr=2.0, cvr=3.0)
    architecture = registry().architecture(method.architecture)
    weighted, found = model_of(objective, weighting, architecture).weigh(terms)
    assert {task: factor.item() for task, factor in found.items()} == {"ctr": 2, "cvr": 3}
    ctr, cvr = (set(terms) & set(names) for names in terms_by_task(objective).values())
    assert ctr == {"ctr"}
    # What trains the CVR prediction, and not a model that it is corrected or weighed by.
    assert cvr
    assert not cvr & {"imputation", "balance"}
    expected = {**dict.fromkeys(terms, 1), **dict.fromkeys(ctr, 2), **dict.fromkeys(cvr, 3)}
    assert set(terms) == set(weighted) == set(expected)
    for name, term in terms.items():
        assert weighted[name].item() == pytest.approx(expected[name] * term.item()), name
        assert weighted[name].requires_grad == term.requires_grad
    (given,) = weighting.seen
    assert given["ctr"].item() == pytest.approx(sum(terms[name].item() for name in ctr))
    assert given["cvr"].item() == pytest.approx(sum(terms[name].item() for name in cvr))
    assert not any(loss.requires_grad for loss in given.values())


def test_a_task_left_out_of_the_factors_counts_one_and_without_a_weighting_all_do():
    out, y = outputs_of(("ctr", "cvr"))
    terms = ESMM().loss(out, y)
    weighted, found = model_of(ESMM(), Scripted(ctr=5.0)).weigh(terms)
    assert list(found) == ["ctr"]
    assert weighted["ctcvr"] is terms["ctcvr"]
    assert weighted["ctr"].item() == pytest.approx(5 * terms["ctr"].item())
    assert model_of(ESMM(), None).weigh(terms) == (terms, {})


class Other(Objective):
    """Its loss terms are not those that its class says."""

    def loss(self, out, y):
        return {"click": out.logits["ctr"].mean(), "cvr": out.logits["cvr"].mean()}


class Both(ESMM):
    ctr_terms = ("ctr", "ctcvr")


class Predicting(ESMM):
    tasks = ("cvr",)


REFUSED = [
    (
        NISE(train_ctr=False),
        Fixed(),
        "^Fixed balances a CTR and a CVR loss, and NISE has no CTR loss with these options",
    ),
    (ESM2(weight_ctr=0), DWA(), "^DWA balances a CTR and a CVR loss, and ESM2 has no CTR loss with these options"),
    (Both(), Fixed(), "^Both names the loss term 'ctcvr' in ctr_terms and in cvr_terms; one term has one factor"),
    (Predicting(), DTP(), "^DTP reads predictions of 'ctr', and Predicting predicts cvr with these options"),
]


@pytest.mark.parametrize(("objective", "weighting", "message"), REFUSED)
def test_an_objective_whose_losses_cannot_be_balanced_is_refused_with_the_reason(objective, weighting, message):
    with pytest.raises(ValueError, match=message):
        model_of(objective, weighting)


def test_a_weighting_that_reads_no_predictions_takes_an_objective_that_does_not_give_them():
    assert isinstance(model_of(Predicting(), DWA()).weighting, DWA)


def test_terms_and_factors_that_do_not_fit_are_refused_when_they_come():
    out, y = outputs_of(("ctr", "cvr"))
    with pytest.raises(
        ValueError, match=r"^Other gave the loss terms \['click', 'cvr'\], none of its ctr_terms \['ctr'\]"
    ):
        model_of(Other(), Fixed()).weigh(Other().loss(out, y))
    with pytest.raises(ValueError, match=r"^Scripted gave a factor for \['ctcvr'\]; it may give \['ctr', 'cvr'\]"):
        model_of(ESMM(), Scripted(ctcvr=1.0)).weigh(ESMM().loss(out, y))


class Recording(Weighting):
    def factors(self, losses):
        return {}

    def after_batch(self, losses, predictions, y):
        assert not torch.is_grad_enabled()
        self.losses, self.predictions, self.y = losses, predictions, y


def test_after_a_batch_a_weighting_gets_the_losses_before_its_factors_and_the_predictions():
    objective, weighting = NISE(), Recording()
    out, y = outputs_of(objective.heads)
    terms = objective.loss(out, y)
    model_of(objective, weighting).after_batch(out, y, {}, terms)
    assert weighting.losses["cvr"].item() == pytest.approx((terms["cvr"] + terms["unclicked"]).item())
    assert set(weighting.predictions) == {"cvr", "ctr", "ctcvr"}
    torch.testing.assert_close(weighting.predictions["cvr"], out.logits["cvr"].detach().sigmoid())
    assert not any(p.requires_grad for p in [*weighting.predictions.values(), *weighting.losses.values()])
    assert weighting.y is y


class Learned(Fixed):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def factors(self, losses):
        return {"cvr": self.scale}


def test_the_parameters_of_a_weighting_are_trained_with_what_is_shared():
    from cvr_plugins.contracts import Phase

    model = model_of(ESMM(), Learned())
    scale = model.weighting.scale
    for phase, expected in [(Phase("all"), True), (Phase("cvr", trains=("cvr",)), True)]:
        assert any(p is scale for p in model.parameters_for(phase)) == expected
    assert not any(p is scale for p in model.parameters_for(Phase("cvr", trains=("cvr",), shared=False)))
    out, y = outputs_of(("ctr", "cvr"))
    terms = ESMM().loss(out, y)
    sum(model.weigh(terms)[0].values()).backward()
    assert scale.grad.item() == pytest.approx(terms["ctcvr"].item())
