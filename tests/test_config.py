"""Configurations: what is read, what is refused, and that values come back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvr_plugins.config import (
    FIELD_KEYS,
    KEYS,
    ConfigError,
    dump_yaml,
    load_yaml,
    parse_pairs,
    refuse_unknown,
    resolve,
    split_arguments,
)

BASE = {"model": "ESMM", "dataset": "log.csv"}
HOSTILE = "__import__('os').system('echo hi')"


def test_defaults_are_of_the_kinds_their_keys_take():
    config = resolve(BASE)
    assert set(config.values) == set(KEYS)
    for name, key in KEYS.items():
        assert isinstance(config[name], key.kinds), name
        assert key.help
    assert (config["threads"], config["seed"], config["epochs"]) == (1, 2020, 50)
    assert split_arguments(config["eval_args"]) == ((0.7, 0.1, 0.2), "random"), "ratios that add up are not touched"


def test_later_layers_win_and_eval_args_merge():
    config = resolve(
        {**BASE, "seed": 1, "eval_args": {"order": "TO", "split": {"RS": [0.5, 0.2, 0.3]}}},
        {"seed": 2, "dims": [8]},
        {"dims": [4], "eval_args": {"split": {"RS": [8, 1, 1]}}},
    )
    assert (config["seed"], config.options) == (2, {"dims": [4]})
    assert config["eval_args"] == {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "none"}
    assert split_arguments(config["eval_args"]) == ((0.8, 0.1, 0.1), "time")


def test_a_configuration_shares_nothing_with_what_it_was_made_from():
    given = {**BASE, "dims": [8], "eval_args": {"split": {"RS": [0.5, 0.2, 0.3]}}}
    config = resolve(given)
    given["dims"].append(9)
    given["eval_args"]["split"]["RS"][0] = 9
    assert config.options["dims"] == [8]
    assert config["eval_args"]["split"]["RS"] == [0.5, 0.2, 0.3]
    config.to_dict()["dims"].append(9)
    assert config.options["dims"] == [8]
    config["scheduler_params"]["gamma"] = 2
    assert resolve(BASE)["scheduler_params"] == {}


def test_what_is_written_down_resolves_to_the_same(tmp_path: Path):
    texts = ["1e-3", "016", "0o16", "0x1F", "109_14", "190:20", "0b11", ".inf", "5."]
    config = resolve(BASE, {"seed": 7, "dims": [8, 4], "learning_rate": 1e-5, "note": texts, "alpha": float("inf")})
    (tmp_path / "config.yaml").write_text(dump_yaml(config.to_dict()))
    again = resolve(load_yaml(tmp_path / "config.yaml"))
    assert again == config
    assert again.options["note"] == texts
    assert not set(FIELD_KEYS) & set(config.to_dict())
    named = resolve(BASE, {"CLICK_FIELD": "click", "encoding": "latin-1"})
    assert {"CLICK_FIELD", "encoding"} == set(FIELD_KEYS) & set(named.to_dict())


PAIRS = [
    ("dims=[64,32]", [64, 32]),
    ("cvr_params={dims: [8], dropout: .5}", {"dims": [8], "dropout": 0.5}),
    ("learning_rate=1e-2", 0.01),
    ("learning_rate=.5E+1", 5.0),
    ("architecture=", None),
    ("architecture=~", None),
    ("architecture=mmoe", "mmoe"),
    ("--architecture=mmoe", "mmoe"),
    ("architecture='null'", "null"),
    ('architecture="a b"', "a b"),
    ("alpha='1e-3'", "1e-3"),
    ("alpha=[1e-3, 1.5e-3]", [0.001, 0.0015]),
    ("alpha=[.inf, -.Inf]", [float("inf"), -float("inf")]),
    # As in YAML 1.2: no octal for a leading 0, no base 60, no underscores.
    ("seed=016", 16),
    ("alpha=[0512, -016, +5, 00]", [512, -16, 5, 0]),
    ("alpha=[0o16, 0x1F]", [14, 31]),
    ("alpha=[190:20, 1:30.5, 109_14, 1_0.5, 0b11]", ["190:20", "1:30.5", "109_14", "1_0.5", "0b11"]),
    ("flag=true", True),
    ("CLICK_FIELD=109_14", "109_14"),
    ("dataset=a=b", "a=b"),
    ("dataset=C:\\logs\\x: y #1", "C:\\logs\\x: y #1"),
    ("dataset=*.csv", "*.csv"),
    ("drop_columns=109_14", "109_14"),
    ("drop_columns=[a, 'b c']", ["a", "b c"]),
    ("ACTION_FIELD=109_14", "109_14"),
    ("ACTION_FIELD=[cart, wish_list]", ["cart", "wish_list"]),
    (f"dataset={HOSTILE}", HOSTILE),
    (f"option={HOSTILE}", HOSTILE),
]


@pytest.mark.parametrize(("pair", "value"), PAIRS, ids=[pair for pair, _ in PAIRS])
def test_the_value_of_a_pair(pair: str, value: object):
    ((key, found),) = parse_pairs([pair]).items()
    assert found == value
    assert type(found) is type(value)
    assert key == pair.removeprefix("--").partition("=")[0]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("epochs", "Expected key=value, such as learning_rate=0.01; got 'epochs'"),
        ("=3", "Expected key=value"),
        ("dims=[64", r"The value of dims is not valid YAML: '\[64'"),
        ("dims=@x", "not valid YAML"),
        ("x=2026-02-31", "not valid YAML.*day"),
        ("x={a: 1, a: 2}", "the key 'a' stands here a second time"),
        ("x=!!python/object/apply:os.system ['echo hi']", "not valid YAML"),
        ("x=" + "[" * 5000, "not valid YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_pairs_that_are_refused(pair: str, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_pairs([pair])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["seed", "epochs", "learning_rate", "eval_args", "show_progress"])
def test_hostile_text_is_never_run(key: str, capfd):
    with pytest.raises(ConfigError, match=f"{key} must be"):
        resolve(BASE, parse_pairs([f"{key}={HOSTILE}"]))
    assert capfd.readouterr() == ("", "")
    assert resolve(BASE, parse_pairs([f"model={HOSTILE}"]))["model"] == HOSTILE


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_bytes("\ufefflearning_rate: 1e-3\nmodel: ESMM\nname: ü\n# comment\nempty:\n".encode())
    assert load_yaml(path) == {"learning_rate": 0.001, "model": "ESMM", "name": "ü", "empty": None}
    path.write_text("")
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Cannot read the configuration file .*: No such file or directory"),
        (b"a: \xff", r"The configuration file .* is not utf-8 text: line 1 holds the byte 0xff"),
        (b"a: 1\nb: [1\n", "line 3: not valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", r"line 3: not valid YAML: the key 'a' stands here a second time"),
        (b"- a\n", r"holds 'key: value' lines; got \['a'\]"),
        (b"a: !!python/object/apply:os.system ['echo hi']\n", "line 1: not valid YAML"),
    ],
)
def test_files_that_are_refused(content: bytes | None, message: str, tmp_path: Path, capfd):
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


REFUSED = [
    ({"epochs": 0}, "epochs must be at least 1; got 0"),
    ({"epochs": 1.5}, r"epochs must be a whole number \(epochs at most\); got 1.5"),
    ({"epochs": True}, "epochs must be a whole number"),
    ({"epochs": None}, "epochs must be a whole number .*; got None"),
    ({"learning_rate": -1}, "learning_rate must be at least 0.0; got -1.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be finite; got nan"),
    ({"non_click_fraction": 0}, "non_click_fraction must be above 0.0; got 0.0"),
    ({"non_click_fraction": 1.5}, "non_click_fraction must be at most 1.0; got 1.5"),
    ({"threads": 100_000}, r"threads must be at most \d+; got 100000"),
    ({"show_progress": 1}, "show_progress must be true or false"),
    ({"dense": "tahn"}, r"dense must be one of raw, tanh; got 'tahn'. Did you mean tanh\?"),
    ({"dataset": 3}, r"dataset must be text .*; got 3. Put a name .* in quotation marks, such as '101'"),
    ({"drop_columns": [10914]}, r"drop_columns must be a list of names or null .*; got \[10914\]. Put a name"),
    ({"scheduler_params": [1]}, "scheduler_params must be a mapping"),
    ({"eval_args": [1]}, "eval_args must be a mapping"),
    ({"eval_args": {"splits": {}}}, r"Unknown key 'splits' in eval_args. Did you mean split\? Known: split, order"),
    ({"eval_args": {"split": {"LS": "valid_and_test"}}}, r"eval_args.split must be \{RS: \[train, valid, test\]\}"),
    ({"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "three ratios"),
    ({"eval_args": {"split": {"RS": [0.8, 0.2, float("inf")]}}}, "three ratios"),
    ({"eval_args": {"split": {"RS": [0.8, 0.1, "x"]}}}, "three ratios"),
    ({"eval_args": {"order": "XO"}}, "eval_args.order must be RO .*, TO .* or UO .*; got 'XO'"),
    ({"eval_args": {"group_by": "user"}}, "eval_args.group_by other than none .* is not offered"),
    ({"eval_args": {"mode": "full"}}, "eval_args.mode other than labeled .* is not offered"),
    ({"alpha": {1, 2}}, "alpha must be made of numbers, text, lists and mappings"),
    ({"cvr_params": {1: 2}}, "cvr_params must be made of"),
    ({3: 4}, "Keys of a configuration are text; got 3"),
    ({"ACTION_FIELD": []}, r"^ACTION_FIELD must name at least one column, or be null for none; got \[\]\.$"),
    ({"ACTION_FIELD": ["cart", "gift", "cart"]}, "^ACTION_FIELD names 'cart' more than once; name each column once"),
    ({"ACTION_FIELD": ["cart", 3]}, r"ACTION_FIELD must be a list of names or null .*; got \['cart', 3\]. Put a name"),
    ({"ACTION_FIELD": {"cart": 1}}, "ACTION_FIELD must be a list of names"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[str(values)[:50] for values, _ in REFUSED])
def test_values_that_are_refused(values: dict, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(BASE, values)
    assert "\n" not in str(caught.value)


def test_what_is_no_configuration_at_all_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="alpha contains itself"):
        resolve(BASE, {"alpha": loop})
    with pytest.raises(ConfigError, match="A configuration is a mapping of keys to values; got str"):
        resolve("model")  # type: ignore[arg-type]


def test_what_python_has_beside_yaml_becomes_plain():
    plain = {"dataset": Path("a") / "b.csv", "drop_columns": "one", "learning_rate": 1}
    config = resolve(BASE, {**plain, "dims": (np.int64(8), 4), "alpha": np.float32(0.5)})
    assert config["dataset"] == str(Path("a") / "b.csv")
    assert config.options == {"dims": [8, 4], "alpha": 0.5}
    assert [type(each) for each in config.options["dims"]] == [int, int]
    assert config["drop_columns"] == ["one"]
    assert isinstance(config["learning_rate"], float)


@pytest.mark.parametrize("value", ["cart", ["cart"], ("cart",), ["cart", "wish_list"]])
def test_one_action_or_several_are_a_list_and_written_down_as_one(value: object, tmp_path: Path):
    config = resolve(BASE, {"ACTION_FIELD": value})
    assert config["ACTION_FIELD"] == (["cart"] if value == "cart" else list(value))
    (tmp_path / "config.yaml").write_text(dump_yaml(config.to_dict()))
    assert resolve(load_yaml(tmp_path / "config.yaml")) == config


def test_a_missing_model_or_data_set_is_asked_for():
    for given, message in (
        ({"dataset": "x"}, r"No model given: say -m METHOD, or 'model: \.\.\.' in the .* file\.$"),
        ({"dataset": "x", "modle": "ESMM"}, "No model given.* Is 'modle' meant to be it?"),
        ({"model": "ESMM"}, "No dataset given: say -d DATASET"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve(given)
    assert resolve({"dataset": "x"}, needs=("dataset",))["model"] is None


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("learnin_rate", "Did you mean learning_rate?"),
        ("Seed", "Did you mean seed?"),
        ("batch_size", "Did you mean train_batch_size or eval_batch_size?"),
        ("zzz", "Unknown key 'zzz'. 'cvr-plugins show ESMM' lists"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key: str, hint: str):
    config = resolve(BASE, {"dims": [3], key: 1})
    with pytest.raises(ConfigError, match=f"^Unknown key '{key}'.*'cvr-plugins show ESMM' lists") as caught:
        refuse_unknown(config, ["dims", "dropout"], "ESMM")
    assert hint in str(caught.value)
    refuse_unknown(resolve(BASE, {"dims": [3]}), ["dims"], "ESMM")


def test_several_processes_are_refused_and_one_is_not_spoken_of():
    with pytest.raises(ConfigError, match=r"world_size=4 .* several processes"):
        resolve({"model": "ESMM", "dataset": "log", "world_size": 4})
    assert "nproc" in resolve({"model": "ESMM", "dataset": "log", "nproc": 1}).options
