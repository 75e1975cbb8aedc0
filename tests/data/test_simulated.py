"""The simulated funnel: its rates, what its options change, and that its truth is one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.special import expit, logit

from cvr_plugins.config import ConfigError, resolve
from cvr_plugins.data import DataError, simulated_funnel
from cvr_plugins.logs import load_log

SMALL = {"rows": 40_000, "users": 900, "items": 300}


def test_a_quarter_of_a_million_rows_of_the_rates_asked_for_are_made_in_seconds():
    start = time.process_time()
    log = simulated_funnel()
    assert time.process_time() - start < 10
    summary, frame = log.summary(), log.frame
    assert summary["rows"] == 250_000
    # Four standard errors.
    assert abs(summary["click_rate"] - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 250_000)
    assert abs(summary["click_conversion_rate"] - 0.03) < 4 * np.sqrt(0.03 * 0.97 / 12_500)
    assert frame["timestamp"].is_monotonic_increasing
    assert [feature.name for feature in log.schema.features] == [
        *("user_id", "item_id", "segment", "category", "position", "x1", "x2")
    ]


def test_selection_is_the_log_odds_by_which_a_conversion_raises_a_click():
    for selection in (0.0, 1.5):
        frame = simulated_funnel(**SMALL, click_rate=0.2, conversion_rate=0.3, selection=selection).frame
        would = frame["counterfactual_conversion"].to_numpy() == 1
        click, propensity = frame["click"].to_numpy(), frame["propensity"].to_numpy()
        assert click.mean() == pytest.approx(0.2, abs=0.01)
        assert click[would].mean() == pytest.approx(propensity[would].mean(), abs=0.01)
        # The rest of the propensity's log-odds is the same for both.
        rest = logit(propensity) - selection * would
        assert frame["conversion"].sum() / click.sum() == pytest.approx(0.3, abs=0.02)
        assert expit(rest).mean() < 0.2 or not selection
        weighted = (frame["conversion"] / propensity).to_numpy()
        assert abs(weighted.mean() - would.mean()) < 4 * weighted.std() / np.sqrt(len(frame))


def test_columns_and_delays_are_as_asked():
    log = simulated_funnel(**SMALL, action=False, dense=0, click_rate=0.3, conversion_rate=0.3, delay=5.0)
    assert log.schema.action is None
    assert not [name for name in log.frame if name.startswith("x")]
    frame = log.frame[log.frame["click"] == 1]
    seen = frame["conversion"].to_numpy()[frame["counterfactual_conversion"] == 1]
    # Late clicks have had less time: of the first tenth nearly all conversions came, of the last few.
    tenth = len(seen) // 10
    assert seen[:tenth].mean() > 0.85
    assert seen[-tenth:].mean() < 0.25
    assert simulated_funnel(**SMALL, dense=8).frame.filter(regex="^x").shape[1] == 8


def test_the_seed_decides():
    first, again, other = (simulated_funnel(**SMALL, seed=seed).frame for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be"),
        ({"click_rate": 1.0}, "click_rate must be"),
        ({"dense": 9}, "dense must be"),
        ({"conversion_rate": "x"}, "conversion_rate must be"),
    ],
)
def test_other_values_are_refused_by_name(options, message):
    with pytest.raises(DataError, match=f"simulated-funnel: {message}"):
        load_log(resolve({"model": "ESMM", "dataset": "simulated-funnel", "dataset_params": options}))


def test_it_is_made_and_not_read():
    with pytest.raises(ConfigError, match="simulated-funnel is made here; leave data_path out"):
        load_log(resolve({"model": "ESMM", "dataset": "simulated-funnel", "data_path": "."}))
