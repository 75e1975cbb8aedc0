"""Grid files: which cells they mean, and what is wrong with them before anything runs."""

from __future__ import annotations

from itertools import product

import pytest
import yaml

from cvr_plugins.grid import GridError, plan

SEEDS = [1, 2]


def dimensions(grid) -> list[tuple]:
    return [tuple(cell.dimensions.values()) for cell in grid.cells]


def test_cells_are_the_product_of_the_lists_in_order(source):
    grid = plan(source(grid={"model": ["Naive", "ESMM"], "architecture": ["towers", "mmoe"], "seed": SEEDS}))
    assert grid.dimensions == ("model", "architecture", "seed")
    assert dimensions(grid) == list(product(("Naive", "ESMM"), ("towers", "mmoe"), SEEDS))
    assert [cell.name for cell in grid.cells][:3] == ["Naive-towers-1", "Naive-towers-2", "Naive-mmoe-1"]
    assert [grid.cells[3].config[key] for key in ("architecture", "seed")] == ["mmoe", 2]


def test_a_file_is_read_like_a_run_configuration(source, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(source(learning_rate=None)) + "learning_rate: 1e-3\n")
    assert plan(path).cells[0].config["learning_rate"] == 0.001


def test_exclude_leaves_out_cells_by_value_and_by_list_of_values(source):
    grid = plan(
        source(
            grid={"model": ["Naive", "ESMM", "NISE"], "architecture": ["towers", "mmoe"], "seed": SEEDS},
            exclude=[{"model": ["Naive", "NISE"], "architecture": "mmoe"}, {"model": "ESMM", "seed": 2}],
        )
    )
    left = [("Naive", "towers"), ("Naive", "towers"), ("ESMM", "towers"), ("ESMM", "mmoe")]
    assert [cell[:2] for cell in dimensions(grid)] == [*left, ("NISE", "towers"), ("NISE", "towers")]
    assert [cell[2] for cell in dimensions(grid)] == [1, 2, 1, 1, 1, 2]
    assert grid.excluded == 6


def test_a_value_that_is_a_list_can_be_excluded(source):
    grid = plan(source(dims=None, grid={"model": ["Naive"], "dims": [[4], [8, 4]]}, exclude=[{"dims": [8, 4]}]))
    assert dimensions(grid) == [("Naive", [4])]


def test_a_cell_may_have_several_actions(source):
    grid = plan(source(grid={"model": ["ESM2"], "ACTION_FIELD": ["cart", "wish_list", ["cart", "wish_list"]]}))
    assert [cell.config["ACTION_FIELD"] for cell in grid.cells] == [["cart"], ["wish_list"], ["cart", "wish_list"]]
    assert plan(source(ACTION_FIELD=["cart", "wish_list"])).cells[0].config["ACTION_FIELD"] == ["cart", "wish_list"]
    with pytest.raises(GridError, match="are the same run"):
        plan(source(grid={"model": ["ESM2"], "ACTION_FIELD": ["cart", ["cart"]]}))


def test_overrides_set_keys_of_some_cells_and_later_ones_win(source):
    overrides = [
        {"when": {"model": "ESMM"}, "set": {"epochs": 7, "learning_rate": 0.1}},
        {"when": {"seed": 2}, "set": {"epochs": 9}},
    ]
    found = [(cell.config["epochs"], cell.config["learning_rate"]) for cell in plan(source(overrides=overrides)).cells]
    assert found == [(2, 0.02), (9, 0.02), (7, 0.1), (9, 0.1)]


def test_overrides_give_an_option_to_the_cells_that_take_it(source):
    raw = source(grid={"model": ["ESMM"], "architecture": ["towers", "mmoe"]})
    with pytest.raises(GridError, match=r"model=ESMM, architecture=towers.*n_experts.*Other cells take n_experts"):
        plan({**raw, "n_experts": 3})
    grid = plan({**raw, "overrides": [{"when": {"architecture": "mmoe"}, "set": {"n_experts": 3}}]})
    assert [dict(cell.config.options) for cell in grid.cells] == [{"dims": [4]}, {"dims": [4], "n_experts": 3}]


VARIANTS = {
    "IPS": {"model": "MultiIPW", "propensity": "logistic_ids", "epochs": 3},
    "self-normalised": {"model": "MultiIPW", "propensity": "logistic_ids", "self_normalized": True},
    "Naive": {"model": "Naive"},
}


