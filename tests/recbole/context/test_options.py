"""Flat keys: the method's options, RecBole's own, and an error for what is neither."""

from __future__ import annotations

import pytest
import torch
import yaml

from cvr_plugins.assembly import OptionError
from cvr_plugins.cli.configs import find_config
from cvr_plugins.config import KEYS, ConfigError
from cvr_plugins.plugins import RegistryError, registry
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context.options import options_of
from cvr_plugins.recbole.running.config import Config


def test_options_reach_their_parts(prepare):
    run = prepare(
        models.NISE,
        architecture="mmoe",
        n_experts=3,
        dims=[6],
        weighting="dynamic",
        alpha=0.5,
        embedding_size=5,
        cvr_params={"dims": [3, 2]},
    )
    core = run.model.core
    assert type(core.architecture).__name__ == "MMoE"
    assert core.weighting.alpha == 0.5
    assert core.encoder.layout.embedded == (5,) * 6


def test_defaults_are_those_of_the_torch_rechub_side(configure):
    keys = ["embedding_size", "epochs", "learning_rate", "train_batch_size", "eval_batch_size"]
    config = configure(models.ESMM, **dict.fromkeys(keys, ...))
    for key in (*keys, "weight_decay", "stopping_step", "dense", "valid_metric"):
        assert config[key] == KEYS[key].default, key
    assert config["train_neg_sample_args"]["distribution"] == "none"
    assert config["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}
    assert config["valid_metric"] == "cvr/click/auc"
    assert config["valid_metric_bigger"] is True


def test_eval_args_are_completed_key_by_key(configure):
    config = configure(models.ESMM, eval_args={"split": {"RS": [8, 1, 1]}})
    assert config["eval_args"]["split"] == {"RS": [8, 1, 1]}
    assert config["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}
    assert config["eval_args"]["order"] == "RO"
    assert config["eval_args"]["group_by"] is None


UNKNOWN = [
    ("NISE", {"dropuot": 0.1}, r"Unknown key 'dropuot'. Did you mean dropout\?"),
    ("NISE", {"Clickfield": "click"}, r"Unknown key 'Clickfield'. Did you mean CLICK_FIELD"),
    ("NISE", {"mlp_hidden_size": [64]}, "Unknown key 'mlp_hidden_size'"),
    ("ESMM", {"gamma": 3.0}, "Unknown key 'gamma'.*'cvr-plugins show ESMM' lists the options of ESMM"),
    ("ESMM", {"learning_rat": 0.1}, r"Unknown key 'learning_rat'. Did you mean learning_rate"),
    ("ESMM", {"max_sequence_length": 5}, r"'max_sequence_length' is one of the torch-rechub side: RecBole's seq_len"),
    ("ESMM", {"non_click_fraction": 0.5}, "'non_click_fraction' is one of the torch-rechub side"),
    ("ESMM", {"device": "cuda"}, "'device' is one of the torch-rechub side: RecBole's gpu_id and use_gpu do that"),
    ("ESMM", {"dense": "log"}, "dense must be one of raw, tanh; got 'log'"),
    ("ESMM", {"embedding_size": 0}, "embedding_size must be at least 1; got 0"),
    ("ESMM", {"embedding_size": "wide"}, "embedding_size must be "),
    ("ESMM", {"score": "ctavr"}, "score must be a task that ESMM predicts, cvr, ctr, ctcvr; got 'ctavr'"),
]


@pytest.mark.parametrize(("method", "keys", "message"), UNKNOWN, ids=[str(keys) for _, keys, _ in UNKNOWN])
def test_unknown_keys_and_wrong_values_are_refused_before_any_data_are_read(method, keys, message, configure):
    with pytest.raises(ConfigError, match=message):
        configure(models.model_class(method), dataset="nowhere", **keys)


def test_every_key_of_the_torch_rechub_side_has_a_meaning_here_or_is_refused_with_the_reason(configure):
    config = configure(models.ESMM)
    known = {*config.final_config_dict, *(name for names in config.parameters.values() for name in names)}
    for key in KEYS:
        if key in known - {"device"} or key == "threads":  # which the runner reads
            continue
        with pytest.raises(ConfigError, match=f"'{key}' is one of the torch-rechub side"):
            configure(models.ESMM, **{key: KEYS[key].default})


def test_embeddings_are_drawn_as_wide_as_asked(prepare):
    run = prepare(models.ESMM, embedding_std=0.5)
    weights = torch.cat([table.weight[1:].flatten() for table in run.model.core.encoder.tables])
    assert 0.4 < weights.std() < 0.6


def test_values_that_a_part_refuses_name_it(prepare):
    with pytest.raises(OptionError, match="NISE, weighting 'dynamic': alpha must be a finite number above 0"):
        prepare(models.NISE, alpha=-1)
    with pytest.raises(OptionError, match="ESMM has no head 'imputation'"):
        prepare(models.ESMM, imputation_params={"dims": [2]})
    with pytest.raises(RegistryError, match=r"Unknown architecture 'towrs'. Did you mean towers\?"):
        prepare(models.ESMM, architecture="towrs")


def test_recboles_own_keys_are_legal(prepare):
    prepare(
        models.ESMM,
        clip_grad_norm={"max_norm": 1.0},
        topk=[5],
        worker=0,
        log_wandb=False,
        val_interval=None,
        numerical_features=[],
        transform=None,
        rm_dup_inter=None,
        alias_of_item_id=None,
        wandb_project="x",
        benchmark_filename=None,
    )


def test_score_names_the_task_that_predict_returns(prepare, batch):
    run = prepare(models.ESMM, score="cvr")
    rows = batch(run.valid)
    run.model.eval()
    assert run.model.predict(rows).equal(run.model.predictions(rows)["cvr"])
    default = prepare(models.ESMM)
    default.model.eval()
    predictions = default.model.predictions(rows)
    assert default.model.predict(rows).equal(predictions["ctcvr"])
    columns = [predictions[task] for task in ("cvr", "ctr", "ctcvr")]
    assert default.model.forward(rows).equal(torch.stack(columns, dim=1))


def test_a_method_without_the_default_score_gives_what_it_predicts(prepare):
    run = prepare(models.IdeFN, train_ctr=False)
    assert run.model.tasks == ("cvr",)
    assert run.model.score == "cvr"


DATASETS = ("ali-ccp", "kuairand-pure", "ml-100k-funnel")
METHODS = [entry.key for entry in registry().entries("method")]


@pytest.mark.parametrize(
    ("dataset", "method"), [*((DATASETS[-1], method) for method in METHODS), *((d, METHODS[0]) for d in DATASETS[:-1])]
)
def test_what_is_shipped_for_torch_rechub_is_a_recbole_configuration_as_it_is(dataset, method):
    given = yaml.safe_load(find_config(dataset).read_text())
    config = Config(method, config_dict={**given, "dataset": "nowhere", "data_path": "nowhere", "use_gpu": False})
    options = options_of(config, config.model_class.method)
    assert options.embedding_size == given["embedding_size"]
    settings = options.assembly.settings()
    for key in set(given) & set(settings):
        assert settings[key] == given[key], key
    assert config["eval_args"]["mode"] == {"valid": "labeled", "test": "labeled"}
