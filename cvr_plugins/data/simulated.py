"""`simulated-funnel`: a log made on the spot from a seed, of any size and any rates, whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import root
from scipy.special import expit, logit

from cvr_plugins.data.errors import DataError
from cvr_plugins.data.log import FunnelLog
from cvr_plugins.data.schema import Feature, Schema
from cvr_plugins.options import check_count, check_flag, check_number

NAME = "simulated-funnel"
_TASTES, _DENSE = 6, 8
_DAYS, _DAY = 14, 86_400
_START = 1_700_000_000


def simulated_funnel(
    *,
    rows: int = 250_000,
    users: int = 20_000,
    items: int = 5_000,
    click_rate: float = 0.05,
    conversion_rate: float = 0.03,
    selection: float = 1.0,
    action: bool = True,
    dense: int = 2,
    delay: float = 0.0,
    seed: int = 2024,
) -> FunnelLog:
    """Return a log of an advertiser's rates in which it is known what each exposure would have converted to.

    User u and item i have tastes and traits `t_u, t_i ~ N(0, I_6)`, activity `a_u`, value `v_u`, appeal `a_i` and
    quality `v_i`, all standard normal; an exposure draws the user and the item from Zipf's law (exponents 0.6 and 0.9),
    a position k from 1 to 10, a time in 14 days, all uniform, and dense values `x_1, x_2, ...`, standard normal. Then

    - `q = sigmoid(c + 0.8 <t_u, t_i> / sqrt(6) + 0.6 v_i + 0.4 v_u + 0.5 x_1 + 0.3 x_3)`, the CVR, and the
      counterfactual conversion `r ~ Bernoulli(q)`;
    - `p = sigmoid(b + selection r + 0.4 <t_u, t_i> / sqrt(6) + 0.6 a_i + 0.4 a_u - 0.15 k + 0.5 x_2 + 0.3 x_4)`, the
      propensity, click `o ~ Bernoulli(p)`, conversion `o r`;
    - action `o a` with `a ~ Bernoulli(0.8 r + 0.15 (1 - r))`.

    b and c are such that, in expectation over these rows, `click_rate` of the exposures are clicked and
    `conversion_rate` of the clicks convert. The features are the ids, `segment` and `category` (the strongest of the
    six tastes of user and item), `position` and the dense values; the counterfactual conversion and the propensity are
    truth columns, which can be no feature.

    Parameters
    ----------
    rows, users, items
        How many exposures, and of how many users and items they are drawn.
    click_rate
        In (0, 1), share of the exposures that are clicked.
    conversion_rate
        In (0, 1), share of the clicks that convert.
    selection
        By how much a conversion raises the log-odds of the click, which no feature tells. 0: clicks are missing at
        random given the features.
    action
        Whether there is an action column.
    dense
        How many dense columns, at most 8; from the fifth on they say nothing.
    delay
        Mean days between click and conversion, exponential; a conversion after the last of the 14 days is not in the
        log, which the counterfactual conversion still knows.
    seed
        The same one gives the same log.

    Returns
    -------
    FunnelLog
        In order of time.

    Raises
    ------
    DataError
        For other values, and for rates that no b and c give.
    """
    try:
        for name, count in (("rows", rows), ("users", users), ("items", items)):
            check_count(name, count)
        for name, count in (("dense", dense), ("seed", seed)):
            check_count(name, count, least=0)
        check_number("dense", dense, low=0, high=_DENSE)
        for name, rate in (("click_rate", click_rate), ("conversion_rate", conversion_rate)):
            check_number(name, rate, low=0, high=1, open_low=True, open_high=True)
        check_number("selection", selection, low=-np.inf)
        check_number("delay", delay, low=0)
        check_flag("action", action)
    except ValueError as error:
        raise DataError(f"{NAME}: {error}") from error
    draw = np.random.default_rng(seed)
    tastes = {"user": draw.standard_normal((users, _TASTES)), "item": draw.standard_normal((items, _TASTES))}
    activity, value, appeal, quality = (draw.standard_normal(n) for n in (users, users, items, items))
    user, item = (draw.choice(n, rows, p=_zipf(n, s)) for n, s in ((users, 0.6), (items, 0.9)))
    position = draw.integers(1, 11, rows)
    time = np.sort(draw.random(rows)) * _DAYS
    x = draw.standard_normal((rows, _DENSE))
    match = np.einsum("nk,nk->n", tastes["user"][user], tastes["item"][item]) / np.sqrt(_TASTES)
    known = x * (np.arange(_DENSE) < dense)
    cvr = 0.8 * match + 0.6 * quality[item] + 0.4 * value[user] + 0.5 * known[:, 0] + 0.3 * known[:, 2]
    ctr = 0.4 * match + 0.6 * appeal[item] + 0.4 * activity[user] - 0.15 * position
    ctr += 0.5 * known[:, 1] + 0.3 * known[:, 3]
    b, c = _intercepts(ctr, cvr, click_rate, conversion_rate, selection)
    would = draw.random(rows) < expit(c + cvr)
    propensity = expit(b + ctr + selection * would)
    click = draw.random(rows) < propensity
    acts = draw.random(rows) < np.where(would, 0.8, 0.15)
    seen = time + draw.exponential(size=rows) * delay <= _DAYS
    frame = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "segment": tastes["user"].argmax(1)[user],
            "category": tastes["item"].argmax(1)[item],
            "position": position,
            **{f"x{number + 1}": x[:, number].astype(np.float32) for number in range(dense)},
            "timestamp": (_START + time * _DAY).astype(np.int64),
            "click": click.astype(np.int8),
            **({"action": (click & acts).astype(np.int8)} if action else {}),
            "conversion": (click & would & seen).astype(np.int8),
            "counterfactual_conversion": would.astype(np.int8),
            "propensity": propensity,
        }
    )
    return FunnelLog.from_frame(frame, _schema(dense, action=action), name=NAME)


def _schema(dense: int, *, action: bool) -> Schema:
    return Schema(
        user="user_id",
        item="item_id",
        click="click",
        conversion="conversion",
        action="action" if action else None,
        timestamp="timestamp",
        counterfactual="counterfactual_conversion",
        propensity="propensity",
        features=(
            Feature("segment", "token", "user"),
            Feature("category", "token", "item"),
            Feature("position", "token", "context"),
            *(Feature(f"x{number + 1}", "float", "context") for number in range(dense)),
        ),
    )


def _zipf(count: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, count + 1) ** -exponent
    return weights / weights.sum()


def _intercepts(
    ctr: np.ndarray, cvr: np.ndarray, click_rate: float, conversion_rate: float, selection: float
) -> tuple[float, float]:
    """Return b and c, with which clicks and conversions of clicks are as frequent as asked, in expectation."""

    def missed(intercepts: np.ndarray) -> list[float]:
        b, c = intercepts
        would = expit(c + cvr)
        converted = would * expit(b + ctr + selection)
        clicks = (converted + (1 - would) * expit(b + ctr)).mean()
        return [logit(clicks) - logit(click_rate), logit(converted.mean() / clicks) - logit(conversion_rate)]

    found = root(missed, [logit(click_rate), logit(conversion_rate) - selection])
    if not found.success or max(map(abs, missed(found.x))) > 1e-6:
        raise DataError(
            f"{NAME}: no intercepts give click_rate {click_rate:g} and conversion_rate {conversion_rate:g} with "
            f"selection {selection:g}; choose rates further from 0 and 1, or less selection."
        )
    return float(found.x[0]), float(found.x[1])
