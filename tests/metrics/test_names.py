"""Names of metrics and keys: found, parsed strictly, refused with the nearest name, and which way is better."""

from __future__ import annotations

from typing import Any

import pytest

from cvr_plugins import metrics as m

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("name", ["f1@10%", "precision@0.5%", "recall@100%", "f1@0.001%", "f1@99.9%"])
def test_top_metrics_are_found_by_name(name: str) -> None:
    metric = m.find_metric(name)
    assert (metric.name, metric.best, metric.needs_groups) == (name, "max", False)
    assert name.partition("@")[2] in metric.summary


PERCENTAGES = "% 10 1%% nan% __import__('os')% \u0661% 0% 0.0% -1% +1% 101% 100.1% 1e1% 010% 10.0% 0.50% .5% 5.% 1_0%"


@pytest.mark.parametrize("text", ["", "1%\n", " 1%", f"{'1' * 40}%", *PERCENTAGES.split()])
def test_percentages_are_plain_numbers_with_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="must end in a percentage above 0 and at most 100 in plain form"):
        m.find_metric(f"f1@{text}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acu", r"Unknown metric 'acu'\. Did you mean auc"),
        ("AUC", "Unknown metric 'AUC'"),
        ("f1_at_10%", "Unknown metric 'f1_at_10%'"),
        ("presicion@10%", r"Did you mean precision@P%"),
        ("", "Unknown metric ''"),
        (None, "Unknown metric None"),
        (["auc"], r"Unknown metric \['auc'\]"),
    ],
)
def test_unknown_metrics_are_refused_with_the_nearest_name(name: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        m.find_metric(name)
    assert "gauc_impression" in str(refused.value), "the known names are listed"


def test_keys_are_parsed() -> None:
    assert m.parse_key("cvr/click/auc") == ("cvr", "click", "auc")
    assert m.parse_key("ctcvr/entire/f1@0.5%").metric == "f1@0.5%"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("auc", "must have the form task/space/metric, such as 'cvr/click/auc'"),
        ("cvr/auc", "must have the form"),
        ("cvr/click/auc/1", "must have the form"),
        ("cvrr/click/auc", r"Unknown task 'cvrr'\. Did you mean cvr"),
        ("cvr/clicks/auc", r"'clicks'\. Did you mean click\?.*: click, entire, oracle"),
        ("ctr/click/auc", r"Unknown space of task 'ctr' 'click'\. Known: entire\."),
        ("cvr/click/auc ", r"Unknown metric 'auc '\. Did you mean auc"),
    ],
)
def test_bad_keys_are_refused(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.parse_key(key)


def test_direction() -> None:
    best = {name: metric.best for name, metric in m.METRICS.items()}
    assert {name for name, best in best.items() if best == "min"} == {"log_loss", "ece", "ece_quantile"}
    for name in ("auc", "cvr/click/auc", "cvr/entire/f1@1%", "gauc"):
        assert m.direction(name) == "max"
    for name in ("log_loss", "ctr/entire/log_loss", "ece"):
        assert m.direction(name) == "min"
    for name in ("calibration", "cvr/click/calibration"):
        with pytest.raises(ValueError, match=f"'{name}' is best at 1, neither.*such as log_loss"):
            m.direction(name)
    for name, message in (("cvr/clicked/auc", "Unknown space .*'clicked'"), ("loss", "Unknown metric 'loss'")):
        with pytest.raises(ValueError, match=message):
            m.direction(name)
