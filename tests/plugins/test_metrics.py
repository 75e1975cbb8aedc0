"""Metrics of plugins: by name beside ours, in evaluations, as a watched key, and when they fail."""

import numpy as np
import pytest

from cvr_plugins import metrics, plugins

BRIER = """
from cvr_plugins import hookimpl

def brier(sample):
    if not len(sample.labels):
        return None
    return float(((sample.probabilities - sample.labels) ** 2).mean())

@hookimpl
def cvr_register_metrics():
    from cvr_plugins.metrics import Metric
    return {"brier": Metric("brier", "min", brier, "mean squared error")}
"""

GARBAGE = """
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_metrics():
    from cvr_plugins.metrics import Metric
    return {{"odd": Metric("odd", "max", lambda sample: {value}, "")}}
"""


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    click = rng.integers(0, 2, 40)
    return metrics.Scored({"cvr": rng.random(40), "ctr": rng.random(40)}, click, click * rng.integers(0, 2, 40))


def test_ours_come_through_the_same_hook(distributions):
    registry = distributions.load()
    entries = {entry.name: entry for entry in registry.entries("metric")}
    assert {name: entry.value for name, entry in entries.items()} == dict(metrics.METRICS)
    assert {entry.plugin for entry in entries.values()} == {"builtin"}
    assert registry.metric("auc") is metrics.METRICS["auc"]
    assert [registry.metric(name).name for name in ("f1@10%", "builtin:auc")] == ["f1@10%", "builtin:auc"]


def test_a_metric_of_a_plugin_is_evaluated_and_watched_by_its_name(distributions, scored):
    distributions.add("acme", BRIER)
    find = distributions.load().metric
    report = metrics.evaluate(scored, ["auc", "brier"], find=find)
    clicked = scored.click
    expected = np.mean((scored.predictions["cvr"][clicked] - scored.conversion[clicked]) ** 2)
    assert report.get("cvr/click/brier") == pytest.approx(expected, abs=1e-12)
    assert list(report.values)[:2] == ["ctr/entire/auc", "ctr/entire/brier"]
    assert metrics.parse_key("cvr/click/brier", find=find) == ("cvr", "click", "brier")
    assert metrics.direction("cvr/click/brier", find=find) == "min"
    assert metrics.is_defined("cvr/click/brier", click=[1, 0], conversion=[1, 0], find=find)
    assert not metrics.is_defined("cvr/click/brier", click=[0, 0], conversion=[0, 0], find=find)
    with pytest.raises(ValueError, match=r"The report holds no 'ctcvr/entire/brier'.*It holds ctr/entire/auc"):
        report.get("ctcvr/entire/brier")


def test_a_metric_may_be_handed_over_itself(distributions, scored):
    distributions.add("acme", BRIER)
    metric = distributions.load().metric("brier")
    assert metrics.evaluate(scored, [metric, "auc"]).values.keys() >= {"cvr/click/brier", "cvr/click/auc"}
    assert metrics.evaluate(scored, metric).values.keys() == {"ctr/entire/brier", "cvr/click/brier", "cvr/entire/brier"}


def test_a_contested_metric_stands_in_the_report_as_it_was_asked_for(distributions, scored):
    distributions.add("acme", BRIER)
    distributions.add("beta", BRIER)
    registry = distributions.load()
    with pytest.raises(plugins.AmbiguousName, match="ask for acme:brier or beta:brier"):
        registry.metric("brier")
    report = metrics.evaluate(scored, ["beta:brier"], find=registry.metric)
    assert report.get("cvr/click/beta:brier") is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brie", r"Unknown metric 'brie'\. Did you mean brier"),
        ("BRIER", r"Unknown metric 'BRIER'\. Did you mean brier\? In the names of metrics case counts\."),
        ("acme:Brier", r"Did you mean brier"),
        ("f1@1000%", "Unknown metric"),
        (None, "The name of a metric is text; got None"),
    ],
)
def test_unknown_metrics_are_answered_with_the_nearest(distributions, name, message):
    distributions.add("acme", BRIER)
    with pytest.raises(plugins.RegistryError, match=message):
        distributions.load().metric(name)


def test_without_plugins_the_answer_lists_ours_and_the_families(distributions):
    with pytest.raises(plugins.UnknownName, match=r"Did you mean auc.*f1@P%"):
        distributions.load().metric("acu")


def test_a_lost_metric_is_put_down_to_its_plugin(distributions):
    distributions.add("acme", BRIER.replace('"min"', '"smallest"'))
    with pytest.raises(plugins.UnknownName, match="plugin 'acme', which failed: ValueError: Metric brier"):
        distributions.load().metric("brier")


@pytest.mark.parametrize("value", ["float('nan')", "'high'", "True", "sample.probabilities"])
def test_what_is_no_number_is_refused_with_the_metric_s_name(distributions, scored, value):
    distributions.add("acme", GARBAGE.format(value=value))
    with pytest.raises(ValueError, match=r"Metric 'odd' gave .* for ctr/entire; it must give a finite number, or None"):
        metrics.evaluate(scored, ["odd"], find=distributions.load().metric)


def test_a_metric_that_raises_is_named_with_its_plugin(distributions, scored):
    distributions.add("acme", GARBAGE.format(value="1 / 0"))
    with pytest.raises(
        ValueError, match=r"Metric 'odd' \(plugin acme\): its computation raised ZeroDivisionError: division by zero\."
    ):
        metrics.evaluate(scored, ["odd"], find=distributions.load().metric)