def test_variants_are_a_dimension_whose_names_stand_for_keys(source):
    grid = plan(
        source(
            variants=VARIANTS,
            grid={"weight_decay": [0.0, 0.1], "seed": SEEDS},
            exclude=[{"variant": "Naive", "weight_decay": 0.1}],
            overrides=[{"when": {"variant": "self-normalised"}, "set": {"propensity": "uniform"}}],
        )
    )
    assert (grid.dimensions, grid.sizes, grid.excluded) == (("variant", "weight_decay", "seed"), (3, 2, 2), 2)
    assert dimensions(grid)[:2] == [("IPS", 0.0, 1), ("IPS", 0.0, 2)]
    first, last, normalised = grid.cells[0].config, grid.cells[-1].config, grid.cells[4].config
    assert (first["model"], first.options["propensity"], first["epochs"]) == ("MultiIPW", "logistic_ids", 3)
    assert (last["model"], last["epochs"], last["weight_decay"]) == ("Naive", 2, 0.0)
    assert (normalised.options["self_normalized"], normalised.options["propensity"]) == (True, "uniform")
    assert "self_normalized" not in first.options
    assert all("variant" not in cell.config.to_dict() for cell in grid.cells)


def test_variants_need_no_list_beside_them(source):
    assert dimensions(plan(source(variants=VARIANTS, grid=None))) == [("IPS",), ("self-normalised",), ("Naive",)]


def test_runs_use_one_thread_unless_told_otherwise_and_the_caller_may_replace_shared_keys(source):
    assert plan(source()).cells[0].config["threads"] == 1
    assert plan(source(threads=3)).cells[0].config["threads"] == 3
    assert plan(source(), {"epochs": 5}).cells[0].config["epochs"] == 5


def test_every_cell_has_a_name_of_its_own_that_is_safe_as_a_folder(source):
    values = {"model": ["ESMM", "builtin:Naive"], "learning_rate": [0.1, 1], "weight_decay": [0, 0.5], "seed": [1]}
    grid = plan(source(learning_rate=None, grid=values))
    names = [cell.name for cell in grid.cells]
    assert len(set(names)) == len(names) == 8
    assert names[0] == "ESMM-0.1-0-1"
    assert all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)


