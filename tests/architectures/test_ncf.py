"""NCF: an MLP on two embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvr_plugins.architectures import MLP, NCF
from cvr_plugins.contracts import Layout

TWO = Layout((4, 4), names=("user", "item"))


def test_it_is_the_mlp_of_the_published_shape():
    torch.manual_seed(0)
    ncf = NCF(TWO, dims=(4, 4))
    torch.manual_seed(0)
    mlp = MLP(TWO, dims=(4, 4), batch_norm=False)
    x = torch.randn(5, 8)
    assert torch.equal(ncf(x), mlp(x))
    linear = [m for m in ncf.modules() if isinstance(m, nn.Linear)]
    # With the logit's, three layers.
    assert [tuple(m.weight.shape) for m in linear] == [(4, 8), (4, 4)]
    assert ncf.output_dim == 4
    assert any(isinstance(m, nn.BatchNorm1d) for m in NCF(TWO, batch_norm=True).modules())


@pytest.mark.parametrize(
    ("layout", "got"),
    [
        (Layout((4, 4, 4), names=("user", "item", "tags")), "got user, item, tags and 0 dense values"),
        (Layout((4,), names=("user",)), "got user and 0 dense"),
        (Layout((4, 4), dense=2), "got 2 fields and 2 dense values"),
    ],
)
def test_other_inputs_than_two_embeddings_are_refused(layout, got):
    with pytest.raises(ValueError, match=f"takes two embeddings, of a user and an item; {got}.*inputs"):
        NCF(layout)
