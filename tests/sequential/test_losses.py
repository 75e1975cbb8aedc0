from __future__ import annotations

import math

import pytest
import torch

from cvr_plugins.sequential import candidate_scores, catalogue_logsumexp, losses, masked_item_loss, partial_label_loss

N_ITEMS = 12
CHUNKS = [1, 5, N_ITEMS - 1, N_ITEMS + 1, None]


@pytest.fixture
def case():
    """Hidden states, weights with a row for [MASK], a bias; scores of up to +-50 so that the scale matters."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return {"hidden": normal(5, 3), "weight": normal(N_ITEMS + 1, 3), "bias": normal(N_ITEMS)}


def gradients(value, case):
    return torch.autograd.grad(value, list(case.values()), allow_unused=True)


def dense_scores(case, with_bias):
    scores = 10 * case["hidden"] @ case["weight"][1:N_ITEMS].T
    return scores + case["bias"][1:] if with_bias else scores


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_chunked_logsumexp_is_the_dense_one(case, chunk_size, with_bias):
    ours = catalogue_logsumexp(
        10 * case["hidden"],
        case["weight"],
        case["bias"] if with_bias else None,
        n_items=N_ITEMS,
        chunk_size=chunk_size,
    )
    dense = dense_scores(case, with_bias).logsumexp(1)
    torch.testing.assert_close(ours, dense, rtol=1e-13, atol=1e-13)
    upstream = torch.linspace(-2, 3, 5, dtype=torch.float64)
    for found, expected in zip(gradients(ours @ upstream, case), gradients(dense @ upstream, case), strict=True):
        if expected is None:
            assert found is None
            continue
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_masked_item_loss_is_the_dense_cross_entropy(case, chunk_size):
    targets = torch.tensor([1, 11, 4, 4, 7])
    ours = masked_item_loss(
        10 * case["hidden"], targets, case["weight"], case["bias"], n_items=N_ITEMS, chunk_size=chunk_size
    )
    dense = torch.nn.functional.cross_entropy(dense_scores(case, True), targets - 1, reduction="none")
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    for found, expected in zip(gradients(ours.mean(), case), gradients(dense.mean(), case), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_partial_label_loss_is_that_of_a_dense_softmax(case, chunk_size):
    items = torch.tensor([[3, 7, 0], [1, 0, 0], [2, 5, 11], [4, 0, 0], [6, 9, 0]])
    labels = torch.tensor([[0.4, 0.6, 0], [1, 0, 0], [0.2, 0.3, 0.5], [1, 0, 0], [0.9, 0.1, 0]], dtype=torch.float64)
    hidden = 10 * case["hidden"]
    normaliser = catalogue_logsumexp(hidden, case["weight"], n_items=N_ITEMS, chunk_size=chunk_size)
    ours = partial_label_loss(candidate_scores(hidden, case["weight"], items), labels, normaliser)
    dense_labels = torch.zeros(5, N_ITEMS + 1, dtype=torch.float64).scatter_add(1, items, labels)[:, 1:N_ITEMS]
    dense = -(dense_labels * torch.log(dense_scores(case, False).softmax(1) + 1e-10)).sum(1)
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    found, expected = gradients(ours.mean(), case)[:2], gradients(dense.mean(), case)[:2]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chunk_size", [1, 4, None])
def test_padding_and_mask_are_in_no_softmax(case, chunk_size):
    value = catalogue_logsumexp(case["hidden"], case["weight"], case["bias"], n_items=N_ITEMS, chunk_size=chunk_size)
    _, of_weight, of_bias = gradients(value.sum(), case)
    assert (of_weight[[0, N_ITEMS]] == 0).all()
    assert of_bias[0] == 0
    assert (of_weight[1:N_ITEMS] != 0).all()
    with torch.no_grad():
        case["weight"][[0, N_ITEMS]] = 1e6
        case["bias"][0] = 1e6
    again = catalogue_logsumexp(case["hidden"], case["weight"], case["bias"], n_items=N_ITEMS, chunk_size=chunk_size)
    assert torch.equal(again, value)
    # Shares of the softmax sum to one over the items alone.
    torch.testing.assert_close(of_bias.sum(), torch.tensor(5.0, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_large_scores_neither_overflow_nor_vanish(scale):
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = scale + torch.arange(5.0)[:, None]
    value = catalogue_logsumexp(hidden, weight, chunk_size=2)
    expected = scale + math.log(sum(math.exp(i) for i in range(1, 5)))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.sum().backward()
    assert hidden.grad.item() == pytest.approx(scale + 3.4, rel=1e-3)


def test_only_what_wants_a_gradient_gets_one(case):
    weight, hidden = case["weight"].detach(), case["hidden"].detach()
    for wanted in ("hidden", "weight", "bias"):
        inputs = {"hidden": hidden, "weight": weight, "bias": case["bias"].detach(), wanted: case[wanted]}
        value = catalogue_logsumexp(inputs["hidden"], inputs["weight"], inputs["bias"], n_items=N_ITEMS, chunk_size=5)
        (alone,) = torch.autograd.grad(value.sum(), case[wanted])
        together = catalogue_logsumexp(*case.values(), n_items=N_ITEMS, chunk_size=5).sum()
        torch.testing.assert_close(alone, torch.autograd.grad(together, case[wanted])[0])


def test_no_position_at_all_gives_an_empty_loss_and_no_gradient(case):
    value = masked_item_loss(
        case["hidden"][:0], torch.zeros(0, dtype=torch.int64), case["weight"], case["bias"], n_items=N_ITEMS
    )
    assert value.shape == (0,)
    assert all((gradient == 0).all() for gradient in gradients(value.sum(), case))


def test_labels_get_no_gradient():
    scores = torch.zeros(1, 2, requires_grad=True)
    labels = torch.tensor([[0.5, 0.5]], requires_grad=True)
    partial_label_loss(scores, labels, torch.ones(1)).sum().backward()
    assert labels.grad is None
    assert scores.grad is not None


def test_the_partial_label_loss_worked_by_hand():
    # The candidates have probabilities 1/2 and 1/8 of the whole catalogue; the third stands at padding.
    scores = torch.tensor([[math.log(4.0), 0.0, -math.inf]])
    loss = partial_label_loss(scores, torch.tensor([[0.25, 0.75, 0.0]]), torch.tensor([math.log(8.0)]))
    assert loss.item() == pytest.approx(0.25 * math.log(2) + 0.75 * math.log(8))


def test_a_candidate_of_no_probability_costs_the_logarithm_of_epsilon():
    scores = torch.tensor([[-200.0]], requires_grad=True)
    loss = partial_label_loss(scores, torch.ones(1, 1), torch.zeros(1))
    assert loss.item() == pytest.approx(10 * math.log(10), rel=1e-6)
    loss.sum().backward()
    assert scores.grad.item() == 0


def test_padded_candidates_are_harmless_whatever_the_scores():
    # exp(0 - logsumexp) of a padded candidate scored 0 would be infinite here, and infinite times 0 is not a number.
    hidden = torch.full((1, 1), -500.0, requires_grad=True)
    weight = torch.tensor([[0.0], [1.0], [1.0]], requires_grad=True)
    scores = candidate_scores(hidden, weight, torch.tensor([[1, 0]]))
    loss = partial_label_loss(scores, torch.tensor([[1.0, 0.0]]), catalogue_logsumexp(hidden, weight)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(weight.grad).all()
    assert weight.grad[0] == 0


@pytest.mark.parametrize("n_items", [1, 14])
def test_a_catalogue_without_items_or_weights_is_refused(case, n_items):
    with pytest.raises(ValueError, match=f"n_items is {n_items}, the weights have 13 rows"):
        catalogue_logsumexp(case["hidden"], case["weight"], n_items=n_items)


@pytest.mark.parametrize("positions", [1, 300, 5000])
def test_chunks_hold_at_most_what_they_are_allowed(positions, monkeypatch):
    seen, chunks = [], losses._chunks

    def watched(*arguments):
        for ids, scores in chunks(*arguments):
            seen.append((scores.numel(), scores.untyped_storage().data_ptr()))
            yield ids, scores

    monkeypatch.setattr(losses, "_chunks", watched)
    monkeypatch.setattr(losses, "_SCORES", 1 << 12)
    hidden, weight = torch.randn(positions, 2, requires_grad=True), torch.randn(6000, 2)
    catalogue_logsumexp(hidden, weight).sum().backward()
    sizes, places = zip(*seen, strict=True)
    assert max(sizes) <= max(1 << 12, 256 * positions)
    assert sum(sizes) == 2 * positions * 5999
    assert len(set(places)) <= 2


def test_half_precision_around_it_does_not_reach_the_softmax():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(6, 16, generator=generator), torch.randn(500, 16, generator=generator)
    expected = masked_item_loss(hidden, torch.arange(1, 7), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = masked_item_loss(hidden, torch.arange(1, 7), weight)
        scores = candidate_scores(hidden, weight, torch.tensor([[1, 2]] * 6))
    assert found.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(found, expected)
