"""The shipped configurations of funnel logs: a file for each data set and any method, and grids in step with it."""

from __future__ import annotations

import numpy as np
import pytest

from cvr_plugins.cli.configs import config_names, configs_root, find_config
from cvr_plugins.config import KEYS, load_yaml, resolve
from cvr_plugins.contracts import Method
from cvr_plugins.data import Schema, Vocabulary
from cvr_plugins.data.movielens import SCHEMA as ML_100K
from cvr_plugins.data.published._ali_ccp import _schema as ali_ccp_schema
from cvr_plugins.data.published._kuairand import _SCHEMA as KUAIRAND
from cvr_plugins.grid import plan as plan_grid
from cvr_plugins.plugins import registry
from cvr_plugins.rechub.build import build_model
from cvr_plugins.rechub.plan import plan
from cvr_plugins.rechub.runner import run

METHODS = [entry.value for entry in registry().entries("method") if entry.plugin == "builtin"]
GRIDS = [name for name in config_names() if "grid" in load_yaml(find_config(name))]
SCHEMAS = {"ml-100k-funnel": ML_100K, "ali-ccp": ali_ccp_schema(), "kuairand-pure": Schema(**KUAIRAND)}
"""Those of the sessions are looked after by tests/recbole/sequential."""

REPORTED_SIZES = {"ali-ccp": [160, 80], "kuairand-pure": [512, 256, 128, 64]}


def vocabulary(schema: Schema) -> Vocabulary:
    """Three tokens and two-long sequences for every feature of a schema."""

    names = {
        kind: [each.name for each in schema.features if each.kind == kind] for kind in ("token", "token_seq", "float")
    }
    tokens = dict.fromkeys(names["token"] + names["token_seq"], ("a", "b", "c"))
    lengths, floats = dict.fromkeys(names["token_seq"], 2), dict.fromkeys(names["float"], (0.0, 1.0))
    return Vocabulary(schema.features, (schema.user, schema.item), tokens, lengths, floats)


def configured(dataset: str, method: Method, **changes):
    return resolve(load_yaml(find_config(dataset)), {"model": method.name, **changes})


def built(config):
    import torch

    schema = SCHEMAS[config["dataset"]]
    model = build_model(plan(config).config, schema, vocabulary(schema))
    model.eval()
    values = {"token": [2, 3, 4], "token_seq": [[2, 3], [4, 0], [0, 0]], "float": [0.0, 0.5, 1.0]}
    with torch.no_grad():
        return model({feature.name: torch.tensor(values[feature.kind]) for feature in schema.features})


def test_each_file_is_of_a_data_set_and_leaves_the_method_open_or_is_one_of_its_grids():
    datasets = {entry.key for entry in registry().entries("dataset")}
    for name in set(config_names()) - set(GRIDS):
        content = load_yaml(find_config(name))
        assert content["dataset"] == name in datasets
        assert not {"model", "architecture", "backbone", "weighting"} & set(content)
    assert {name.split("/")[0] for name in GRIDS} == set(SCHEMAS) <= set(config_names())
    assert {path.suffix for path in configs_root().rglob("*") if path.is_file()} == {".yaml"}


@pytest.mark.parametrize("dataset", SCHEMAS)
def test_the_settings_of_a_data_set_are_for_every_method(dataset):
    for method in METHODS:
        config = configured(dataset, method)
        planned = plan(config)
        assert planned.method == method.name
        assert {key: planned.config[key] for key in KEYS if key in config.given} == {
            key: config[key] for key in KEYS if key in config.given
        }


@pytest.mark.parametrize("dataset", REPORTED_SIZES)
def test_the_papers_settings(dataset):
    for name in (name for name in config_names() if name.split("/")[0] == dataset):
        raw = load_yaml(find_config(name))
        assert raw["dims"] == REPORTED_SIZES[dataset]
        config = resolve({"model": "ESMM"}, {k: v for k, v in raw.items() if k in KEYS})
        values = [config[key] for key in ("embedding_size", "learner", "learning_rate", "weight_decay")]
        assert values == [16, "adam", 1e-3, 1e-5]
        assert config["train_batch_size"] == 2048


