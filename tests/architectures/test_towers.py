"""Towers against NumPy, and what belongs to which head."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from cvr_plugins.architectures import MLP, Towers
from cvr_plugins.contracts import Layout

HEADS = ("ctr", "cvr")
LAYOUT = Layout((2, 3), dense=1)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_towers_match_numpy(batch_norm, randomise, numpy_mlp, batch):
    model = Towers(
        LAYOUT, HEADS, backbone=partial(MLP, dims=(6, 5), batch_norm=batch_norm), head_options={"cvr": {"dims": (3,)}}
    )
    state, x = randomise(model), batch(7, LAYOUT.width)
    out = model(x)
    assert out.embedding is x
    for head in HEADS:
        hidden = numpy_mlp(state, f"towers.{head}.", x.numpy(), batch_norm=batch_norm)
        logit = hidden @ state[f"logits.{head}.weight"][0] + state[f"logits.{head}.bias"]
        np.testing.assert_allclose(out.hidden[head].detach().numpy(), hidden, rtol=1e-9)
        np.testing.assert_allclose(out.logits[head].detach().numpy(), logit, rtol=1e-9)
    assert out.hidden["ctr"].shape == (7, 5)
    assert out.hidden["cvr"].shape == (7, 3)


def test_options_for_a_head_there_is_not_are_refused():
    with pytest.raises(ValueError, match=r"Options for unknown heads \['cvt'\]; this method's heads are"):
        Towers(LAYOUT, HEADS, backbone=MLP, head_options={"cvt": {"dims": (3,)}})
