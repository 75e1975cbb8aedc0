"""What there is, as tables and as JSON: methods, options, keys, plugins, data sets."""

from __future__ import annotations

import json

import pytest
import yaml

from cvr_plugins.cli._group import run
from cvr_plugins.config import KEYS
from cvr_plugins.contracts import Method
from cvr_plugins.objectives import Naive
from cvr_plugins.plugins import registry

METHODS = [entry.key for entry in registry().entries("method")]


@pytest.fixture
def said(capsys):
    """Run a command line that succeeds and return what it prints."""

    def make(*arguments: str) -> str:
        code = run(list(arguments))
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return make


def test_methods_are_listed(said):
    rows = {line.split()[0]: line for line in said("methods").splitlines()[1:]}
    assert list(rows) == METHODS
    assert "builtin" in rows["ESMM"]
    assert "CVR learned through CTR and CTCVR over all exposures" in rows["ESMM"]
    listed = json.loads(said("methods", "--json"))
    assert [each["name"] for each in listed] == METHODS
    assert all(each["summary"] and each["architecture"] for each in listed)
    assert {each["weighting"] for each in listed} == {entry.value.weighting for entry in registry().entries("method")}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_shown_with_every_option_as_it_would_be_written(method, said):
    text = said("show", method)
    shown = json.loads(said("show", method, "--json"))
    assert text.startswith(f"{method}: {shown['summary']}\n")
    assert shown["description"] in text
    assert shown["tasks"][:3] == ["cvr", "ctr", "ctcvr"]
    lines = [
        line for line in text.splitlines() if line.endswith(("objective", "architecture", "backbone", "weighting"))
    ]
    for option, line in zip(shown["options"], lines, strict=True):
        name, default, _ = (part.strip() for part in line.split("  ") if part.strip())
        assert name == option["option"]
        assert yaml.safe_load(default) == option["default"]


def test_the_parts_of_a_method_may_be_chosen(said):
    parts = {"architecture": "mmoe", "backbone": "deepfm", "weighting": "dtp"}
    chosen = [word for part, name in parts.items() for word in (f"--{part}", name)]
    shown = json.loads(said("show", "esmm", *chosen, "--json"))
    assert {"name": "ESMM", **parts} == {key: shown[key] for key in ("name", *parts)}
    assert {"n_experts", "dims", "focal_gamma"} <= {option["option"] for option in shown["options"]}
    text = said("show", "esmm", *chosen)
    assert all(f"{part}: {name}\n" in text for part, name in parts.items())
    assert "weighting: none\n" in said("show", "esmm")


def test_show_says_where_options_of_one_name_go(said):
    sentence = "The weighting's alpha must be given in weighting_params"
    assert sentence in said("show", "IdeFN", "--weighting", "dynamic")
    assert sentence not in said("show", "NISE")


class Needy(Naive):
    """Cannot be built without an option."""

    def __init__(self, *, alpha: float, ratio: float = float("inf"), how: object = print) -> None:
        super().__init__()


def test_a_required_option_and_defaults_that_yaml_has_not_are_shown(said, monkeypatch):
    method = Method("Needy", Needy)
    monkeypatch.setattr(registry(), "method", lambda name: method)
    text = said("show", "Needy")
    assert "alpha       (required)" in text
    shown = json.loads(said("show", "Needy", "--json"))
    options = {option["option"]: option for option in shown["options"]}
    assert (options["alpha"]["default"], options["alpha"]["required"]) == (None, True)
    assert (options["ratio"]["default"], options["ratio"]["required"]) == ("inf", False)
    assert "built-in function print" in options["how"]["default"]
    assert shown["tasks"] == ["cvr", "ctr", "ctcvr"]
    assert shown["description"].startswith("Cannot be built without an option.")


def test_keys_are_shown_as_they_would_be_written(said):
    rows = {line.split()[0]: line for line in said("keys").splitlines()[1:]}
    assert list(rows) == list(KEYS)
    assert rows["train_batch_size"].split()[1] == "2048"
    assert rows["metrics"].split()[1] == "null"
    assert rows["show_progress"].split()[1] == "true"
    assert "{group_by: none, order: RO, split: {RS: [0.7, 0.1, 0.2]}}" in rows["eval_args"]
    assert set(json.loads(said("keys", "--json"))) == set(KEYS)


def test_data_sets_and_plugins_are_listed(said):
    assert "ml-100k-funnel" in said("datasets")
    (entry,) = [each for each in json.loads(said("datasets", "--json")) if each["name"] == "ml-100k-funnel"]
    assert entry["plugin"] == "builtin"
    assert entry["summary"]
    text = said("plugins")
    assert text.splitlines()[1].startswith("builtin  cvr-plugins")
    (entry,) = [each for each in json.loads(said("plugins", "--json")) if each["name"] == "builtin"]
    assert entry["status"] == "ok"
    assert "ESMM" in entry["contributed"]["method"]
