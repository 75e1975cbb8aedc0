from __future__ import annotations

import copy

import pytest
import torch


def test_padding_and_mask_are_never_scored(make_core, sessions):
    core = make_core()
    with torch.no_grad():
        core.encoder.item_embedding.weight[[0, -1]] = 1e4 * core.user_embedding(sessions)[:2]
    scores = core.score_catalogue(sessions)
    assert scores.shape == (len(sessions), 20)
    assert (scores[:, 0] == -torch.inf).all()
    assert torch.isfinite(scores[:, 1:]).all()
    ranking = core.top_items(sessions, 19)
    assert torch.equal(ranking.items.sort(1).values, torch.arange(1, 20).expand(len(sessions), -1))
    assert core.score_items(sessions[:1], torch.tensor([[0, 3, 0]]))[0].isinf().tolist() == [True, False, True]


@pytest.mark.parametrize("projection_size", [None, 5])
def test_all_ways_to_score_agree(projection_size, make_core, sessions):
    core = make_core(encoder={"projection_size": projection_size}, chunk_size=6).double().eval()
    scores = core.score_catalogue(sessions)
    users = core.user_embedding(sessions)
    torch.testing.assert_close(scores[:, 1:], users @ core.encoder.item_table()[1:20].T)
    items = torch.randint(1, 20, (len(sessions), 5))
    torch.testing.assert_close(core.score_items(sessions, items), scores.gather(1, items))
    best = core.top_items(sessions, 6)
    expected = scores.topk(6, dim=1)
    torch.testing.assert_close(best.scores, expected.values)
    assert torch.equal(best.items, expected.indices)


def test_a_session_is_ranked_by_its_own_distinct_items(make_core, sessions):
    core = make_core().eval()
    scores = core.score_catalogue(sessions)
    ranking = core.rank_session(sessions)
    for session, all_scores, items, values in zip(sessions.tolist(), scores, *ranking, strict=True):
        distinct = sorted(set(session) - {0}, key=lambda item: -all_scores[item].item())
        assert items.tolist() == distinct + [0] * (len(items) - len(distinct))
        torch.testing.assert_close(values[: len(distinct)], all_scores[distinct])
        assert (values[len(distinct) :] == -torch.inf).all()


def test_without_history_the_sessions_own_items_are_left_out(make_core, sessions):
    core = make_core(chunk_size=4).eval()
    ranking = core.top_items(sessions, 19, history=False)
    scores = core.score_catalogue(sessions)
    for session, all_scores, items in zip(sessions.tolist(), scores, ranking.items.tolist(), strict=True):
        rest = sorted(set(range(1, 20)) - set(session), key=lambda item: -all_scores[item].item())
        assert items == rest + [0] * (19 - len(rest))
    assert (ranking.scores.isinf() == (ranking.items == 0)).all()


def test_scoring_changes_no_state_and_has_no_gradient(make_core, sessions):
    core = make_core().eval()
    before = copy.deepcopy(core.state_dict())
    for scores in (core.score_catalogue(sessions), *core.rank_session(sessions), *core.top_items(sessions, 3)):
        assert not scores.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in core.state_dict().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda core, x: core.score_items(x, x[:3]), "3 rows of items came with 24 sessions"),
        (lambda core, x: core.score_items(x, x + 19), r"The items to score hold the item id \d+, outside 0 .. 19"),
        (lambda core, x: core.top_items(x, 20), "k must be at most the number of items, 19; got 20"),
        (lambda core, x: core.score_catalogue(x[:0]), "needs at least one session; got none"),
        (lambda core, x: core.rank_session(x[0]), "The sessions must be whole numbers in 2 dimensions"),
    ],
)
def test_scoring_refuses_what_is_not_there(call, message, make_core, sessions):
    with pytest.raises(ValueError, match=message):
        call(make_core(), sessions)
