"""The next item with the row's own history left out of the ranking, beside RecBole's figure with it left in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("recbole")

from recbole.model.sequential_recommender import GRU4Rec, SASRec

from cvr_plugins.recbole.evaluation.history import HISTORY_METRICS, leave_out, top_k

NAMES = [metric.__name__ for metric in HISTORY_METRICS]


def test_leaving_out_by_hand() -> None:
    scores = torch.tensor([[-torch.inf, 5.0, 4.0, 3.0], [-torch.inf, 1.0, 2.0, 3.0], [-torch.inf, 9.0, 8.0, 7.0]])
    before = scores.clone()
    #  row 0 viewed 1 and is asked for 3; row 1 viewed 3, 1 and is asked for 1 again; row 2 viewed nothing
    row, item = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 3, 1])
    left, targets = leave_out(scores, row, item, torch.tensor([3, 1, 2]))
    assert torch.equal(scores, before)
    assert targets.tolist() == [3, 2]
    assert left.tolist() == [[-math.inf, -math.inf, 4.0, 3.0], [-math.inf, 9.0, 8.0, 7.0]]
    assert top_k(left, targets, 2).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert top_k(left, targets, 6).tolist() == [[0, 1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 1]]


def twin(run, part, k: int) -> tuple[dict[str, float], int, int]:
    """Hit, NDCG and MRR without history by a loop over the rows of the part."""
    rows, (hits, gains, ranks, left_out) = part._dataset.inter_feat, ([], [], [], 0)
    run.model.eval()
    for n in range(len(rows)):
        row = rows[n : n + 1]
        length = int(row["item_length"])
        history = set(row["item_id_list"].reshape(-1)[:length].tolist())
        target = int(row["item_id"])
        if target in history:
            left_out += 1
            continue
        with torch.no_grad():
            scores = run.model.full_sort_predict(row).reshape(-1)
        better = [i for i in range(1, len(scores)) if i not in history and scores[i] > scores[target]]
        rank = 1 + len(better)
        hits.append(rank <= k)
        gains.append(1 / math.log2(rank + 1) if rank <= k else 0)
        ranks.append(1 / rank if rank <= k else 0)
    return {"hit": np.mean(hits), "ndcg": np.mean(gains), "mrr": np.mean(ranks)}, len(hits), left_out


def test_a_run_against_a_slow_twin(fitted) -> None:
    metrics = ["HitWithoutHistory", "NDCGWithoutHistory", "MRRWithoutHistory"]
    run = fitted(GRU4Rec, metrics=metrics, valid_metric="NDCGWithoutHistory@3")
    expected, rows, left_out = twin(run, run.test, 3)
    for name, value in expected.items():
        assert run.result[f"{name}withouthistory@3"] == pytest.approx(value, abs=2e-6), name
    assert (run.result["without_history/rows"], run.result["without_history/left_out"]) == (rows, left_out)
    assert left_out > 0
    assert run.best_score == run.best_result["ndcgwithouthistory@3"]


def test_all_of_recboles_metrics_at_k_have_a_counterpart(fitted) -> None:
    run = fitted(SASRec, metrics=NAMES, valid_metric="MAPWithoutHistory@1")
    for name in NAMES:
        own = name.removesuffix("WithoutHistory").lower()
        for k in (1, 3):
            assert 0 <= run.result[f"{own}@{k}"] <= 1
            assert 0 <= run.result[f"{own}withouthistory@{k}"] <= 1
    assert run.result["hitwithouthistory@3"] == run.result["recallwithouthistory@3"]


def test_where_every_target_was_seen_before_there_is_nothing_to_say(fitted, shop_folder) -> None:
    place = shop_folder / "again"
    place.mkdir(exist_ok=True)
    lines, time = ["session_id:token\titem_id:token\ttimestamp:float\tpurchase:float"], 0
    for session in range(60):
        for _ in range(4):
            time += 1
            lines.append(f"s{session}\ti{session % 9}\t{time}\t0")
    (place / "again.inter").write_text("\n".join(lines) + "\n")
    run = fitted(SASRec, dataset="again", metrics=["NDCGWithoutHistory"], valid_metric="NDCG@3")
    assert run.result["ndcgwithouthistory@3"] is None
    assert run.result["ndcg@3"] >= 0
    assert (run.result["without_history/rows"], run.result["without_history/left_out"]) == (0, len(run.test._dataset))
