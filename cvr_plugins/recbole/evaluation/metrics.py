"""In-session re-ranking as RecBole metrics: a session's own items are ranked, relevant are those it bought.

Each reports the model, then the baselines under the very same metric: `sessionndcg@3`, `random/sessionndcg@3`,
`popularity/sessionndcg@3`, `in_session_count/sessionndcg@3`, `recency/sessionndcg@3`; and beside them how many sessions
there are (`sessions/total`), how many of them bought nothing (`sessions/without_purchase`, left out of the metrics at
k) and how many bought all they viewed (`sessions/all_purchased`, left out of SessionGAUC). Undefined is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import RankedSessions

RANKINGS = "session.rankings"
"""What the metrics find the rankings under: scorer -> RankedSessions, the model first."""

MODEL = "model"


class SessionMetric(AbstractMetric):
    """A metric of `cvr_plugins.metrics.RankedSessions`, rounded to `metric_decimal_place` as RecBole rounds its own.

    Attributes
    ----------
    measure
        Its name there.
    at_k
        Whether it takes RecBole's `topk`.
    """

    metric_type = EvaluatorType.RANKING
    metric_need = [RANKINGS]
    measure: ClassVar[str] = ""
    at_k: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk = list(config["topk"])

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float | int | None]:
        """Return key -> value of the model and of each baseline, and the counts of sessions."""
        found = rankings(dataobject, type(self))
        name = type(self).__name__.lower()
        result: dict[str, float | int | None] = {}
        for scorer, ranked in found.items():
            prefix = "" if scorer == MODEL else f"{scorer}/"
            for k in self.topk if self.at_k else [None]:
                value = ranked.value(self.measure, k)
                result[f"{prefix}{name}" if k is None else f"{prefix}{name}@{k}"] = self.rounded(value)
        return {**result, **counts(found[MODEL])}

    def rounded(self, value: float | None) -> float | None:
        """Return a value as RecBole reports one."""
        return None if value is None else round(value, self.decimal_place)


class SessionAUC(SessionMetric):
    """AUC over the events of all sessions pooled, each with its item's score and label; real events, no padding.

    An item viewed twice in a session counts twice; sessions without a purchase count too.
    """

    measure, at_k = "auc", False


class SessionGAUC(SessionMetric):
    """Mean of the sessions' own AUC over their distinct items, where some but not all of them were bought."""

    measure, at_k = "gauc", False


class SessionHR(SessionMetric):
    """Hit rate at k: the share of sessions with a purchase that have a bought item among their k highest."""

    measure = "hr"


class SessionNDCG(SessionMetric):
    """NDCG at k with binary gains, mean over the sessions with a purchase."""

    measure = "ndcg"


class SessionPrecision(SessionMetric):
    """Bought items among the k highest over k, mean over the sessions with a purchase."""

    measure = "precision"


class SessionRecall(SessionMetric):
    """Bought items among the k highest over those bought, mean over the sessions with a purchase."""

    measure = "recall"


class SessionF1(SessionMetric):
    """The sessions' own F1 at k, mean over the sessions with a purchase."""

    measure = "f1"


class AUC_Padded(SessionMetric):
    """`auc_padded`: SessionAUC with every session padded to MAX_ITEM_LIST_LENGTH events, padding being unbought.

    The figure that PARS's released program reports as AUC. It mostly measures how short sessions are: on sessions of
    14 events padded to 50, a random scorer gets 0.88. Hence it is reported only beside SessionAUC and the same figure
    of a random scorer, and no training can be steered by it.

    Raises
    ------
    ConfigError
        If it is the valid_metric, or asked for without SessionAUC.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        refuse_as_valid_metric(str(config["valid_metric"]).lower().partition("@")[0])
        if "sessionauc" not in (metric.lower() for metric in config["metrics"]):
            raise ConfigError(
                "auc_padded is reported only beside the AUC without padding; add SessionAUC to metrics as well."
            )
        self.slots = int(config["MAX_ITEM_LIST_LENGTH"])

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float | int | None]:
        """Return the figure and, always, that of a random scorer."""
        model = rankings(dataobject, type(self))[MODEL]
        padded = model.padded_auc(self.slots)
        return {
            "auc_padded": self.rounded(padded.scorer),
            "random/auc_padded": self.rounded(padded.random),
            **counts(model),
        }


SESSION_METRICS = (
    SessionAUC,
    SessionGAUC,
    SessionHR,
    SessionNDCG,
    SessionPrecision,
    SessionRecall,
    SessionF1,
    AUC_Padded,
)


def refuse_as_valid_metric(name: str) -> None:
    """Raise ConfigError if the metric of this lower-case name must not steer training: auc_padded."""
    if name == "auc_padded":
        raise ConfigError(
            "auc_padded cannot be the valid_metric: it mostly rewards ranking real events above padding, as a random "
            "scorer does too; set valid_metric: SessionAUC."
        )


def rankings(dataobject: DataStruct, metric: type) -> Mapping[str, RankedSessions]:
    """Return the rankings that the collector has put there. Raises ConfigError if none of ours has."""
    if RANKINGS not in dataobject:
        raise ConfigError(
            f"{metric.__name__} needs a trainer that evaluates sessions: run the model with cvr_plugins.recbole.run "
            "(or 'cvr-plugins run'), or put cvr_plugins.recbole.evaluation.SessionEvaluation in front of its trainer."
        )
    found: Mapping[str, RankedSessions] = dataobject.get(RANKINGS)
    return found


def counts(ranked: RankedSessions) -> dict[str, float | int | None]:
    """Return how many sessions the metrics rest on."""
    return {
        "sessions/total": ranked.total,
        "sessions/without_purchase": ranked.without_purchase,
        "sessions/all_purchased": ranked.all_purchased,
    }
