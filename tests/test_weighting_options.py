"""Which weighting a method gets, and which part takes which option."""

from __future__ import annotations

import pytest

from cvr_plugins.assembly import OptionError, assemble
from cvr_plugins.contracts import Layout, Method
from cvr_plugins.objectives import ESMM, NISE
from cvr_plugins.plugins import UnknownName, registry
from cvr_plugins.weightings import Dynamic

LAYOUT = Layout((4, 4))
BUILT_IN = {entry.key: entry.value for entry in registry().entries("weighting")}
METHODS = [entry.value for entry in registry().entries("method")]


def weighting_of(method, weighting=None, **options):
    return assemble(method, weighting=weighting, options=options).build(LAYOUT)[2]


def test_without_being_asked_for_a_method_has_the_weighting_that_it_names():
    found = {method.name: type(weighting_of(method)) for method in METHODS}
    assert found == {m.name: BUILT_IN[m.weighting] if m.weighting else type(None) for m in METHODS}
    assert found["NISE"] is Dynamic


def test_options_reach_the_weighting():
    assert weighting_of("ESMM", "fixed", cvr_weight=3).cvr_weight == 3
    assert weighting_of("NISE", alpha=0.5, beta=5).beta == 5
    assert weighting_of("IdeFN", "dwa", temperature=1.5, gamma=3.0, alpha=0.9).temperature == 1.5
    found = weighting_of("ESCM2_DR", "dtp", focal_gamma=2, running_average=0.1, update_every=7, lambda_cvr=0.3)
    assert (found.focal_gamma, found.running_average, found.update_every) == (2, 0.1, 7)


def test_the_options_that_parts_accept_are_also_those_of_the_weighting():
    parts = assemble("NISE").accepted
    assert {name: p.default for name, p in parts["weighting"].items()} == {"alpha": 1.0, "beta": 50.0}
    assert set(parts["objective"]) == {"train_ctr", "unclicked"}
    assert "weighting" not in assemble("ESMM").accepted


REFUSED = [
    ("NISE", "dwa", {"alpha": 2}, r"^Unknown option 'alpha' for NISE on towers/mlp with weighting dwa\."),
    ("ESMM", None, {"temperature": 2}, "^Unknown option 'temperature' for ESMM on towers/mlp. It takes"),
    ("ESMM", "fixed", {"cvr_wieght": 2}, r"Did you mean cvr_weight\?"),
    ("ESMM", "dynamic", {"alpha": -1}, r"^ESMM, weighting 'dynamic': alpha must be a finite number above 0; got -1"),
    ("IdeFN", "dynamic", {"alpha": 0.5}, "^Option 'alpha' of IdeFN is taken by its objective and its weighting; give"),
    ("IdeFN", "fixed", {"train_ctr": False}, "IdeFN has no CTR loss with these options. Leave out weighting.$"),
    (
        "ESM2",
        "dtp",
        {"weight_ctr": 0, "update_every": 3},
        "ESM2 has no CTR loss .* Leave out weighting, update_every.$",
    ),
    ("ESMM", "fixed", {"weighting_params": 3}, r"^weighting_params must be a mapping such as \{'alpha': 0.5\}; got 3"),
    ("ESMM", "fixed", {"weighting_params": {"alfa": 3}}, "^Unknown option 'alfa' for weighting 'fixed'.* cvr_weight"),
    ("ESMM", None, {"weighting_params": {}}, "^ESMM has no weighting that weighting_params could be for; choose"),
    ("NISE", None, {"weighting_params": {}, "train_ctr": False}, "NISE has no CTR loss with these options"),
]


@pytest.mark.parametrize(("method", "weighting", "options", "message"), REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(method, weighting, options, message):
    with pytest.raises(OptionError, match=message):
        weighting_of(method, weighting, **options)


def test_an_unknown_weighting_is_refused_with_those_there_are():
    with pytest.raises(UnknownName, match=r"Unknown weighting 'dynmic'\. Did you mean dynamic\?"):
        assemble("ESMM", weighting="dynmic")
    with pytest.raises(UnknownName, match=r"Known: .*dtp, dwa, dynamic, fixed"):
        assemble("ESMM", weighting="zzz")


def test_weighting_params_part_options_of_one_name():
    assembly = assemble(
        "IdeFN", weighting="dynamic", options={"alpha": 0.9, "gamma": 3, "weighting_params": {"alpha": 0.5, "beta": 9}}
    )
    _, objective, weighting = assembly.build(LAYOUT)
    assert (objective.alpha, objective.gamma) == (0.9, 3)
    assert (weighting.alpha, weighting.beta) == (0.5, 9)
    _, objective, weighting = assemble("IdeFN", weighting="dynamic", options={"beta": 9}).build(LAYOUT)
    assert (objective.alpha, weighting.alpha, weighting.beta) == (0.8, 1.0, 9)


def test_a_methods_defaults_reach_its_own_weighting_and_stay_behind_with_another():
    method = Method("Mine", ESMM, weighting="dynamic", defaults={"alpha": 3.0, "dims": [4]})
    assert weighting_of(method).alpha == 3
    assert weighting_of(method, alpha=4).alpha == 4
    assert weighting_of(method, weighting_params={"beta": 2}).alpha == 3
    assert weighting_of(method, "fixed").cvr_weight == 1
    # It is the method's own and gives way where there is one loss; no option of it was given.
    assert weighting_of(Method("Mine", NISE, weighting="dynamic", defaults={"alpha": 3.0}), train_ctr=False) is None