@pytest.mark.parametrize("name", GRIDS)
def test_the_cells_of_a_grid_are_runs_of_the_data_sets_file(name):
    """Where no other part is asked for; so what a grid states of a method is what the method has without it."""
    grid = plan_grid(load_yaml(find_config(name)))
    assert len({cell.dimensions.get("seed") for cell in grid.cells}) == 5
    compared = 0
    for cell in grid.cells:
        method = registry().method(cell.identity["model"])
        single = configured(name.split("/")[0], method, threads=1, seed=cell.config["seed"])
        ours, theirs = (plan(config).config.to_dict() for config in (cell.config, single))
        if all(ours[part] == theirs[part] for part in ("architecture", "backbone", "weighting")):
            compared += 1
            assert ours == theirs
    assert compared >= 5


@pytest.mark.parametrize("name", GRIDS)
def test_the_cells_of_a_grid_build(name):
    cells = plan_grid(load_yaml(find_config(name))).cells
    for cell in cells:
        if cell.dimensions["seed"] == cells[0].dimensions["seed"]:
            assert np.isfinite(built(cell.config).numpy()).all()


def test_the_grids_have_every_method_and_the_tables_of_the_papers_their_cells():
    cells = plan_grid(load_yaml(find_config("ml-100k-funnel/grid"))).cells
    assert {cell.dimensions["model"] for cell in cells} == {method.name for method in METHODS}
    two = plan_grid(load_yaml(find_config("ali-ccp/grid-table2"))).cells
    rows = {(c.dimensions["backbone"], c.dimensions["model"], c.dimensions["architecture"]) for c in two}
    for backbone in ("mlp", "deepfm", "dcn_v2"):
        assert {row[1:] for row in rows if row[0] == backbone} == {
            ("ESMM", "towers"),
            ("ESMM", "mmoe"),
            *((model, "towers") for model in ("ESCM2_IPS", "ESCM2_DR", "DCMT", "NISE", "IdeFN")),
        }
    five = plan_grid(load_yaml(find_config("kuairand-pure/grid-table5"))).cells
    mixtures = {
        cell.dimensions["architecture"]: {k: v for k, v in cell.config.options.items() if "experts" in k}
        for cell in five
    }
    assert mixtures == {
        "towers": {},
        "mmoe": {"n_experts": 8},
        "ple": {"n_shared_experts": 4, "n_specific_experts": 4},
    }


def log_of(schema: Schema, rows: int):
    """A log of random rows with the columns of a schema, written as people would have it."""
    import pandas as pd

    rng = np.random.default_rng(0)
    columns: dict[str, object] = {}
    for feature in schema.features:
        if feature.kind == "float":
            columns[feature.name] = rng.random(rows)
        else:
            columns[feature.name] = rng.integers(1, 9, rows)
    click = rng.integers(0, 2, rows)
    columns |= {schema.click: click, schema.conversion: click * rng.integers(0, 2, rows)}
    columns |= {name: click * rng.integers(0, 2, rows) for name in schema.labels.get("action", ())}
    if schema.timestamp is not None:
        columns[schema.timestamp] = np.arange(rows)
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Small files in the published layouts, data set -> folder."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("ali-ccp", "kuairand-pure")}
    for part, rows in (("train", 300), ("val", 100), ("test", 100)):
        log_of(SCHEMAS["ali-ccp"], rows).to_csv(folders["ali-ccp"] / f"ali_ccp_{part}.csv", index=False)
    schema, folder = SCHEMAS["kuairand-pure"], folders["kuairand-pure"]
    log = log_of(schema, 400)
    for side, key, file in (("user", "user_id", "user_features"), ("item", "video_id", "video_features_basic")):
        names = [feature.name for feature in schema.features if feature.side == side]
        log.drop_duplicates(key)[names].to_csv(folder / f"{file}_pure.csv", index=False)
    kept = ["user_id", "video_id", *schema.label_columns, schema.timestamp]
    for number, name in enumerate(("4_08_to_4_21", "4_22_to_5_08")):
        log.iloc[number::2][kept].to_csv(folder / f"log_standard_{name}_pure.csv", index=False)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("dataset", REPORTED_SIZES)
def test_a_run_on_small_files_of_the_published_layout(dataset, published, tmp_path):
    has = SCHEMAS[dataset].labels
    # The method that asks for most of what the data set has.
    method = max((m for m in METHODS if set(m.objective().needs) <= set(has)), key=lambda m: len(m.objective().needs))
    changes = {"data_path": str(published[dataset]), "epochs": 1, "allow_unready": True, "threads": 1}
    result = run(configured(dataset, method, **changes), folder=tmp_path / "run")
    assert result.report.get("cvr/entire/auc") is not None
    assert result.parts["test"]["rows"] == (100 if dataset == "ali-ccp" else 80)
