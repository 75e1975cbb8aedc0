"""In-session re-ranking through RecBole runs: against a slow twin, by every way of scoring, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score

pytest.importorskip("recbole")

from recbole.evaluator.collector import Collector
from recbole.model.general_recommender import BPR
from recbole.model.sequential_recommender import FPMC, SHAN, BERT4Rec, Caser, SASRec

from cvr_plugins.config import ConfigError
from cvr_plugins.metrics import SESSION_BASELINES
from cvr_plugins.recbole.evaluation import SessionCollector, as_table, scoring

ALL = ["SessionAUC", "SessionGAUC", "SessionHR", "SessionNDCG", "SessionPrecision", "SessionRecall", "SessionF1"]


def sessions_by_hand(run, folder, part) -> list[dict]:
    """The sessions with an event to predict in a part: their items in order, cut, and what of it was bought."""
    frame = pd.read_csv(folder / "shop" / "shop.inter", sep="\t")
    frame.columns = [name.split(":")[0] for name in frame]
    dataset, width = part._dataset, run.config["MAX_ITEM_LIST_LENGTH"]
    found = []
    for session in sorted({*dataset.inter_feat[dataset.uid_field].tolist()}):
        token = dataset.id2token(dataset.uid_field, session)
        rows = frame[frame.session_id == token].sort_values("timestamp")
        last = dataset.inter_feat["timestamp"][dataset.inter_feat[dataset.uid_field] == session].max().item()
        rows = rows[rows.timestamp <= last].tail(width)
        items = [int(dataset.token2id(dataset.iid_field, token)) for token in rows.item_id]
        bought = {item for item, label in zip(items, rows.purchase, strict=True) if label}
        found.append({"id": session, "items": items, "bought": bought})
    return found


def figures_by_hand(sessions: list[dict], score) -> dict[str, float]:
    """Pooled AUC over events, GAUC and NDCG@3 over distinct items, by loops."""
    pooled, gaucs, ndcgs = [], [], []
    for session in sessions:
        scores = score(session)
        pooled += [(item in session["bought"], scores[item]) for item in session["items"]]
        items = sorted(set(session["items"]))
        labels, values = [item in session["bought"] for item in items], [scores[item] for item in items]
        if any(labels):
            ndcgs.append(1.0 if len(items) == 1 else ndcg_score([np.array(labels, int)], [values], k=3))
            if not all(labels):
                gaucs.append(roc_auc_score(labels, values))
    return {
        "sessionauc": roc_auc_score(*zip(*pooled, strict=True)),
        "sessiongauc": float(np.mean(gaucs)),
        "sessionndcg@3": float(np.mean(ndcgs)),
    }


def score_one_by_one(run, session: dict) -> torch.Tensor:
    width = run.config["MAX_ITEM_LIST_LENGTH"]
    row = torch.zeros(1, width, dtype=torch.int64)
    row[0, : len(session["items"])] = torch.tensor(session["items"])
    interaction = {
        "item_id_list": row,
        "item_length": torch.tensor([len(session["items"])]),
        "session_id": torch.tensor([session["id"]]),
    }
    run.model.eval()
    with torch.no_grad():
        return run.model.full_sort_predict(interaction).reshape(-1)


@pytest.mark.parametrize("model_class", [BERT4Rec, Caser])
def test_a_run_against_a_slow_twin(fitted, shop_folder, model_class) -> None:
    run = fitted(model_class, metrics=["SessionAUC", "SessionGAUC", "SessionNDCG"], MAX_ITEM_LIST_LENGTH=6)
    sessions = sessions_by_hand(run, shop_folder, run.test)
    assert any(len(session["items"]) == 6 for session in sessions)
    for key, value in figures_by_hand(sessions, lambda session: score_one_by_one(run, session)).items():
        assert run.result[key] == pytest.approx(value, abs=2e-6), key
    assert run.result["sessions/total"] == len(sessions)
    assert run.result["sessions/without_purchase"] == sum(not session["bought"] for session in sessions)
    assert 0 < run.result["sessions/without_purchase"] < len(sessions)


def test_the_baselines_against_a_slow_twin(fitted, shop_folder) -> None:
    run = fitted(SASRec, metrics=["SessionAUC", "SessionGAUC", "SessionNDCG"])
    sessions = sessions_by_hand(run, shop_folder, run.test)
    # Events of the training part: those of its sessions up to the last one it has to predict.
    training = sessions_by_hand(run, shop_folder, run.train)
    counts = Counter(item for session in training for item in session["items"])
    assert sum(counts.values()) == len(run.train._dataset) + len(training)
    twins = {
        "popularity": lambda session: counts,
        "in_session_count": lambda session: Counter(session["items"]),
        "recency": lambda session: {
            item: max(n for n, other in enumerate(session["items"]) if other == item) - len(session["items"])
            for item in session["items"]
        },
        "random": lambda session: dict.fromkeys(session["items"], 0),
    }
    assert set(twins) == set(SESSION_BASELINES)
    for name, score in twins.items():
        for key, value in figures_by_hand(sessions, score).items():
            assert run.result[f"{name}/{key}"] == pytest.approx(value, abs=2e-6), (name, key)


def test_every_metric_comes_with_every_baseline_and_the_counts(fitted) -> None:
    run = fitted(SASRec, metrics=ALL, topk=[1, 3, 5], valid_metric="SessionF1@5")
    table = as_table(run.result)
    assert list(table) == ["model", *SESSION_BASELINES]
    keys = ["sessionauc", "sessiongauc", *(f"{name.lower()}@{k}" for name in ALL[2:] for k in (1, 3, 5))]
    assert all(list(values) == keys for values in table.values())
    assert all(isinstance(value, float) for values in table.values() for value in values.values())
    assert list(run.result)[: len(keys)] == keys
    assert [key for key in run.result if key.startswith("sessions/")] == [
        "sessions/total",
        "sessions/without_purchase",
        "sessions/all_purchased",
    ]
    assert table["random"]["sessionauc"] == table["random"]["sessiongauc"] == 0.5
    assert run.best_score == run.best_result["sessionf1@5"]


@pytest.mark.parametrize("model_class", [SHAN, FPMC])
def test_models_with_a_transform_or_negative_samples_are_scored(fitted, model_class) -> None:
    changes = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}} if model_class is FPMC else {}
    assert 0 <= fitted(model_class, **changes).result["sessionauc"] <= 1


def test_recboles_own_metrics_stand_beside_and_stay_what_they_are(fitted) -> None:
    ours = fitted(SASRec, metrics=["Hit", "NDCG", "SessionAUC", "NDCGWithoutHistory"], valid_metric="NDCG@3")
    stock = fitted(SASRec, metrics=["Hit", "NDCG"], valid_metric="NDCG@3", mixin=False)
    assert {key: ours.result[key] for key in stock.result} == dict(stock.result)
    for name, weight in stock.model.state_dict().items():
        assert torch.equal(weight, ours.model.state_dict()[name]), name


def test_without_a_metric_of_ours_the_trainer_is_recboles(fitted) -> None:
    run = fitted(
        SASRec, metrics=["NDCG"], valid_metric="NDCG@3", load_col={"inter": ["session_id", "item_id", "timestamp"]}
    )
    assert type(run.trainer.eval_collector) is Collector
    assert list(run.result) == ["ndcg@1", "ndcg@3"]


class Spy(SASRec):
    """Notes what it is given to score."""

    recbole_defaults = {
        "n_heads": 2,
        "hidden_dropout_prob": 0.5,
        "attn_dropout_prob": 0.5,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "loss_type": "CE",
    }

    def __init__(self, config, dataset) -> None:
        super().__init__(config, dataset)
        self.seen: list = []

    def full_sort_predict(self, interaction):
        self.seen.append((len(interaction), set(interaction.columns)))
        return super().full_sort_predict(interaction)


class ByPairs(Spy):
    def full_sort_predict(self, interaction):
        raise NotImplementedError


class ByCandidates(Spy):
    def full_sort_predict(self, interaction):
        raise AssertionError("the catalogue need not be scored")

    def score_items(self, interaction, item_ids):
        self.seen.append((len(interaction), set(interaction.columns)))
        scores = SASRec.full_sort_predict(self, interaction)
        return scores.gather(1, item_ids).masked_fill(item_ids == 0, -torch.inf)


def test_all_ways_of_scoring_agree(fitted) -> None:
    catalogue, pairs, candidates = (fitted(each, metrics=ALL) for each in (Spy, ByPairs, ByCandidates))
    assert candidates.model.seen
    assert candidates.result == pytest.approx(catalogue.result, abs=1e-5)
    assert pairs.result == pytest.approx(catalogue.result, abs=1e-5)


def test_no_purchase_reaches_the_model_and_nothing_needless_is_scored(fitted) -> None:
    run = fitted(Spy)
    sessions = run.result["sessions/total"]
    per_validation = [rows for rows, _ in run.model.seen]
    assert sum(per_validation) < 2.5 * sessions  # validation and test, no pass over the rows of the loader
    for _, columns in run.model.seen:
        assert not {name for name in columns if "purchase" in name}
        assert {"session_id", "item_id_list", "item_length", "timestamp_list"} <= columns
        assert "item_id" not in columns


def test_the_scores_held_at_once_are_bounded_whatever_the_catalogue(fitted, monkeypatch) -> None:
    whole = fitted(Spy)
    monkeypatch.setattr(scoring, "MOST_SCORES", 3 * whole.train._dataset.item_num + 1)
    chunked = fitted(Spy)
    assert {rows for rows, _ in chunked.model.seen} <= {1, 2, 3}
    assert max(rows for rows, _ in whole.model.seen) > 3
    assert chunked.result == pytest.approx(whole.result, abs=1e-5)


def test_purchases_change_the_figures_but_never_the_training(fitted, relabelled) -> None:
    honest, poisoned = (
        fitted(BERT4Rec, dataset=dataset, epochs=2, metrics=["NDCG", "SessionAUC"], valid_metric="NDCG@3")
        for dataset in ("shop", relabelled("poisoned", lambda label: "10"[int(label)]))
    )
    for name, weight in honest.model.state_dict().items():
        assert torch.equal(weight, poisoned.model.state_dict()[name]), name
    assert honest.result["ndcg@3"] == poisoned.result["ndcg@3"]
    assert honest.result["sessionauc"] != poisoned.result["sessionauc"]


def test_auc_padded_stands_beside_a_random_scorer(fitted) -> None:
    # The purchase column is called purchase unless the configuration says otherwise.
    run = fitted(SASRec, metrics=["SessionAUC", "auc_padded"], valid_metric="SessionAUC", PURCHASE_FIELD=None)
    result, sessions = run.result, run.trainer.eval_collector._rankings["model"]
    negatives = int((~sessions._events[0]).sum())
    padding = sessions.total * 12 - len(sessions._events[0])
    share = negatives / (negatives + padding)
    assert result["auc_padded"] == pytest.approx(1 - (1 - result["sessionauc"]) * share, abs=2e-6)
    assert result["random/auc_padded"] == pytest.approx(1 - 0.5 * share, abs=2e-6)
    assert result["auc_padded"] > result["sessionauc"]
    assert as_table(result)["random"]["auc_padded"] == result["random/auc_padded"]


UNI10 = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni10"}
HISTORY = {"metrics": ["NDCGWithoutHistory"], "valid_metric": "NDCGWithoutHistory@3", "eval_args": UNI10}
GENERAL = {"model_class": BPR, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["auc_padded"], "valid_metric": "auc_padded"}, "auc_padded cannot be the valid_metric"),
        ({"valid_metric": "AUC_padded"}, "auc_padded cannot be the valid_metric"),
        ({"metrics": ["auc_padded", "NDCG"], "valid_metric": "NDCG@3"}, "add SessionAUC to metrics as well"),
        ({"valid_metric": "SessionHR@3"}, "'SessionHR@3' is not computed: add SessionHR to metrics"),
        ({"valid_metric": "SessionNDCG@5"}, r"write SessionNDCG@k with a k of topk, \[1, 3\]"),
        ({"valid_metric": "SessionNDCG"}, "write SessionNDCG@k"),
        ({"valid_metric": "SessionAUC@3"}, "SessionAUC has no k; write SessionAUC"),
        (HISTORY, "NDCGWithoutHistory ranks the whole catalogue; set mode: full in eval_args"),
        (GENERAL, r"SessionAUC needs a sequential model \(PARS, .*which BPR is not"),
    ],
)
def test_what_is_refused_before_training(recbole, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recbole(**{"model_class": SASRec, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PURCHASE_FIELD": "bought"}, "SessionAUC needs to know what was bought, but shop.inter has no"),
        ({"load_col": {"inter": ["session_id", "item_id", "timestamp"]}}, "no column 'purchase' that is loaded"),
        ({"PURCHASE_FIELD": "timestamp"}, r"'timestamp' \(PURCHASE_FIELD\) of shop.inter must be 1 or 0 in every row"),
    ],
)
def test_data_without_purchases_is_refused(recbole, changes, message: str) -> None:
    run = recbole(SASRec, **changes)
    with pytest.raises(ConfigError, match=message):
        run.trainer.fit(run.train, run.valid, saved=False)


@pytest.mark.parametrize("metric", ["SessionAUC", "NDCGWithoutHistory"])
def test_stock_trainers_say_what_they_lack(recbole, metric: str) -> None:
    run = recbole(SASRec, mixin=False, metrics=[metric, "NDCG"], valid_metric="NDCG@3")
    with pytest.raises(ConfigError, match=f"{metric} needs a trainer that .*cvr-plugins run"):
        run.trainer.fit(run.train, run.valid, saved=False)


def test_evaluation_without_training_data_says_what_is_missing(recbole) -> None:
    run = recbole(SASRec)
    with pytest.raises(ConfigError, match=r"call trainer\.eval_collector\.data_collect\(train_data\) before evaluate"):
        run.trainer.evaluate(run.test, load_best_model=False)
    run.trainer.eval_collector.data_collect(run.train)
    assert run.trainer.evaluate(run.test, load_best_model=False)["sessions/total"] > 0


def test_an_undefined_metric_is_none_and_cannot_steer_training(fitted, relabelled) -> None:
    relabelled("unsold", lambda label: "0")
    result = fitted(SASRec, dataset="unsold", metrics=[*ALL, "NDCG"], valid_metric="NDCG@3").result
    assert result["sessionauc"] is None
    assert result["popularity/sessionhr@1"] is None
    assert result["sessions/without_purchase"] == result["sessions/total"]
    with pytest.raises(ConfigError, match="valid_metric 'sessionndcg@3' is undefined on the validation part"):
        fitted(SASRec, dataset="unsold")


def test_a_model_that_has_diverged_is_named(recbole) -> None:
    run = recbole(SASRec)
    run.trainer.eval_collector.data_collect(run.train)
    with torch.no_grad():
        run.model.item_embedding.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"SASRec gives item \d+ the score nan; its training has diverged"):
        run.trainer.evaluate(run.test, load_best_model=False)


def test_a_second_evaluation_counts_anew(recbole) -> None:
    run = recbole(SASRec, metrics=["SessionAUC", "NDCGWithoutHistory"], valid_metric="SessionAUC")
    run.trainer.eval_collector.data_collect(run.train)
    assert isinstance(run.trainer.eval_collector, SessionCollector)
    first, valid, again = (
        run.trainer.evaluate(part, load_best_model=False) for part in (run.test, run.valid, run.test)
    )
    assert first == again
    assert first != valid


def test_lists_of_other_columns_are_those_of_the_whole_session(recbole, shop_folder) -> None:
    from cvr_plugins.recbole.evaluation.sessions import session_part

    run = recbole(SASRec, MAX_ITEM_LIST_LENGTH=5)
    part = session_part(run.test._dataset, run.config, "SessionAUC")
    rows = part.interaction(torch.arange(part.count))
    twins = {session["id"]: session["items"] for session in sessions_by_hand(run, shop_folder, run.test)}
    assert len(twins) == part.count
    for row in range(part.count):
        length = int(rows["item_length"][row])
        assert rows["item_id_list"][row, :length].tolist() == twins[int(rows["session_id"][row])]
        assert (rows["item_id_list"][row, length:] == 0).all()
        times = rows["timestamp_list"][row, :length]
        assert (times.diff() == 1).all()
