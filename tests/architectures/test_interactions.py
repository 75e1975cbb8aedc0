"""DeepFM, DCN-V2 and NCF against NumPy, hand-worked rows and what they are built from."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from cvr_plugins.architectures import DCNV2, MLP, NCF, DeepFM
from cvr_plugins.contracts import Layout

FIELDS = Layout((3, 3, 3), dense=2)
MIXED = Layout((4, 2), dense=1)


@pytest.mark.parametrize("dims", [(5, 4), ()])
def test_deepfm_is_mlp_linear_and_pairwise_products(dims, randomise, numpy_mlp, batch):
    model = DeepFM(FIELDS, dims=dims)
    state = randomise(model)
    x = batch(6, FIELDS.width).numpy()
    v = x[:, :9].reshape(6, 3, 3)
    pairs = sum((v[:, i] * v[:, j]).sum(axis=1) for i, j in combinations(range(3), 2))
    expected = np.column_stack([numpy_mlp(state, "deep.", x), x @ state["linear.weight"][0], pairs])
    out = model(torch.from_numpy(x))
    assert out.shape == (6, model.output_dim)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12)


def test_deepfm_pairwise_term_of_a_row_worked_by_hand():
    model = DeepFM(Layout((2, 2, 2)), dims=(1,)).eval()
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, -1.0, 5.0]])
    # <(1,2),(3,4)> + <(1,2),(-1,5)> + <(3,4),(-1,5)> = 11 + 9 + 17
    assert model(x)[0, -1].item() == 37.0


def _numpy_cross(state: Any, x: np.ndarray, layers: int, low_rank: bool) -> np.ndarray:
    crossed = x
    for layer in range(layers):
        if low_rank:
            weight = state[f"cross.{layer}.map.1.weight"] @ state[f"cross.{layer}.map.0.weight"]
            bias = state[f"cross.{layer}.map.1.bias"]
        else:
            weight, bias = state[f"cross.{layer}.map.weight"], state[f"cross.{layer}.map.bias"]
        crossed = x * (np.einsum("ij,bj->bi", weight, crossed) + bias) + crossed
    return crossed


@pytest.mark.parametrize(
    ("layout", "structure", "rank", "layers"),
    [(FIELDS, "stacked", None, 1), (MIXED, "parallel", 2, 1), (FIELDS, "parallel", None, 3), (MIXED, "stacked", 2, 3)],
)
def test_dcn_v2_matches_numpy(layout, structure, rank, layers, randomise, numpy_mlp, batch):
    model = DCNV2(layout, dims=(5, 4), n_cross_layers=layers, structure=structure, rank=rank)
    state = randomise(model)
    x = batch(6, layout.width).numpy()
    crossed = _numpy_cross(state, x, layers, low_rank=rank is not None)
    if structure == "stacked":
        expected = numpy_mlp(state, "deep.", crossed)
    else:
        expected = np.concatenate([crossed, numpy_mlp(state, "deep.", x)], axis=1)
    out = model(torch.from_numpy(x))
    assert out.shape == (6, model.output_dim)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-10)


def test_dcn_v2_cross_layer_of_a_row_worked_by_hand():
    model = DCNV2(Layout((1, 1)), dims=(), n_cross_layers=2).eval()
    with torch.no_grad():
        for layer in model.cross:
            layer.map.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
            layer.map.bias.copy_(torch.tensor([0.5, 1.0]))
    # x1 = (2 (2 + 6 + 0.5) + 2, 3 (-3 + 1) + 3) = (19, -3); x2 = (2 (19 - 6 + 0.5) + 19, 3 (3 + 1) - 3) = (46, 9)
    assert model(torch.tensor([[2.0, 3.0]])).tolist() == [[46.0, 9.0]]


def test_ncf_is_an_mlp_of_the_published_shape():
    # With the logit's, three layers.
    ncf = NCF(Layout((4, 4), names=("user", "item")), dims=(4, 4))
    assert repr(ncf.layers) == repr(MLP(Layout((8,)), dims=(4, 4), batch_norm=False).layers)
    assert ncf.output_dim == 4


@pytest.mark.parametrize("backbone", [DeepFM, DCNV2])
def test_the_deep_part_takes_the_mlps_options(backbone):
    model = backbone(FIELDS, dims=[7], activation="tanh", dropout=0.3, batch_norm=False)
    same = MLP(FIELDS, dims=[7], activation="tanh", dropout=0.3, batch_norm=False)
    assert repr(model.deep) == repr(same)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeepFM(MIXED), "one embedding size for all features; got field 0: 4, field 1: 2"),
        (lambda: DeepFM(Layout((4,), dense=3)), "at least two embedded features to interact; got 1"),
        (lambda: DeepFM(FIELDS, dims=(0,)), "dims must be a list of positive integers"),
        (lambda: DCNV2(FIELDS, rank=0), "rank must be a whole number of at least 1; got 0"),
        (lambda: DCNV2(FIELDS, rank=12), "rank must not exceed the width of the input, 11; got 12"),
        (lambda: NCF(Layout((4, 4, 4), names=("user", "item", "tags"))), "got user, item, tags and 0 dense .*inputs"),
        (lambda: NCF(Layout((4,), names=("user",))), "two embeddings, of a user and an item; got user and 0 dense"),
        (lambda: NCF(Layout((4, 4), dense=2)), "got 2 fields and 2 dense values"),
    ],
)
def test_bad_input_is_refused_in_one_line(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
