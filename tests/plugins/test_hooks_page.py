"""The page of all hooks is complete and exact: its signatures are the hooks', and its examples work when installed."""

import importlib.util
import inspect
import re
from pathlib import Path

import click
import pytest

from cvr_plugins import (
    Architecture,
    Backbone,
    Labels,
    Layout,
    Method,
    Objective,
    Outputs,
    Phase,
    Weighting,
    hookspecs,
)
from cvr_plugins.metrics import Metric
from cvr_plugins.plugins import reset
from cvr_plugins.plugins._checks import COMMAND, KINDS
from cvr_plugins.recbole.compat.binding import CARRIED

PAGE = Path(__file__).resolve().parents[2] / "examples" / "plugin_template" / "HOOKS.md"
TEXT = PAGE.read_text(encoding="utf-8")
HOOKS = [name for name in vars(hookspecs) if name.startswith("cvr_")]
SECTIONS = dict(zip(*[iter(re.split(r"^## (\w+)$", TEXT, flags=re.MULTILINE)[1:])] * 2, strict=True))
KIND_OF = {kind.hook: kind.name for kind in KINDS.values()}
PARTS = ("```\n", "**Arguments**:", "**May return**:", "**Minimal example**:", "**Fuller example**:")


def blocks(hook):
    return re.findall(r"```python\n(.*?)```", SECTIONS[hook], re.DOTALL)


def test_every_hook_has_its_section_in_the_order_of_the_module():
    assert list(SECTIONS) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_section_has_the_exact_signature_and_every_part_in_one_order(hook):
    section = SECTIONS[hook]
    places = [section.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    (signature,) = re.findall(r"^```\n(.*?)\n```$", section, re.MULTILINE)
    assert signature == f"{hook}{inspect.signature(getattr(hookspecs, hook))}".replace("'", "")
    arguments = section[places[1] : places[2]]
    for name in inspect.signature(getattr(hookspecs, hook)).parameters:
        assert f"`{name}`" in arguments
    minimal, fuller = blocks(hook)
    assert len(minimal.splitlines()) < len(fuller.splitlines())
    for example in (minimal, fuller):
        assert f"@hookimpl\ndef {hook}(" in example


RETURNED = {
    "cvr_register_methods": [Method, Objective, Outputs, Labels, Phase],
    "cvr_register_architectures": [Architecture],
    "cvr_register_backbones": [Backbone, Layout],
    "cvr_register_weightings": [Weighting],
    "cvr_register_metrics": [Metric],
}
"""Hook -> what its "May return" tells all of."""


@pytest.mark.parametrize(("hook", "cls"), [(hook, cls) for hook, classes in RETURNED.items() for cls in classes])
def test_all_of_what_may_be_returned_is_told(hook, cls):
    text = SECTIONS[hook].split("**May return**:")[1].split("**Minimal example**:")[0]
    for name in {**vars(cls).get("__annotations__", {}), **vars(cls)}:
        value = vars(cls).get(name)
        if name.startswith("_") or (cls is Architecture and name == "training"):
            continue
        if inspect.isfunction(value):
            arguments = ", ".join(list(inspect.signature(value).parameters)[1:])
            assert f"{name}({arguments})`" in text, f"{cls.__name__}.{name}({arguments})"
        else:
            assert re.search(rf"`([\w.]+\.)?{name}(\[\w+\]|\(x\))?`", text), f"{cls.__name__}.{name}"


def test_the_constructor_of_an_architecture_is_told_exactly():
    parameters = inspect.signature(Architecture).parameters.values()
    plain = inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters])
    assert f"`{plain}`" in SECTIONS["cvr_register_architectures"]


def test_everything_that_a_recbole_model_may_carry_is_told():
    for name in CARRIED:
        assert re.search(rf"`{name}(\(config\))?`", SECTIONS["cvr_register_recbole_models"]), name


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_docstring_that_says_what_it_returns(hook):
    assert re.match(r"(Return|Add) [^\n]+[.;]", inspect.getdoc(getattr(hookspecs, hook)))


