"""Metrics under the keys of a report, computed from what the model predicts by cvr_plugins.metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.evaluator import register

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import DEFAULT_METRICS, METRICS, TARGETS, Scored, direction, evaluate
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context.metrics import METRIC_CLASSES, metric_class

ALL = [f"{t.name}/{m}" for t in TARGETS for m in dict.fromkeys([*METRICS, *DEFAULT_METRICS])]


def exported(run, loader):
    """What the model predicts, read row by row, without the trainer."""
    columns = {}
    run.model.eval()
    for interaction, *_ in loader:
        with torch.no_grad():
            found = {f"p/{task}": values for task, values in run.model.predictions(interaction).items()}
        found |= {name: interaction[name] for name in ("click", "conversion", "cart", "wish", "truth", "user_id")}
        for name, values in found.items():
            columns.setdefault(name, []).extend(values.tolist())
    array = {name: np.array(values) for name, values in columns.items()}
    return Scored(
        predictions={name[2:]: values.astype(np.float32) for name, values in array.items() if name.startswith("p/")},
        click=array["click"],
        conversion=array["conversion"],
        action=np.maximum(array["cart"], array["wish"]),
        counterfactual=array["truth"],
        groups=array["user_id"],
    )


def test_every_metric_equals_that_of_the_exported_predictions(prepare):
    numbered = ["cvr/click/f1@7.5%", "ctcvr/entire/recall@20%"]
    run = prepare(models.ESM2, metrics=[*ALL, *numbered], metric_decimal_place=12, eval_batch_size=37, epochs=1)
    run.trainer.fit(run.train, run.valid)
    found = run.trainer.evaluate(run.test)
    names = dict.fromkeys([*METRICS, *DEFAULT_METRICS, "f1@7.5%", "recall@20%"])
    expected = evaluate(exported(run, run.test), names).values
    assert list(found) == [*ALL, *numbered]
    for key in found:
        assert found[key] == pytest.approx(expected[key], abs=1e-9), key
    scored = run.trainer.scored(run.test)
    for task, values in exported(run, run.test).predictions.items():
        np.testing.assert_array_equal(scored.predictions[task], values)


def test_a_bare_name_of_ours_stands_for_every_task_and_space(prepare):
    run = prepare(models.ESMM, metrics=["log_loss", "f1@5%", "AUC"], valid_metric="AUC")
    found = run.trainer.evaluate(run.test, load_best_model=False)
    spaces = ["ctr/entire", "cvr/click", "cvr/entire", "cvr/oracle", "ctcvr/entire"]
    assert list(found) == [*(f"{s}/log_loss" for s in spaces), *(f"{s}/f1@5%" for s in spaces), "auc"]
    keys = {"COUNTERFACTUAL_FIELD": None, "drop_columns": ["truth"]}
    alone = prepare(models.IdeFN, train_ctr=False, metrics="ks", valid_metric="cvr/click/ks", **keys)
    assert alone.config["metrics"] == ["cvr/click/ks", "cvr/entire/ks"]


@pytest.mark.parametrize(("score", "key"), [("ctcvr", "ctcvr/entire"), ("ctr", "ctr/entire")])
def test_recboles_own_metrics_take_the_score_against_its_label(score, key, prepare):
    run = prepare(models.ESMM, metrics=["AUC", "LogLoss", f"{key}/auc"], valid_metric="AUC", score=score)
    run.trainer.fit(run.train, run.valid)
    found = run.trainer.evaluate(run.test)
    assert found["auc"] == pytest.approx(found[f"{key}/auc"], abs=1e-4)
    report = evaluate(run.trainer.scored(run.test), ["log_loss"]).values
    assert found["logloss"] == pytest.approx(report[f"{key}/log_loss"], abs=1e-3)


def test_an_undefined_metric_is_none_and_no_crash(prepare, shop):
    log = shop()
    log.columns["inter"]["conversion:float"] = np.zeros(len(log.click), int)
    metrics = ["cvr/click/auc", "cvr/oracle/auc", "ctavr/entire/auc"]
    keys = {"COUNTERFACTUAL_FIELD": None, "drop_columns": ["truth"]}
    run = prepare(models.ESMM, log=log, metrics=metrics, valid_metric="ctr/entire/auc", epochs=1, **keys)
    _, best = run.trainer.fit(run.train, run.valid)
    assert best.pop("ctr/entire/auc") is not None, "it is watched, though metrics does not name it"
    assert best == dict.fromkeys(metrics), "no positives, no truth, and ESMM does not predict the action"
    assert run.trainer.evaluate(run.test)["cvr/oracle/auc"] is None


def test_values_are_rounded_to_recboles_decimal_place(prepare):
    run = prepare(models.ESMM, metric_decimal_place=2)
    value = run.trainer.evaluate(run.test, load_best_model=False)["cvr/click/auc"]
    assert value == round(value, 2)


def test_each_class_knows_its_key_and_its_direction_and_recboles_tables_do(configure):
    assert [each.key for each in METRIC_CLASSES] == ALL
    for each in METRIC_CLASSES:
        assert each.__name__ == each.key.lower()
        metric = each.key.rsplit("/", 1)[1]
        if metric != "calibration":
            assert each.smaller is (direction(metric) == "min"), each.key
    assert metric_class("cvr/click/auc") in METRIC_CLASSES
    configure(models.ESMM)
    assert register.metrics_dict["cvr/click/auc"] is metric_class("cvr/click/auc")
    assert "ctcvr/entire/log_loss" in register.smaller_metrics
    assert "cvr/click/auc" not in register.smaller_metrics


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match=r"Unknown task 'cvrr'. Did you mean cvr"):
        metric_class("cvrr/click/auc")


def test_another_trainers_evaluation_says_who_can(prepare):
    from recbole.trainer import Trainer

    run = prepare(models.ESMM)
    with pytest.raises(ConfigError, match=r"ctr/entire/auc is computed from .*MethodTrainer collects"):
        Trainer(run.config, run.model).evaluate(run.test, load_best_model=False)


def test_a_plugins_metric_is_reported(plugin, prepare):
    plugin(
        "acme",
        "from cvr_plugins import hookimpl\n"
        "from cvr_plugins.metrics import Metric\n"
        "@hookimpl\n"
        "def cvr_register_metrics():\n"
        "    brier = lambda s: float(((s.probabilities - s.labels) ** 2).mean())\n"
        "    return {'Brier': Metric('Brier', 'min', brier, 'mean squared error')}\n",
    )
    run = prepare(models.ESMM, metrics=["cvr/click/Brier"], valid_metric="cvr/click/Brier", epochs=2)
    score, best = run.trainer.fit(run.train, run.valid)
    assert score == best["cvr/click/brier"]
    assert not run.trainer.valid_metric_bigger
    scored = run.trainer.scored(run.valid)
    assert 0 < score < 1
    assert scored.click.sum() > 0
