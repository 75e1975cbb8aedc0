"""Evaluation of browsing sessions in RecBole: re-ranking a session's own items, and the next item without its history.

Metrics are chosen by RecBole's own keys, `metrics`, `topk` and `valid_metric`; a trainer computes them if
`SessionEvaluation` stands in front of it. `RECBOLE_METRICS` holds their classes.
"""

from cvr_plugins.recbole.evaluation.collector import SessionCollector
from cvr_plugins.recbole.evaluation.names import RECBOLE_METRICS, as_table, counts
from cvr_plugins.recbole.evaluation.trainer import SessionEvaluation

__all__ = ["RECBOLE_METRICS", "SessionCollector", "SessionEvaluation", "as_table", "counts"]
