"""Every method of this package passes every check, and so do the variants that its options make."""

from __future__ import annotations

import pytest

from cvr_plugins.methods import METHODS
from cvr_plugins.testing import check_method, method_checks

OWN = [check.name for check in method_checks() if check.name not in ("architectures", "weightings")]
"""Checks of what a variant is; with which other parts its method works does not depend on its options."""

VARIANTS = [
    ("ESCM2_IPS", {"self_normalized": True}),
    ("ESCM2_DR", {"imputes": "conversion", "imputation_weights": "variance", "self_normalized": True}),
    ("DR_JL", {"lambda_ctcvr": 1.0, "dropout": 0.2, "ctr_params": {"dims": [16]}}),
    ("TDR_JL", {"lambda_ctcvr": 1.0, "propensity_floor": 0.1}),
    ("IPS_V2", {"balances": "embedding"}),
    ("DR_V2", {"balances": "embedding", "balance_trains": "propensity", "architecture": "mmoe"}),
    ("AS_IPS", {"warm_up": 1, "self_normalized": False}),
    ("AS_IPS", {"warm_up": 2, "pretrain": False}),
    ("AdapSL", {"warm_up": 1, "prune_rate": 0.3, "gradient_share": 0.5, "target_sparsity": 0.95}),
    ("DCMT", {"self_normalized": False}),
    ("DCMT", {"lambda_constraint": 0.0, "lambda_ctcvr": 0.0}),
    ("NISE", {"train_ctr": False}),
    ("NISE", {"unclicked": False}),
    ("NISE", {"weighting": "fixed"}),
    ("NISE", {"weighting": "dwa"}),
    ("NISE", {"weighting": "dtp", "update_every": 3}),
    ("IdeFN", {"train_ctr": False}),
    ("IdeFN", {"unclicked": False}),
    ("IdeFN", {"memory_size": 16, "relabel": "argmax"}),
    ("ESM2", {"weight_ctr": 0.0}),
    ("ESMM", {"architecture": "mmoe", "backbone": "dcn_v2"}),
    ("DR_JL", {"architecture": "ple", "n_levels": 2, "n_shared_experts": 1, "n_specific_experts": 1}),
    ("DCMT", {"architecture": "shared_bottom", "backbone": "deepfm"}),
]


@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_a_builtin_method_passes_every_check(name):
    assert len(check_method(name)) == len(method_checks())


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda part: str(part))
def test_its_variants_pass_too(name, options):
    check_method(name, checks=OWN, options=options)
