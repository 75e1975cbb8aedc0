"""Features to the concatenated input: a NumPy twin, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvr_plugins.encoder import Encoder, Field, normal_table

STATS = {"age": (30.0, 8.0), "vector": (-1.0, 0.5), "constant": (2.0, 0.0)}


@pytest.fixture
def rich():
    """One encoder with every kind of feature; tables in float64 with weights that are not tiny."""

    def make(**options):
        torch.manual_seed(5)
        encoder = Encoder(
            [
                Field("type", "token", 3, 9),
                Field("age", "dense", 1),
                Field("a.b", "token_seq", 2, 6, padding=0),
                Field("keys", "token", 3, 9, shared_with="type"),
                Field("history", "token_seq", 3, 9, pooling="sum", shared_with="type"),
                Field("vector", "dense", 2),
                Field("constant", "dense", 1),
            ],
            **options,
        ).double()
        with torch.no_grad():
            for table in encoder.tables:
                table.weight.normal_()
        return encoder

    return make


def tensors(x):
    return {name: torch.as_tensor(values) for name, values in x.items()}


def rich_batch():
    rng = np.random.default_rng(2)
    return {
        "type": rng.integers(0, 9, 5),
        "keys": rng.integers(0, 9, 5),
        "a.b": np.array([[1, 0, 0], [2, 3, 0], [0, 0, 0], [5, 0, 4], [1, 1, 1]]),
        "history": np.array([[3, -1], [-1, -1], [8, 8], [-1, 2], [0, 1]]),
        "age": rng.normal(30, 8, 5),
        "vector": rng.normal(size=(5, 2)),
        "constant": np.array([2.0, 2.0, 2.0, 3.0, 1.0]),
    }


def numpy_twin(x, types, ab, tanh):
    """Row by row and position by position, as the docstring says."""
    rows = []
    for i in range(5):
        real = [t for t in x["a.b"][i] if t != 0]
        mean = np.mean([ab[t] for t in real], axis=0) if real else np.zeros(2)
        total = np.sum([types[t] for t in x["history"][i] if t != -1], axis=0) + np.zeros(3)
        dense = np.array([x["age"][i], *x["vector"][i], x["constant"][i]])
        if tanh:
            dense = np.tanh((dense - [30.0, -1.0, -1.0, 2.0]) / [8.0, 0.5, 0.5, 1.0])
        rows.append(np.concatenate([types[x["type"][i]], mean, types[x["keys"][i]], total, dense]))
    return np.array(rows)


@pytest.mark.parametrize("tanh", [False, True], ids=["raw", "tanh"])
@pytest.mark.parametrize("id_type", [torch.int64, torch.int32, torch.float32])
def test_it_matches_a_numpy_twin(rich, tanh, id_type):
    encoder = rich(dense="tanh", dense_stats=STATS) if tanh else rich()
    x = rich_batch()
    batch = tensors(x)
    for name in ("type", "keys", "a.b", "history"):
        batch[name] = batch[name].to(id_type)
    types, ab = (table.weight.detach().numpy() for table in encoder.tables)
    found = encoder(batch)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach().numpy(), numpy_twin(x, types, ab, tanh), rtol=1e-12)
    assert encoder.layout.embedded == (3, 2, 3, 3)
    assert encoder.layout.dense == 4
    assert encoder.layout.names == ("type", "a.b", "keys", "history")


def test_only_real_positions_of_a_sequence_get_gradients(rich):
    encoder = rich()
    encoder(tensors(rich_batch())).sum().backward()
    types, ab = (table.weight.grad for table in encoder.tables)
    assert torch.equal(ab[0], torch.zeros(2, dtype=torch.float64))
    # Row 1 holds tokens 2 and 3, each half of the mean.
    torch.testing.assert_close(ab[2], torch.full((2,), 0.5, dtype=torch.float64))
    x = rich_batch()
    counts = np.bincount(np.concatenate([x["type"], x["keys"], x["history"][x["history"] >= 0]]), minlength=9)
    np.testing.assert_array_equal(types.numpy(), np.repeat(counts[:, None], 3, axis=1).astype(float))


def test_initial_embeddings_are_drawn_with_the_asked_spread_and_a_zero_for_padding():
    torch.manual_seed(0)
    table = normal_table(2000, 8, padding_idx=0, std=0.3)
    assert table.weight[1:].std().item() == pytest.approx(0.3, rel=0.05)
    assert not table.weight[0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_features_alone_follow_the_models_type(dtype):
    encoder = Encoder([Field("age", "dense", 1)], dense="tanh", dense_stats=STATS).to(dtype)
    found = encoder({"age": torch.tensor([22, 30])})
    torch.testing.assert_close(found, torch.tensor([[np.tanh(-1.0)], [0.0]], dtype=dtype))


def test_the_statistics_of_dense_features_are_state(rich):
    encoder = rich(dense="tanh", dense_stats=STATS)
    other = rich(dense="tanh", dense_stats=dict.fromkeys(STATS, (0.0, 1.0)))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(tensors(rich_batch())), other(tensors(rich_batch())))


TOKEN = Field("u", "token", 4, 5)
DENSE = Field("d", "dense", 1)
REFUSED = [
    ([], {}, "A model needs at least one feature"),
    ([TOKEN, Field("u", "dense", 1)], {}, "Two features are named 'u'"),
    ([Field("s", "token_seq", 4, 5, pooling="concat")], {}, "'s' has pooling 'concat'; CVR models take 'mean' or"),
    ([Field("s", "token", 4, 5, shared_with="nobody")], {}, "shared_with='nobody', which is not a feature"),
    ([DENSE, Field("s", "token", 4, 5, shared_with="d")], {}, "shared_with='d', which is not a feature"),
    (
        [TOKEN, Field("s", "token", 4, 5, shared_with="u"), Field("t", "token", 4, 5, shared_with="s")],
        {},
        "'t' has shared_with='s', which is not a feature with a table of its own",
    ),
    ([TOKEN, Field("s", "token", 3, 5, shared_with="u")], {}, "declares embed_dim 3, not 4"),
    ([Field("s", "token", 4, -3)], {}, "initializer of feature 's' makes no table of vocab_size -3"),
    ([TOKEN], {"dense": "log"}, "dense must be one of raw, tanh; got 'log'"),
    ([TOKEN], {"dense_stats": {}}, "dense_stats is only used with dense='tanh'"),
    ([DENSE], {"dense": "tanh"}, r"needs dense_stats .* missing: \['d'\]"),
    ([DENSE], {"dense": "tanh", "dense_stats": {"d": (0.0, -1.0)}}, "dense_stats of 'd' must be a finite"),
    ([DENSE], {"dense": "tanh", "dense_stats": {"d": (np.nan, 1.0)}}, "dense_stats of 'd' must be"),
    ([DENSE], {"dense": "tanh", "dense_stats": {"d": 3.0}}, "dense_stats of 'd' must be .* got 3.0"),
]


@pytest.mark.parametrize(("listed", "options", "message"), REFUSED)
def test_unusable_features_are_refused(listed, options, message):
    with pytest.raises(ValueError, match=message):
        Encoder(listed, **options)


BAD_BATCHES = [
    ({"keys": None}, r"The batch lacks the features \['keys'\]; it has \['a.b', 'age',"),
    ({"type": [0, 1, 9, 10, 2]}, "'type' has 2 ids outside its table, which holds 0 to 8; the first is 9"),
    ({"type": [0, 1, -1, 0, 2]}, "'type' has 1 ids outside its table, which holds 0 to 8; the first is -1"),
    ({"keys": [0, 1, 11, 0, 2]}, "'keys' has 1 ids outside its table of 'type', which holds 0 to 8"),
    ({"a.b": [[0, 6]] * 5}, "'a.b' has 5 ids outside its table, which holds 0 to 5; the first is 6"),
    ({"a.b": [[0, -1]] * 5}, "'a.b' has 5 ids outside its table, which holds 0 to 5; the first is -1"),
    ({"history": [[-2, -1]] * 5}, "'history' has 5 ids outside its table of 'type'"),
    ({"type": [[1]] * 5}, r"Feature 'type' takes values \[B\], .* shape \[5, 1\]"),
    ({"a.b": [1] * 5}, r"Feature 'a.b' takes values \[B, L\], one row of ids per exposure; .* shape \[5\]"),
    ({"vector": [1.0] * 5}, r"Dense feature 'vector' was declared 2 wide; the batch has shape \[5\]"),
    ({"age": [[[1.0]]] * 5}, r"Dense feature 'age' was declared 1 wide; the batch has shape \[5, 1, 1\]"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_BATCHES)
def test_a_batch_that_does_not_fit_is_refused_by_name(rich, changed, message):
    batch = tensors({**rich_batch(), **{name: v for name, v in changed.items() if v is not None}})
    for name, values in changed.items():
        if values is None:
            del batch[name]
    with pytest.raises(ValueError, match=message):
        rich()(batch)
