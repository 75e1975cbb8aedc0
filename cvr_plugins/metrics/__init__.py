"""Metrics of CTR, CVR, CTCVR and CTAVR predictions; each value of a report names its task, space and metric.

Beside them, how far up the items a session bought stand among those it viewed (`RankedSessions`, `session_report`).
An undefined metric is None, never a made-up number.
"""

from cvr_plugins.metrics._candidates import (
    SESSION_BASELINES,
    SessionCandidates,
    session_baselines,
    session_candidates,
)
from cvr_plugins.metrics._grouped import GroupedAuc, gauc, grouped_auc
from cvr_plugins.metrics._per_user import DENOMINATORS, WITHOUT_POSITIVE, user_ndcg, user_recall
from cvr_plugins.metrics._probability import EPSILON, calibration, expected_calibration_error, log_loss
from cvr_plugins.metrics._ranking import auc, f1_at_top, ks, precision_at_top, recall_at_top
from cvr_plugins.metrics._reliability import ReliabilityCurve, reliability, reliability_curve
from cvr_plugins.metrics._report import (
    TARGETS,
    TASKS,
    Key,
    Report,
    Scored,
    Support,
    Target,
    direction,
    evaluate,
    is_defined,
    parse_key,
)
from cvr_plugins.metrics._sessions import (
    SESSION_METRICS,
    SESSION_METRICS_AT_K,
    PaddedAuc,
    RankedSessions,
    session_report,
)
from cvr_plugins.metrics._table import (
    DEFAULT_METRICS,
    METRIC_NAMES,
    METRICS,
    USER_METRICS,
    Metric,
    MetricFinder,
    Sample,
    find_metric,
)

__all__ = [
    "DEFAULT_METRICS",
    "DENOMINATORS",
    "EPSILON",
    "METRICS",
    "METRIC_NAMES",
    "SESSION_BASELINES",
    "SESSION_METRICS",
    "SESSION_METRICS_AT_K",
    "TARGETS",
    "TASKS",
    "USER_METRICS",
    "WITHOUT_POSITIVE",
    "GroupedAuc",
    "Key",
    "Metric",
    "MetricFinder",
    "PaddedAuc",
    "RankedSessions",
    "ReliabilityCurve",
    "Report",
    "Sample",
    "Scored",
    "SessionCandidates",
    "Support",
    "Target",
    "auc",
    "calibration",
    "direction",
    "evaluate",
    "expected_calibration_error",
    "f1_at_top",
    "find_metric",
    "gauc",
    "grouped_auc",
    "is_defined",
    "ks",
    "log_loss",
    "parse_key",
    "precision_at_top",
    "recall_at_top",
    "reliability",
    "reliability_curve",
    "session_baselines",
    "session_candidates",
    "session_report",
    "user_ndcg",
    "user_recall",
]
