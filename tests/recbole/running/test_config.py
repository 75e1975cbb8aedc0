"""RecBole's configuration made by our Config: the same values, nothing executed, nothing left changed behind it."""

from __future__ import annotations

import copy
import os
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("recbole")

import recbole.config
from recbole.data import create_dataset
from recbole.utils.argument_list import dataset_arguments

from cvr_plugins.config import ConfigError, dump_yaml
from cvr_plugins.recbole import Config
from cvr_plugins.recbole.running.runner import run_recbole
from cvr_plugins.training.manifest import seal

pytestmark = pytest.mark.usefixtures("elsewhere")

HOSTILE = [
    "__import__('pathlib').Path('executed').touch()",
    "[open('executed', 'w')]",
    "(lambda: __import__('os').mkdir('executed'))()",
    "exec(\"open('executed', 'w')\")",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_unchanged_or_is_refused_and_is_not_executed(text, tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"in_file": text, "nested_in_file": {"a": [text]}}))
    given = {"in_dict": text, "nested": {"a": [text, {"b": text}]}, "gpu_id": text, "use_gpu": False}
    config = Config("BPR", "ml-100k", [file], given, command_line=[f"--on_line={text}"])
    assert config["in_file"] == config["in_dict"] == config["on_line"] == config["gpu_id"] == text
    assert config["nested_in_file"] == {"a": [text]}
    assert config["nested"] == {"a": [text, {"b": text}]}
    assert Config.from_dict(config.to_dict())["in_dict"] == text
    for key in ("seed", "metrics", "epochs"):
        with pytest.raises(ConfigError):
            Config("BPR", "ml-100k", config_dict={key: text})
    assert not Path("executed").exists()


