"""Paired differences of repeated runs and their tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

_ROUNDING = 1e-9


class Difference(NamedTuple):
    """Paired differences x - y, NaN for what cannot be said.

    Parameters
    ----------
    pairs : int
        Number of pairs.
    mean, spread : float
        Mean and sample standard deviation of the differences.
    relative : float
        Mean difference divided by |mean y|; NaN where that is 0.
    t_test, wilcoxon : float
        Two-sided p-values; NaN for fewer than two pairs, or differences that are all equal.
    """

    pairs: int
    mean: float
    spread: float
    relative: float
    t_test: float
    wilcoxon: float


def difference_of(ours: pd.Series, theirs: pd.Series) -> Difference:
    """Compare values of equal index by the paired t-test and Wilcoxon's signed-rank test.

    Parameters
    ----------
    ours, theirs : Series
        x and y, without gaps; what only one of them has is left out.

    Returns
    -------
    Difference
        Of x - y.
    """
    ours, theirs = ours.align(theirs, join="inner")
    differences = ours - theirs
    t_test = wilcoxon = np.nan
    # Without any spread but that of rounding the t statistic is 0/0 or infinite, and says nothing.
    if len(ours) > 1 and np.ptp(differences) > _ROUNDING * max(ours.abs().max(), theirs.abs().max()):
        from scipy import stats

        t_test = stats.ttest_rel(ours, theirs).pvalue
        wilcoxon = stats.wilcoxon(differences).pvalue
    base = abs(theirs.mean())
    relative = differences.mean() / base if base > 0 else np.nan
    return Difference(len(ours), differences.mean(), differences.std(), relative, t_test, wilcoxon)


def holm(p_values: pd.Series) -> pd.Series:
    """Adjust p-values for their number by Holm's step-down method.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)).

    Parameters
    ----------
    p_values : Series
        NaN does not count.

    Returns
    -------
    Series
        The adjusted ones, in the same order; NaN stays.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 1979.
    """
    ordered = p_values.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1).reindex(p_values.index)