@pytest.mark.parametrize("which", ["minimal", "fuller"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_example_is_a_plugin_that_registers_something(distributions, hook, which):
    if hook == "cvr_register_recbole_models" and importlib.util.find_spec("recbole") is None:
        pytest.skip("RecBole is not installed")
    source = dict(zip(("minimal", "fuller"), blocks(hook), strict=True))[which]
    distributions.add("acme", source)
    registry = distributions.load()
    if hook == COMMAND.hook:
        registry.add_commands(click.Group())
    else:
        kind = KIND_OF[hook]
        ours = [entry for entry in registry.entries(kind) if entry.plugin == "acme"]
        assert ours
        assert all(entry.key == entry.name for entry in ours)
        use(kind, ours, registry)
    (info,) = [each for each in registry.plugins if each.name == "acme"]
    assert (info.status, info.failures) == ("ok", ())


def use(kind, entries, registry):
    """Use what an example registers, each kind in its way."""
    from cvr_plugins import plugins
    from cvr_plugins.testing import check_method

    plugins.reset()
    registry = plugins.registry()
    for entry in entries:
        if kind == "method":
            check_method(entry.name, checks=["options", "edge_batches", "moves", "predictions"])
        elif kind in ("architecture", "backbone", "weighting"):
            check_method("Naive", checks=["options", "training", "moves"], options={kind: entry.name})
        elif kind == "metric":
            import numpy as np

            from cvr_plugins.metrics import Scored, evaluate

            draw = np.random.default_rng(0)
            click = draw.integers(0, 2, 200)
            scored = Scored({"cvr": draw.random(200)}, click, click * draw.integers(0, 2, 200), groups=click * 0)
            assert evaluate(scored, [entry.name], find=registry.metric).get(f"cvr/click/{entry.name}") is not None
            nothing = Scored({"cvr": draw.random(3)}, [0, 0, 0], [0, 0, 0], groups=[0, 0, 0])
            assert evaluate(nothing, [entry.name], find=registry.metric).get(f"cvr/click/{entry.name}") is None
        elif kind == "dataset" and "path='" not in str(inspect.signature(entry.value)):
            assert len(entry.value()) > 0


def test_the_example_command_names_the_best_run(distributions, tmp_path, capsys):
    from cvr_plugins.cli._group import run
    from cvr_plugins.training.manifest import seal
    from cvr_plugins.training.run_folder import FORMAT, write_json

    distributions.add("acme", blocks("cvr_register_commands")[1])
    for name, value in (("first", 0.6), ("second", 0.7), ("third", None)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {"format": FORMAT})
        write_json(tmp_path / name / "metrics.json", {"values": {"cvr/click/auc": value}})
        seal(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("first", "second", "third")]
    assert run(["shop", "best", *folders]) == 0
    assert capsys.readouterr().out == f"{folders[1]}: cvr/click/auc 0.7000\n"
    assert run(["shop", "best", folders[2]]) == 2
    assert "No run has a value of cvr/click/auc." in capsys.readouterr().err


def test_the_example_data_set_reads_its_file(distributions, tmp_path):
    distributions.add("acme", blocks("cvr_register_datasets")[1])
    build = distributions.load().dataset("newsletter")
    log = build(rows=300)
    log.frame.to_csv(tmp_path / "mails.csv", index=False)
    read = build(path=tmp_path / "mails.csv")
    assert read.summary() == {**log.summary(), "oracle_conversion_rate": None}


@pytest.mark.slow
def test_the_example_models_train_in_recbole(distributions, small_data, tmp_path, monkeypatch):
    pytest.importorskip("recbole")
    from cvr_plugins.recbole import load_data_and_model, run

    monkeypatch.chdir(tmp_path)
    settings = {"epochs": 1, "use_gpu": False, "valid_metric": "Recall@10", "data_path": str(small_data)}
    settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    models = {"SmallGRU": {"recall@10"}, "LastItem": {"recall@10", "tophit"}}
    for (model, found), source in zip(models.items(), blocks("cvr_register_recbole_models"), strict=True):
        distributions.add(model.lower(), source)
        reset()
        metrics = ["Recall", "TopHit"][: len(found)]
        result = run(model, "toy", config_dict={**settings, "metrics": metrics}, out=model)
        assert set(result["test_result"]) == found
        config, loaded, *_ = load_data_and_model(model)
        assert type(loaded) is config.model_class
