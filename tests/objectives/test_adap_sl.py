"""Adap-SL: when it prunes and how much, and that a resumed run goes on as an uninterrupted one."""

from __future__ import annotations

import pytest
import torch

from cvr_plugins.objectives import AdapSL
from cvr_plugins.plugins import registry
from cvr_plugins.testing._case import Case, training_batch
from cvr_plugins.testing._training import Trainer

MODELS = ("prediction", "imputation")
KINDS = ("embeddings", "linear")


def test_each_model_has_a_phase_over_its_own_and_the_shared_weights():
    imputation, prediction = AdapSL().phases
    assert (imputation.terms, imputation.trains, imputation.shared) == (("imputation",), ("imputation",), True)
    assert (prediction.terms, prediction.trains, prediction.shared) == (("ctr", "cvr"), ("ctr", "cvr"), True)
    known = AdapSL(propensity="uniform", train_ctr=False).phases
    assert [(phase.terms, phase.trains) for phase in known] == [(("imputation",),) * 2, (("cvr",),) * 2]


def model(**options):
    return Case(registry().method("AdapSL"), options).model(seed=3)


def masks(made, name, kinds=KINDS):
    return [each.mask.clone() for each in made.architecture.coordinates(name, kinds)]


def end_epochs(made, epochs):
    """End epochs without training; return model -> the share in use after each."""
    shares = {name: [] for name in MODELS}
    for epoch in range(epochs):
        assert made.objective.on_epoch_end(epoch) is False
        for name in MODELS:
            shares[name].append(made.architecture.active(name, made.objective.prune)["total"])
    return shares


def test_pruning_begins_after_the_warm_up_and_leaves_a_geometric_share_of_each_tensor():
    made = model(warm_up=2, prune_rate=0.15, target_sparsity=1.0, prune=list(KINDS))
    for epoch in range(9):
        made.objective.on_epoch_end(epoch)
        t = max(0, epoch - 1)
        for name in MODELS:
            for mask in masks(made, name):
                assert int(mask.sum()) == round(0.85**t * mask.numel())


def test_pruning_stops_once_the_share_of_zeros_has_reached_the_target():
    shares = end_epochs(model(warm_up=0, prune_rate=0.2, target_sparsity=0.5), 8)
    for found in shares.values():
        # 0.8, 0.64, 0.512: 48.8 % zeros are still too few; 0.4096: enough.
        assert found == pytest.approx([0.8, 0.64, 0.512, *[0.4096] * 5], abs=0.01)


@pytest.mark.parametrize(
    ("options", "stage"),
    [({"warm_up": 2}, 3), ({"warm_up": {"prediction": 3, "imputation": 1}}, 2), ({"prune_rate": 0.0}, 0)],
)
def test_a_model_is_one_to_keep_once_it_was_pruned_and_trained_on(options, stage):
    objective = model(**options).objective
    assert objective.first_stage == stage
    ready = []
    for epoch in range(5):
        # Asked before the epoch's end.
        ready.append(objective.ready)
        objective.on_epoch_end(epoch)
    assert ready == [epoch >= stage for epoch in range(5)]


def test_the_two_models_have_values_of_their_own():
    made = model(
        prune_rate={"prediction": 0.1, "imputation": 0.5},
        warm_up={"prediction": 3, "imputation": 0},
        target_sparsity={"prediction": 1.0, "imputation": 0.6},
    )
    shares = end_epochs(made, 5)
    assert shares["prediction"] == pytest.approx([1, 1, 1, 0.9, 0.81], abs=0.01)
    assert shares["imputation"] == pytest.approx([0.5, *[0.25] * 4], abs=0.01)
    assert made.objective.prunings.tolist() == [2, 2]


@pytest.mark.parametrize(("options", "untouched"), [({"prune_rate": 0}, KINDS), ({"prune": "embeddings"}, ("linear",))])
def test_what_is_not_to_be_pruned_is_not(options, untouched):
    made = model(warm_up=0, **options)
    end_epochs(made, 3)
    assert all(mask.all() for name in MODELS for mask in masks(made, name, untouched))


def test_scopes_differ_per_tensor_and_agree_in_all():
    found = {}
    for scope in ("per_tensor", "global"):
        made = model(warm_up=0, prune_rate=0.3, scope=scope, target_sparsity=1.0, prune=list(KINDS))
        coordinates = made.architecture.coordinates("prediction", KINDS)
        values = torch.cat([each.values.detach().abs().flatten() for each in coordinates])
        end_epochs(made, 3)
        found[scope] = [mask.float().mean().item() for mask in masks(made, "prediction")]
        used = torch.cat([mask.flatten() for mask in masks(made, "prediction")])
        assert int(used.sum()) == pytest.approx(0.7**3 * used.numel(), abs=len(found[scope]))
        assert (values[used].min() >= values[~used].max()) == (scope == "global")
    assert found["per_tensor"] == pytest.approx([0.343] * len(found["per_tensor"]), abs=0.01)
    assert max(found["global"]) - min(found["global"]) > 0.2


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_gradients_count_as_much_as_asked(share):
    made = model(warm_up=0, prune_rate=0.2, gradient_share=share, prune=list(KINDS))
    trainer = Trainer(made)
    for number in range(3):
        trainer.step(training_batch(number))
    values = [each.values.detach().abs() for each in made.architecture.coordinates("prediction", KINDS)]
    trainer.end_epoch(0)
    used = masks(made, "prediction")
    by_weight = [v[mask].min() >= v[~mask].max() for v, mask in zip(values, used, strict=True)]
    assert all(by_weight) == (share == 0)


def test_the_shares_in_use_are_reported():
    made = model(warm_up=0, prune_rate=0.5)
    made.objective.on_epoch_end(0)
    parts = [f"active/{name}/{part}" for name in MODELS for part in ("total", "shared", "private")]
    assert made.objective.diagnostics() == dict.fromkeys(["active", *parts], pytest.approx(0.5, abs=0.01))


def test_an_architecture_without_masks_is_refused():
    case = Case(registry().method("AdapSL"), {"architecture": "towers"})
    with pytest.raises(ValueError, match=r"AdapSL prunes masks, which Towers does not have; choose .* 'masked'"):
        case.model()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_rate": {"prediction": 0.1}}, "^prune_rate must be one value, or a mapping with the keys prediction"),
        ({"prune_rate": {"prediction": 0.1, "imputation": -1}}, r"^prune_rate\['imputation'\] must be"),
        ({"warm_up": {"prediction": 1, "imputation": True}}, r"^warm_up\['imputation'\] must be a whole number"),
        ({"prune": []}, "^prune must be a list of embeddings, linear"),
        ({"prune": ["linear", "linear"]}, "^prune must be a list of"),
        ({"prune": ["layers"]}, "^prune must be one of 'embeddings', 'linear'; got 'layers'"),
    ],
)
def test_values_that_make_no_sense_are_refused(options, message):
    assert AdapSL(prune="linear").prune == ("linear",)
    with pytest.raises(ValueError, match=message):
        AdapSL(**options)