def test_hostile_yaml_tags_are_refused(tmp_path):
    for number, tag in enumerate(("!!python/object/apply:os.mkdir [executed]", "!!python/name:os.system")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(f"epochs: 1\nevil: {tag}\n")
        with pytest.raises(ConfigError, match=rf"{number}.yaml, line 2: not a RecBole configuration: could not"):
            Config("BPR", "ml-100k", [file])
    assert not Path("executed").exists()


def test_a_pickle_that_lies_where_recbole_would_look_for_a_data_set_is_not_read(brief, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, ("executed",)

    saved = tmp_path / "saved"
    saved.mkdir()
    for name in ("toy-Dataset.pth", "toy-for-BPR-dataloader.pth"):
        (saved / name).write_bytes(pickle.dumps(Evil()))
    run_recbole("BPR", config_dict={**brief, "epochs": 0, "state": "ERROR"})
    assert not Path("executed").exists()
    for key in ("dataset_save_path", "dataloaders_save_path"):
        with pytest.raises(ConfigError, match=f"{key} names a pickled file, and reading one executes it; leave"):
            Config("BPR", "ml-100k", config_dict={key: str(saved / "toy-Dataset.pth")})
    with pytest.warns(UserWarning, match="save_dataset is passed over"):
        assert Config("BPR", "ml-100k", config_dict={"save_dataset": True})["save_dataset"] is False


LITERALS = {
    "[64, 32]": [64, 32],
    "1e-3": 0.001,
    "7": 7,
    "None": None,
    "True": True,
    "true": True,
    "FALSE": False,
    "{'a': 1}": {"a": 1},
    "(1, 2)": (1, 2),
    "'quoted'": "quoted",
    "user_id": "user_id",
    "[3,inf)": "[3,inf)",
    "NDCG@10": "NDCG@10",
    "1+2j": "1+2j",
    "": "",
    "[" * 5000: "[" * 5000,
}


def test_text_that_is_a_literal_becomes_it_as_in_recbole():
    given = {f"mine{number}": text for number, text in enumerate(LITERALS)}
    line = [f"--{key}={text}" for key, text in given.items() if text]
    for config in (
        Config("BPR", "ml-100k", config_dict=given),
        Config("BPR", "ml-100k", config_dict=dict.fromkeys(given, ""), command_line=line),
    ):
        for key, text in given.items():
            assert config[key] == LITERALS[text]
            assert type(config[key]) is type(LITERALS[text])


def test_the_host_programs_command_line_plays_no_part(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=7", "--model=Nonsense", "-x", "--seed=__import__('os')"])
    config = Config("BPR", "ml-100k")
    assert (config["epochs"], config["seed"], config["model"]) == (300, 2020, "BPR")
    assert Config("BPR", "ml-100k", command_line=sys.argv[1:2])["epochs"] == 7


def test_later_places_win(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("epochs: 1\nseed: 1\ntopk: 1\nlearning_rate: 1e-2\nmodel: BPR\ndataset: ml-100k\n")
    second.write_text("seed: 2\ntopk: 2\nlearning_rate: 1e-3\n")
    config = Config(
        config_file_list=[str(first), second],
        config_dict={"topk": 3, "learning_rate": 1e-4, "valid_metric": "MRR@3"},
        command_line=["--learning_rate=1e-5"],
    )
    assert [config[key] for key in ("epochs", "seed", "topk", "learning_rate")] == [1, 2, [3], 1e-5]


def _state() -> tuple:
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002 - the generator that RecBole seeds
    return torch.get_rng_state().tolist(), random.getstate(), numbers, torch.is_anomaly_enabled()


def test_the_process_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    given = {"train_neg_sample_args": {"distribution": "uniform"}, "topk": "[5]", "valid_metric": "MRR@5", "l": [[1]]}
    before = copy.deepcopy(given)
    arguments, names, resolvers = list(dataset_arguments), set(dir(np)), dict(yaml.FullLoader.yaml_implicit_resolvers)
    loader = copy.deepcopy(resolvers)
    state = _state()
    config = Config("SASRec", "ml-100k", config_dict={**given, "train_neg_sample_args": None})
    config = Config("BPR", "ml-100k", config_dict=given)
    config["l"][0].append(2)
    assert given == before
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert dataset_arguments == arguments
    assert set(dir(np)) == names
    assert yaml.FullLoader.yaml_implicit_resolvers == loader
    assert _state() == state


@pytest.mark.parametrize("visible", [None, "3"])
def test_gpus_are_chosen_among_those_that_the_process_sees(visible, monkeypatch):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def device(**keys: object) -> torch.device:
        return Config("BPR", "ml-100k", config_dict=keys)["device"]

    assert device() == torch.device("cuda", 0)
    assert device(gpu_id="1") == device(gpu_id=(1, 0)) == device(gpu_id=1) == torch.device("cuda", 1)
    assert device(gpu_id="") == device(use_gpu=False) == torch.device("cpu")
    with pytest.raises(ConfigError, match="gpu_id '2' is not to be had: this process sees 2 GPUs, numbers 0 to 1"):
        device(gpu_id=2)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


MODELS = {
    "BPR": {},
    "SASRec": {"train_neg_sample_args": None, "eval_args": {"mode": "uni100"}},
    "DeepFM": {"threshold": {"rating": 3}, "topk": "[10]"},
    "CKE": {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}},
}


@pytest.mark.parametrize("model", MODELS)
def test_values_are_recboles(model, monkeypatch, tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("learning_rate: 1e-4\nembedding_size: 12\nmetric_decimal_place: 6\n")
    ours = Config(model, "ml-100k", [file], MODELS[model]).final_config_dict
    # All that it does is to set names of numpy; on NumPy 2 it fails.
    monkeypatch.setattr(recbole.config.Config, "compatibility_settings", lambda self: None)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    theirs = recbole.config.Config(model, "ml-100k", [file], dict(MODELS[model])).final_config_dict
    different = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
    assert different == {"dataset_save_path", "dataloaders_save_path"}
    assert list(ours)[:40] == list(theirs)[:40]


WRONG = [
    ({"model": "BPR"}, "No dataset given: give it to the call, or 'dataset: ...' in a configuration file"),
    ({"dataset": "ml-100k"}, "No model given"),
    ({"model": "BPR", "dataset": 3}, "dataset must be a name; got 3"),
    ({"model": 3, "dataset": "ml-100k"}, "A RecBole model is a class; got 3"),
    ({"epochs": "many"}, "epochs must be a number; got 'many'"),
    ({"use_gpu": "yes"}, "use_gpu must be true or false; got 'yes'"),
    ({"metrics": ["NDGC"]}, "RecBole refuses the configuration: There is no metric named 'NDGC'."),
    ({"topk": [0]}, "RecBole refuses the configuration: topk must be a positive integer"),
    ({"metrics": ["NDCG", "AUC"]}, "RecBole refuses the configuration: Ranking metrics and value metrics can not"),
    ({"valid_metric": "MRR@7"}, "valid_metric 'MRR@7' is not among what metrics and topk ask for: recall@10, mrr@10"),
    ({"eval_args": {"mode": "unicorn"}}, "RecBole refuses the configuration: "),
    ({"model": "BPR", "dataset": "no/such/folder"}, "There is no folder 'no/such/folder' of atomic files"),
]


@pytest.mark.parametrize(("keys", "message"), WRONG, ids=[str(keys) for keys, _ in WRONG])
def test_what_is_wrong_is_said_in_a_sentence(keys, message):
    named = {"model", "dataset"} & set(keys)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - BindingError is not a ConfigError
        Config(config_dict=keys if named else {"model": "BPR", "dataset": "ml-100k", **keys})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


FILES = [
    ("epochs: [1\n", r"line 2: not a RecBole configuration"),
    ("- 1\n- 2\n", "holds 'key: value' lines; got"),
    ("1: 2\n", "holds 'key: value' lines; got"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_broken_files_are_named(text, message, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Config("BPR", "ml-100k", [file])
    assert "broken.yaml" in str(caught.value)
    with pytest.raises(ConfigError, match=r"Cannot read the configuration file .*none.yaml: No such file"):
        Config("BPR", "ml-100k", [tmp_path / "none.yaml"])


def test_files_may_be_empty_and_hold_tuples(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("")
    assert Config("BPR", "ml-100k", file)["epochs"] == 300
    file.write_text("sizes: !!python/tuple [1, 2]\nrate: 2E-3\nseed: 016\n")
    config = Config("BPR", "ml-100k", file)
    assert (config["sizes"], config["rate"], config["seed"]) == ((1, 2), 0.002, 16)


def test_a_sequential_model_is_not_trained_on_rows_in_random_order(brief):
    with pytest.raises(ConfigError, match=r"SASRec learns from sequences .* order: RO for toy: take a data set of"):
        run_recbole("SASRec", config_dict={**brief, "eval_args": {"order": "RO"}, "train_neg_sample_args": None})


@pytest.mark.parametrize("line", [["epochs"], ["--=3"], ["--epochs"]])
def test_the_command_line_is_key_and_value(line):
    with pytest.raises(ConfigError, match="Expected --key=value"):
        Config("BPR", "ml-100k", command_line=line)
    with pytest.raises(ConfigError, match="epochs is given twice, as '1' and as '2'"):
        Config("BPR", "ml-100k", command_line=["--epochs=1", "--epochs=2"])


@pytest.mark.parametrize(("key", "meant"), [("learing_rate", "learning_rate"), ("top_k", "topk"), ("Epochs", "epochs")])
def test_a_key_that_is_most_likely_misspelt_is_warned_of(key, meant):
    with pytest.warns(UserWarning, match=f"RecBole knows no key {key!r}; is {meant!r} meant"):
        assert Config("BPR", "ml-100k", config_dict={key: 1})[key] == 1


def test_keys_of_ones_own_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Config("BPR", "ml-100k", config_dict={"my_option": 1, "framework": "recbole", "depth": 3, "n_mine": 1})
        Config("NeuMF", "ml-100k", config_dict={"embedding_size": 1})


def test_a_configuration_written_down_makes_an_equal_one(tmp_path, brief):
    for model, keys in MODELS.items():
        data = {} if model == "CKE" else {key: brief[key] for key in ("dataset", "data_path", "load_col")}
        config = Config(model, config_dict={"dataset": "ml-100k", **data, **keys})
        file = tmp_path / f"{model}.yaml"
        file.write_text(dump_yaml(config.to_dict()))
        assert Config(config_file_list=[file]).final_config_dict == config.final_config_dict


def test_a_registered_data_set_is_found_by_name(tmp_path):
    config = Config("NISE", "ml-100k-funnel")
    folder = Path(config["data_path"])
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "ml-100k-funnel.inter").is_file()
    assert config["CLICK_FIELD"] == "click"
    stamp = (folder / "ml-100k-funnel.inter").stat().st_mtime_ns
    assert Config("NISE", "ml-100k-funnel")["data_path"] == str(folder)
    assert (folder / "ml-100k-funnel.inter").stat().st_mtime_ns == stamp
    assert "data_path" not in config.to_dict()


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("ml-100k-funnel.inter", _flip),
        ("ml-100k-funnel.inter", lambda file: os.truncate(file, file.stat().st_size // 2)),
        ("ml-100k-funnel.user", Path.unlink),
        ("manifest.json", Path.unlink),
        ("counts.json", lambda file: file.write_text("{}") and seal(file.parent)),
    ],
)
def test_a_cached_data_set_that_is_not_what_was_written_is_written_again(name, harm, tmp_path):
    folder = Path(Config("NISE", "ml-100k-funnel")["data_path"])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    harm(folder / name)
    Config("NISE", "ml-100k-funnel")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_data_set_may_be_a_folder_a_file_or_a_name_below_data_path(ratings, brief, tmp_path):
    del brief["data_path"], brief["dataset"]
    given = [
        {"dataset": "toy", "data_path": str(ratings)},
        {"dataset": str(ratings / "toy")},
        {"dataset": str(ratings / "toy" / "toy.inter")},
    ]
    sizes = {create_dataset(Config("BPR", config_dict={**brief, **keys})).inter_num for keys in given}
    assert len(sizes) == 1
    several = tmp_path / "several"
    several.mkdir()
    for name in ("a", "b"):
        (several / f"{name}.inter").write_text("user_id:token\titem_id:token\n")
    with pytest.raises(ConfigError, match=r"holds more than one data set: a.inter, b.inter; name one"):
        Config("BPR", str(several))


def test_files_below_a_given_data_path_win_over_a_registered_name(ratings, brief, tmp_path):
    home = tmp_path / "mine" / "ml-100k-funnel"
    home.mkdir(parents=True)
    (home / "ml-100k-funnel.inter").write_text((ratings / "toy" / "toy.inter").read_text())
    brief.update(dataset="ml-100k-funnel", data_path=str(tmp_path / "mine"))
    assert Path(Config("BPR", config_dict=brief)["data_path"]) == home


def test_a_registered_data_sets_labels_are_no_features_of_recboles_own_models():
    labels = {"click", "conversion", "action", "counterfactual_conversion", "propensity"}
    fields = {"user_id", "item_id", "timestamp"}
    watched = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}}

    def loaded(model: str, data: str = "ml-100k-funnel", **keys: object) -> set[str]:
        config = Config(model, data, config_dict={**watched, **keys})
        dataset = create_dataset(config)
        return set(dataset.inter_feat.columns) - {dataset.label_field} | (labels & set(dataset.field2type))

    assert loaded("DeepFM") == fields
    assert loaded("DeepFM", LABEL_FIELD="click") == {*fields, "click"}
    assert loaded("BPR", "ml-100k-sessions") == {"session_id", "item_id", "timestamp"}
    ranked = {"metrics": ["SessionAUC"], "valid_metric": "SessionAUC", "train_neg_sample_args": None}
    sessions = Config("SASRec", "ml-100k-sessions", config_dict=ranked)
    assert sessions["load_col"] == {"inter": ["session_id", "item_id", "purchase", "timestamp"]}
    assert Config("NISE", "ml-100k-funnel")["load_col"] is None
