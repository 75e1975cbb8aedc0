"""torch-rechub's features as an encoder's: equal to its own layer, in tables of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.basic.initializers import Pretrained, XavierUniform
from torch_rechub.basic.layers import EmbeddingLayer

from cvr_plugins.encoder import Encoder
from cvr_plugins.rechub import ESMM
from cvr_plugins.rechub.features import fields_of


def encoder_of(features):
    return Encoder(fields_of(features))


@pytest.fixture
def plain():
    """Features that torch-rechub's own layer takes: equally wide, none named like an attribute of a module."""
    return [
        SparseFeature("user", 40, embed_dim=4),
        SequenceFeature("genres", 12, embed_dim=4, padding_idx=0),
        SequenceFeature("seen", 25, embed_dim=4, pooling="sum", shared_with="item"),
        SparseFeature("item", 25, embed_dim=4),
        DenseFeature("age"),
    ]


def test_it_matches_torch_rechubs_own_embedding_layer(plain, log, tensors):
    encoder, stock = encoder_of(plain), EmbeddingLayer(plain)
    with torch.no_grad():
        for name, table in zip(["user", "genres", "item"], encoder.tables, strict=True):
            table.weight.normal_()
            stock.embed_dict[name].weight.copy_(table.weight)
    x = log(50).x
    x = {"user": x["user"], "genres": x["type"], "item": x["keys"], "age": x["a.b"], "seen": x["type"] - 1}
    batch = tensors(x)
    # The stock layer cannot look up -1, so its padding is compared on rows that have none.
    full = {name: values[(x["seen"] >= 0).all(axis=1)] for name, values in batch.items()}
    assert len(full["age"])
    torch.testing.assert_close(encoder(full), stock(full, plain, squeeze_dim=True), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(encoder(batch)[:, :8], stock(batch, plain[:2], squeeze_dim=True), rtol=1e-6, atol=1e-7)


def test_pretrained_weights_are_copied_and_stay_frozen_or_not():
    weights = torch.arange(12.0).reshape(4, 3)
    before = weights.clone()
    frozen = SparseFeature("u", 4, embed_dim=3, initializer=Pretrained(weights, freeze=True))
    free = SparseFeature("i", 4, embed_dim=3, initializer=Pretrained(weights, freeze=False))
    first, second = encoder_of([frozen, free]), encoder_of([frozen, free])
    assert [p.requires_grad for p in first.parameters()] == [False, True]
    with torch.no_grad():
        for p in first.parameters():
            p.zero_()
    assert all(torch.equal(table.weight, before) for table in second.tables)


def test_the_initializer_of_a_feature_is_used():
    torch.manual_seed(1)
    encoder = encoder_of([SparseFeature("u", 6, embed_dim=4, initializer=XavierUniform())])
    torch.manual_seed(1)
    expected = XavierUniform()(6, 4)
    assert torch.equal(encoder.tables[0].weight, expected.weight)


REFUSED = [
    ([SparseFeature("u", 5, embed_dim=4), "u"], "Features must be torch-rechub's .* got str: 'u'"),
    ([SequenceFeature("s", 5, 4, pooling="concat")], "'s' has pooling 'concat'; CVR models take 'mean' or 'sum'"),
    (
        [SparseFeature("s", 7, 4, initializer=Pretrained(np.zeros((5, 4)).tolist()))],
        "makes no table of vocab_size 7 and embed_dim 4: its weights have another shape",
    ),
]


@pytest.mark.parametrize(("features", "message"), REFUSED)
def test_unusable_features_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        ESMM(features)