def test_a_number_and_the_same_text_have_different_names(source):
    grid = plan(source(dataset=None, grid={"model": ["ESMM"], "dataset": ["1", "a/b", "a_b", "a" * 300]}))
    names = [cell.name for cell in grid.cells]
    assert len(set(names)) == 4
    assert names[2] == "ESMM-a_b"
    assert all(len(name) < 100 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": None}, "needs the key 'grid'"),
        ({"grid": ["ESMM"]}, "needs the key 'grid'"),
        ({"grid": {"model": "ESMM"}}, "must be a list of values; got 'ESMM'"),
        ({"grid": {"model": ["ESMM"], "seed": []}}, "'seed' of the grid must be a list"),
        ({"grid": {"model": ["ESMM", "ESMM"]}}, "more than once"),
        ({"grid": {"model": ["ESMM"], "epochs": [1, 2]}}, "'epochs' is a dimension of the grid and a key beside it"),
        ({"grid": {"model": ["ESMM"], "checkpoint_dir": ["a"]}}, "cannot be a dimension"),
        ({"grid": {"model": ["ESMM"], "error": ["a"]}}, "column of that name"),
        ({"grid": {"model": ["ESMM", "esmm"]}}, "are the same run"),
        ({"grid": {"model": ["NISE"], "weighting": [None, "dynamic"]}}, "are the same run"),
        ({"dims": None, "grid": {"model": ["ESMM"], "dims": [[160, 80]], "dropout": [0, 0.0]}}, "more than once"),
        ({"grid": {"model": ["ESM"]}}, "Did you mean .*ESMM"),
        ({"grid": {"seed": [1, 2]}}, "No model given"),
        ({"grid": {"model": ["ESMM"], "seed": [1, "two"]}}, r"model=ESMM, seed=two: seed must be a"),
        ({"grid": {"model": ["ESMM"], "epocs": [1, 2]}}, r"Unknown key 'epocs'.*epochs"),
        ({"metrics": ["auk"]}, "Unknown metric 'auk'"),
        ({"checkpoint_dir": "x"}, "checkpoint_dir plays no role"),
        ({"exclude": {"model": "ESMM"}}, "exclude must be a list"),
        ({"exclude": [{}]}, "exclude names cells by dimension"),
        ({"exclude": [{"modle": "ESMM"}]}, "Did you mean model"),
        ({"exclude": [{"model": "ESM"}]}, "takes no value 'ESM' in this grid. Did you mean ESMM"),
        ({"exclude": [{"model": ["ESMM", "Naive"]}]}, "no cell left"),
        ({"overrides": [{"model": "ESMM"}]}, "An entry of overrides is"),
        ({"overrides": [{"when": {"model": "ESM"}, "set": {}}]}, "Did you mean .*ESMM"),
        ({"overrides": [{"when": {"model": "ESMM"}, "set": {"seed": 3}}]}, "is a dimension of the grid"),
        ({"overrides": [{"when": {"model": "ESMM"}, "set": {"show_progress": False}}]}, "no difference between cells"),
        ({"overrides": [{"when": {"model": "ESMM"}, "set": {"epochs": -1}}]}, "epochs must be at least 1"),
        ({"variants": ["IPS"]}, "variants must be names with keys"),
        ({"variants": {1: {"model": "Naive"}}}, "1 cannot name a variant"),
        ({"variants": {"IPS": "MultiIPW"}}, "'IPS' must hold keys of a run"),
        ({"variants": {"IPS": {"seed": 1}}}, "'seed' is a dimension of the grid and a key of variant 'IPS'"),
        ({"variants": {"IPS": {"checkpoint_dir": "x"}}}, "'IPS' sets 'checkpoint_dir'"),
        ({"variants": {"IPS": {"model": "MultiIPW", "epocs": 1}}, "grid": None}, "variant=IPS: Unknown key 'epocs'"),
        ({"variants": {"a": {"model": "ESMM"}, "b": {"model": "esmm"}}, "grid": None}, "are the same run"),
        ({"variants": VARIANTS, "grid": {"variant": ["a"]}}, "'variant' cannot be a dimension"),
        ({"grid": {"variant": ["a"], "model": ["ESMM"]}}, "put the variants' keys under 'variants'"),
        ({"dims": [float("nan")]}, "no text, number, list or mapping"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(source, changes, message):
    raw = {**source(), **changes}
    raw = {key: value for key, value in raw.items() if value is not None}
    with pytest.raises(ValueError, match=message) as raised:
        plan(raw)
    assert type(raised.value).__module__.startswith("cvr_plugins.")
    assert "\n" not in str(raised.value)


def test_dimensions_take_other_values_and_what_is_said_of_those_left_out_is_of_no_cell():
    source = {
        "dataset": "ml-100k-funnel",
        "grid": {"model": ["Naive", "ESMM", "NISE"], "seed": [1, 2, 3], "dims": [[8], [4]]},
        "exclude": [{"model": "NISE", "seed": 3}],
        "overrides": [{"when": {"model": "NISE"}, "set": {"alpha": 2.0}}],
    }
    found = plan(source, {"model": ["ESMM", "NISE", "DCMT"], "seed": 3, "dims": [4], "epochs": 7})
    assert [cell.dimensions for cell in found.cells] == [
        {"model": "ESMM", "seed": 3, "dims": [4]},
        {"model": "DCMT", "seed": 3, "dims": [4]},
    ]
    assert {cell.config["epochs"] for cell in found.cells} == {7}
    assert found.source["grid"] == {"model": ["ESMM", "NISE", "DCMT"], "seed": [3], "dims": [[4]]}
    assert plan(found.source).cells == found.cells
    assert len(plan(source, {"model": "ESMM"}).cells) == 6


def test_variants_are_chosen_by_name():
    source = {"dataset": "ml-100k-funnel", "variants": {"A": {"model": "Naive"}, "B": {"model": "ESMM"}}}
    found = plan(source, {"variant": "B"})
    assert [cell.dimensions for cell in found.cells] == [{"variant": "B"}]
    with pytest.raises(GridError, match="no variant 'C'"):
        plan(source, {"variant": ["A", "C"]})
