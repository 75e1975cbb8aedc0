"""Every option of every registered part, and of the sequential models, refuses a value of another kind by its name."""

from __future__ import annotations

import math
import re

import pytest

from cvr_plugins.assembly import assemble, options_of
from cvr_plugins.contracts import Layout
from cvr_plugins.plugins import registry
from cvr_plugins.sequential import MaskedItemCore, PARSCore, PARSEncoder, SessionEncoder

# Of two fields, which every backbone takes; and a method of all the heads that an architecture may ask for.
LAYOUT, METHOD = Layout((4, 4)), "MultiDR"

WRONG = {
    bool: ("no", 0),
    int: (-1, 1.5, True, "5"),
    float: (-1.0, math.nan, True, "0.1"),
    str: ("nothing", None, 1),
    tuple: ("nothing", 3),
}
"""Kind of an option's default -> values that no option of that kind takes."""

OUTSIDE = {
    **dict.fromkeys(("lambda_cvr", "lambda_imputation", "weight_ctcvr", "gamma", "regularization"), (0, math.inf)),
    **dict.fromkeys(("alpha", "beta", "cvr_weight", "temperature", "layer_norm_eps"), (0,)),
    **dict.fromkeys(("propensity_floor", "running_average"), (0, 1.5)),
    **dict.fromkeys(("kappa", "mask_ratio"), (0, 1)),
    **dict.fromkeys(("dropout", "tower_dropout", "shared_fraction", "prune_rate"), (1,)),
    **dict.fromkeys(("agreement", "target_sparsity", "gradient_share", "alpha_new", "ft_ratio"), (1.5,)),
    **dict.fromkeys(("hidden_dropout_prob", "attn_dropout_prob"), (1.5,)),
    **dict.fromkeys(("memory_size", "outer_steps", "update_every", "n_experts", "n_levels", "n_layers"), (0,)),
}
"""Option -> values of its kind that lie just outside its range."""


def parts():
    """(id, its options, how it is built with some of them)."""
    for kind in ("method", "architecture", "backbone", "weighting"):
        for entry in registry().entries(kind):
            value = entry.value.objective if kind == "method" else entry.value
            chosen = {"method": METHOD, kind: entry.key}

            def build(options, chosen=chosen):
                return assemble(**chosen, options=options).build(LAYOUT)

            yield pytest.param(options_of(value), build, id=f"{kind} {entry.key}")
    for encoder in (SessionEncoder, PARSEncoder):
        yield pytest.param(
            options_of(encoder), lambda options, encoder=encoder: encoder(9, **options), id=encoder.__name__
        )
    for core in (MaskedItemCore, PARSCore):
        yield pytest.param(
            options_of(core), lambda options, core=core: core(PARSEncoder(9), **options), id=core.__name__
        )


@pytest.mark.parametrize(("options", "build"), list(parts()))
def test_a_value_that_makes_no_sense_is_refused_by_name(options, build):
    for option, parameter in options.items():
        for value in (*WRONG.get(type(parameter.default), ()), *OUTSIDE.get(option, ())):
            # A tower is told by its head, and its options by MLP's names.
            name = option.removeprefix("tower_")
            with pytest.raises(ValueError, match=rf"\b{name}\b.* must be .*; got {re.escape(repr(value))}"):
                build({option: value})
