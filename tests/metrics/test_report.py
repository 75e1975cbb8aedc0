"""Reports: which rows and labels each task and space uses, keys, names, directions, JSON and errors."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cvr_plugins import metrics as m

pytestmark = pytest.mark.filterwarnings("error")

#                    four clicks, two conversions among them; row 5 converts without a click, which must not count
CLICK = np.array([1, 1, 1, 1, 0, 0, 0, 0])
CONVERSION = np.array([1, 0, 1, 0, 0, 1, 0, 0])
ACTION = np.array([1, 1, 0, 0, 0, 1, 0, 0])
COUNTERFACTUAL = np.array([1, 0, 1, 0, 1, 1, 0, 0])
USER = np.array([1, 1, 2, 2, 1, 1, 2, 2])
CVR = np.array([0.9, 0.2, 0.3, 0.4, 0.8, 0.1, 0.6, 0.5], np.float32)
CTR = np.array([0.5, 0.9, 0.4, 0.6, 0.1, 0.5, 0.3, 0.2], np.float32)


def scored(**changes: Any) -> m.Scored:
    columns = {
        "predictions": {"cvr": CVR, "ctr": CTR, "ctcvr": CTR * CVR, "ctavr": CTR * 0.5},
        "click": CLICK,
        "conversion": CONVERSION,
        "action": ACTION,
        "counterfactual": COUNTERFACTUAL,
        "groups": USER,
    }
    return m.Scored(**(columns | changes))


def test_each_space_uses_its_rows_and_its_label() -> None:
    report = m.evaluate(scored(), ["auc"])
    t, clicked = CLICK * CONVERSION, CLICK == 1
    expected = {
        "ctr/entire/auc": roc_auc_score(CLICK, CTR),
        "cvr/click/auc": roc_auc_score(CONVERSION[clicked], CVR[clicked]),
        "cvr/entire/auc": roc_auc_score(t, CVR),
        "cvr/oracle/auc": roc_auc_score(COUNTERFACTUAL, CVR),
        "ctcvr/entire/auc": roc_auc_score(t, CTR * CVR),
        "ctavr/entire/auc": roc_auc_score(CLICK * ACTION, CTR * 0.5),
    }
    assert list(report.values) == list(expected)
    assert report.values == pytest.approx(expected, rel=1e-14)
    assert len(set(expected.values())) >= 5, "the spaces must be distinguishable in this example"
    support = m.evaluate(scored(), ["gauc"]).support["cvr/click"]
    assert support == m.Support(4, 2, pytest.approx(0.45), 0.5, groups=2, groups_counted=2)


def test_a_report_has_the_values_of_the_functions() -> None:
    generator = np.random.default_rng(0)
    click = (generator.random(3000) < 0.3).astype(int)
    conversion = (generator.random(3000) < 0.2).astype(int)
    cvr, user = generator.beta(1, 4, 3000).round(2), generator.integers(0, 100, 3000)
    names = (*m.METRICS, "precision@5%", "recall@0.5%", "f1@100%")
    report = m.evaluate(m.Scored({"cvr": cvr}, click, conversion, groups=user), names)
    for space, rows, label in (("click", click == 1, conversion), ("entire", click >= 0, click * conversion)):
        y, p, g = label[rows], cvr[rows], user[rows]
        expected = {
            "auc": m.auc(y, p),
            "ks": m.ks(y, p),
            "gauc": m.gauc(y, p, g),
            "gauc_impression": m.gauc(y, p, g, weighting="impression"),
            "log_loss": m.log_loss(y, p),
            "calibration": m.calibration(y, p),
            "ece": m.expected_calibration_error(y, p),
            "ece_quantile": m.expected_calibration_error(y, p, strategy="quantile"),
            "precision@5%": m.precision_at_top(y, p, 5),
            "recall@0.5%": m.recall_at_top(y, p, 0.5),
            "f1@100%": m.f1_at_top(y, p, 100),
        }
        assert {name: report.get(f"cvr/{space}/{name}") for name in names} == expected
        assert None not in expected.values()


def test_what_is_absent_is_left_out_and_order_is_that_of_tasks_then_metrics_as_asked() -> None:
    report = m.evaluate(scored(action=None, counterfactual=None), "auc")
    assert set(report.support) == {"ctr/entire", "cvr/click", "cvr/entire", "ctcvr/entire"}
    report = m.evaluate(scored(predictions={"ctcvr": CTR * CVR, "ctr": CTR}), ["ks", "auc", "ks"])
    assert list(report.values) == ["ctr/entire/ks", "ctr/entire/auc", "ctcvr/entire/ks", "ctcvr/entire/auc"]


def test_a_key_asks_for_its_own_task_and_space_alone() -> None:
    report = m.evaluate(scored(), ["cvr/oracle/gauc", "cvr/click/auc", "cvr/click/ks"])
    assert list(report) == ["cvr/click/auc", "cvr/click/ks", "cvr/oracle/gauc"]
    assert list(report.support) == ["cvr/click", "cvr/oracle"]
    everything = m.evaluate(scored(), ["auc", "gauc"])
    assert report["cvr/oracle/gauc"] == everything["cvr/oracle/gauc"]
    with pytest.raises(ValueError, match="Unknown space of task 'cvr' 'clicked'"):
        m.evaluate(scored(), ["cvr/clicked/auc"])


def test_gauc_without_groups_is_undefined() -> None:
    report = m.evaluate(scored(groups=None), ("gauc", "gauc_impression", "auc"))
    values = [report.get(f"cvr/click/{name}") for name in ("gauc", "gauc_impression", "auc")]
    assert values == [None, None, 0.75]
    assert report.support["cvr/click"].groups is None


def test_nothing_clicked_is_undefined_and_not_a_number() -> None:
    report = m.evaluate(scored(click=np.zeros(8)))
    click_space = {key: value for key, value in report.values.items() if key.startswith("cvr/click/")}
    assert len(click_space) == len(m.DEFAULT_METRICS)
    assert set(click_space.values()) == {None}
    assert report.support["cvr/click"] == m.Support(0, 0, None, None, groups=0, groups_counted=0)
    assert report.get("ctr/entire/auc") is None
    assert report.get("cvr/oracle/auc") is not None


def test_a_report_is_plain_json() -> None:
    report = m.evaluate(scored(click=np.zeros(8)))
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["values"] == report.values
    assert written["support"]["ctr/entire"] == {
        "rows": 8,
        "positives": 0,
        "mean_predicted": pytest.approx(float(CTR.mean())),
        "mean_observed": 0.0,
        "groups": 2,
        "groups_counted": 0,
    }
    assert {type(value) for value in m.evaluate(scored()).to_dict()["values"].values()} == {float}
    assert pickle.loads(pickle.dumps(report)) == copy.deepcopy(report) == report


def test_a_missing_key_says_why() -> None:
    report = m.evaluate(scored(action=None), ["auc"])
    for key, message in (
        ("cvr/click/auk", r"'cvr/click/auk'\. Did you mean cvr/click/auc"),
        ("cvr/click/ks", r"'cvr/click/ks'.*not asked.*It holds ctr/entire/auc, c"),
        ("ctavr/entire/auc", "'ctavr/entire/auc'"),
    ):
        with pytest.raises(ValueError, match=f"The report holds no {message}"):
            report.get(key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": {}}, "predictions must hold at least one task of ctr, cvr, ctcvr, ctavr"),
        ({"predictions": {"ctvcr": CVR}}, r"Unknown task 'ctvcr'\. Did you mean ctcvr.*: ctr, cvr, ctcvr, ctavr\."),
        ({"predictions": {"cvr": CVR[:7]}}, r"click has 8 rows but predictions\['cvr'\] has 7"),
        ({"predictions": {"cvr": CVR * 2}}, r"predictions\['cvr'\] must lie in \[0, 1\]; row 0"),
        ({"click": CLICK * 2}, "click must hold only 0 and 1; row 0 holds 2"),
        ({"conversion": CONVERSION - 1}, "conversion .*row 1 holds -1"),
        ({"action": ACTION[1:]}, "click has 8 rows but action has 7"),
        ({"counterfactual": COUNTERFACTUAL + 0.5}, "counterfactual .*row 0 holds 1.5"),
        ({"groups": [None] * 8}, "groups must name a group for every row; row 0 is missing"),
    ],
)
def test_bad_columns_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.evaluate(scored(**changes))


labels = st.lists(st.tuples(*[st.integers(0, 1)] * 4, st.integers(0, 2)), max_size=12)


@given(labels, st.sampled_from(["ctr", "cvr", "ctcvr", "ctavr"]), st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_is_defined_foretells_whatever_the_predictions(
    rows: list[tuple[int, ...]], task: str, seed: int, optional: bool, grouped: bool
) -> None:
    click, conversion, action, counterfactual, user = np.array(rows, int).reshape(-1, 5).T
    columns: dict[str, Any] = {"click": click, "conversion": conversion}
    if optional:
        columns |= {"action": action, "counterfactual": counterfactual}
    if grouped:
        columns["groups"] = user
    predictions = {task: np.random.default_rng(seed).random(len(rows)).round(1)}
    names = [name.replace("P%", "20%") for name in m.METRIC_NAMES]
    report = m.evaluate(m.Scored(predictions, **columns), names)
    for target in m.TARGETS:
        for name in names if target.task == task else ():
            key = f"{target.name}/{name}"
            assert m.is_defined(key, **columns) == (report.values.get(key) is not None), key


def test_is_defined_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="Unknown metric 'auk'"):
        m.is_defined("cvr/click/auk", click=CLICK, conversion=CONVERSION)
    with pytest.raises(ValueError, match="click has 8 rows but conversion has 7"):
        m.is_defined("cvr/click/auc", click=CLICK, conversion=CONVERSION[1:])
