"""Evaluation on data sets of whole sessions: PARS and MaskedRec on their own, RecBole's models on the same sessions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

pytest.importorskip("recbole")

from recbole.model.sequential_recommender import BERT4Rec

from cvr_plugins.config import ConfigError
from cvr_plugins.recbole.sequential import PARS, MaskedRec, SessionDataset

METRICS = ["SessionAUC", "SessionGAUC", "SessionHR", "NDCGWithoutHistory", "auc_padded"]
SPLIT = {"split": {"RS": [0.7, 0.15, 0.15]}, "order": "TO", "group_by": "none", "mode": "full"}


@pytest.mark.parametrize("model_class", [PARS, MaskedRec, BERT4Rec])
def test_one_part_of_whole_sessions_is_ranked_alike_for_every_model(fitted, model_class) -> None:
    run = fitted(model_class, dataset_class=SessionDataset, metrics=METRICS, eval_args=SPLIT, valid_metric="SessionAUC")
    sessions, model = run.test._dataset.sessions(), run.model.eval()
    assert run.result["sessions/total"] == len(sessions.session) == len(run.test._dataset)
    assert run.result["without_history/rows"] + run.result["without_history/left_out"] == len(run.test._dataset)
    counts = Counter(run.train._dataset.sessions().item.tolist())
    labels, scores, popularity, gaucs = [], [], [], []
    for row in range(len(sessions.session)):
        events = slice(int(sessions.ptr[row]), int(sessions.ptr[row + 1]))
        items = sessions.item[events].long()
        interaction = run.test._dataset.session_interaction(torch.tensor([row]))
        assert interaction["item_id_list"][0, : len(items)].tolist() == items.tolist()
        with torch.no_grad():
            found = model.full_sort_predict(interaction).reshape(-1)
        bought = {int(i) for i, label in zip(items, sessions.purchased[events], strict=True) if label}
        labels += [int(item) in bought for item in items]
        scores += found[items].tolist()
        popularity += [counts[int(item)] for item in items]
        distinct = items.unique()
        own = [int(item) in bought for item in distinct]
        if any(own) and not all(own):
            gaucs.append(roc_auc_score(own, found[distinct].tolist()))
    assert run.result["sessionauc"] == pytest.approx(roc_auc_score(labels, scores), abs=2e-6)
    assert run.result["sessiongauc"] == pytest.approx(np.mean(gaucs), abs=2e-6)
    assert run.result["popularity/sessionauc"] == pytest.approx(roc_auc_score(labels, popularity), abs=2e-6)


def test_all_that_came_before_is_left_out_however_long_ago(fitted) -> None:
    run = fitted(PARS, metrics=["NDCGWithoutHistory"], valid_metric="NDCG@3", eval_args=SPLIT, MAX_ITEM_LIST_LENGTH=3)
    part, model = run.test._dataset, run.model.eval()
    gains, left_out, beyond = [], 0, 0
    for row in range(len(part)):
        interaction = part[torch.tensor([row])]
        _, before = part.history(torch.tensor([row]))
        history, target = set(before.tolist()), int(interaction["item_id"])
        beyond += len(before) > 3
        if target in history:
            left_out += 1
            continue
        with torch.no_grad():
            scores = model.full_sort_predict(interaction).reshape(-1)
        rank = 1 + sum(bool(scores[i] > scores[target]) for i in range(1, len(scores)) if i not in history)
        gains.append(1 / math.log2(rank + 1) if rank <= 3 else 0)
    assert beyond
    assert left_out == run.result["without_history/left_out"] > 0
    assert run.result["ndcgwithouthistory@3"] == pytest.approx(np.mean(gains), abs=2e-6)


def test_sessions_without_the_purchase_column_are_refused(recbole) -> None:
    run = recbole(
        PARS, eval_args=SPLIT, load_col={"inter": ["session_id", "item_id", "timestamp"]}, valid_metric="SessionAUC"
    )
    with pytest.raises(ConfigError, match="SessionAUC needs to know what was bought"):
        run.trainer.fit(run.train, run.valid, saved=False)
