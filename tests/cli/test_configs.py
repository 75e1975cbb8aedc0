"""`cvr-plugins configs`, and what `-c` finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvr_plugins.cli._group import run
from cvr_plugins.cli.configs import config_names, configs_root, find_config
from cvr_plugins.config import ConfigError
from cvr_plugins.plugins import registry


def test_configurations_are_listed_and_copied_out(tmp_path, capsys):
    def said(*arguments: str) -> str:
        assert run(["configs", *arguments]) == 0
        return capsys.readouterr().out

    names = config_names()
    assert {"ml-100k-funnel", "ml-100k-funnel/grid"} <= set(names)
    assert said().splitlines() == json.loads(said("--json")) == names
    assert said("--copy", str(tmp_path / "mine")) == f"Copied {len(names)} files to {tmp_path / 'mine'}\n"
    for name in names:
        copy = tmp_path / "mine" / f"{name}.yaml"
        assert copy.read_bytes() == (configs_root() / f"{name}.yaml").read_bytes()
    assert run(["configs", "--copy", str(tmp_path / "mine")]) == 2


def test_a_configuration_is_found_by_file_or_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("ml-100k-funnel") == find_config("ml-100k-funnel.yaml") == configs_root() / "ml-100k-funnel.yaml"
    Path("ml-100k-funnel").mkdir()
    assert find_config("ml-100k-funnel").is_file()
    Path("ml-100k-funnel.yaml").write_text("")
    assert find_config("ml-100k-funnel.yaml") == Path("ml-100k-funnel.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ml-100k-funnel/gird", "Did you mean ml-100k-funnel/grid"),
        ("ml-100k-funnel/esm", "Did you mean ml-100k-funnel"),
        ("zzz", r"package\. 'cvr-plugins configs' lists"),
    ],
)
def test_what_is_no_configuration_is_answered_with_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message):
        find_config(name)


@pytest.mark.parametrize("dataset", ["ml-100k-funnel", "ali-ccp", "kuairand-pure"])
def test_a_file_for_each_method_as_there_were_is_answered_with_what_to_type(dataset):
    for entry in registry().entries("method"):
        for name in (f"{dataset}/{entry.name.lower()}", f"{dataset}/{entry.name}.yaml"):
            with pytest.raises(ConfigError, match=f"-c {dataset} -m {entry.key} instead of -c {name}"):
                find_config(name)


@pytest.mark.parametrize(("dataset", "model"), [("retailrocket", "PARS"), ("ml-100k-sessions", "BERT4Rec")])
def test_so_is_one_for_a_model_of_recbole(dataset, model):
    pytest.importorskip("recbole")
    with pytest.raises(ConfigError, match=f"-c {dataset} -m {model} instead of -c {dataset}/{model}"):
        find_config(f"{dataset}/{model}")


def test_a_data_set_without_a_method_is_answered_with_the_option_for_it(capsys):
    for dataset in (name for name in config_names() if "/" not in name):
        assert run(["run", "-c", dataset]) == 2
        assert capsys.readouterr().err.startswith("Error: No model given: say -m METHOD")
