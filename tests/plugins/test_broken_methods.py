"""Methods and models of installed distributions that fail when built or trained: who is named, and what is left."""

import json
import sys

import pytest

CONSTRUCTOR = "def __init__(self):\n    super().__init__()\n    raise {}\n"

NAN_PREDICTIONS = """
def predict(self, out):
    return dict.fromkeys(self.tasks, out.logits["ctr"] * float("nan"))
"""

MODEL = """
from cvr_plugins import hookimpl

FACTORS = [{factors}]

@hookimpl
def cvr_register_recbole_models():
    from recbole.model.general_recommender.bpr import BPR

    class {name}(BPR):
        recbole_defaults = {{"embedding_size": 2}}

        def __init__(self, config, dataset):
            super().__init__(config, dataset)
            {then}

        def calculate_loss(self, interaction):
            return super().calculate_loss(interaction) * (FACTORS.pop() if FACTORS else 1)

    return [{name}]
"""

FAILED = ["config.yaml", "history.json", "run.json", "versions.json"]


def model(name, *, factors="", then="pass"):
    return MODEL.format(name=name, factors=factors, then=then)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


BUILT_BPR, NAN_BPR = model("BuiltBPR", then="raise KeyError('boom')"), model("NanBPR", factors="float('nan')")
BUILDING = [
    (
        "torch-rechub",
        CONSTRUCTOR.format("RuntimeError('boom')"),
        ", objective: its constructor raised RuntimeError: boom.",
    ),
    ("torch-rechub", CONSTRUCTOR.format("ValueError('boom')"), ", objective: boom"),
    ("recbole", CONSTRUCTOR.format("ValueError('boom')"), ", objective: boom"),
    ("recbole", BUILT_BPR, ": its constructor raised KeyError: 'boom'."),
]
"""Framework, body of a method's objective or a plugin with a RecBole model, and the end of what is said."""


@pytest.mark.parametrize(("framework", "broken", "message"), BUILDING)
def test_what_fails_when_it_is_built_is_named_and_leaves_nothing(
    framework, broken, message, method_source, distributions, typed, train, tmp_path
):
    pytest.importorskip(framework.replace("-", "_"))
    name = "BuiltBPR" if broken is BUILT_BPR else "Broken"
    distributions.add("acme", broken if broken is BUILT_BPR else method_source(extra=broken))
    code, _, err = train(name, tmp_path / "run", framework)
    assert code == 2
    assert err.splitlines()[-1] == f"Error: {name} (plugin acme){message}"
    assert not (tmp_path / "run").exists()
    if broken is not BUILT_BPR:
        code, out, _ = typed("check", "Broken", "--only", "construction")
        assert code == 1
        assert "boom" in out


TRAINING = [
    *[
        (framework, {"factor": "float('nan')"}, "the loss term 'ctr' became nan in epoch 0 by batch 1. Lower the learn")
        for framework in ("torch-rechub", "recbole")
    ],
    ("torch-rechub", {"factor": "exit('mine')"}, "training raised SystemExit: mine."),
    ("recbole", {"extra": NAN_PREDICTIONS}, "training raised ValueError: predictions['cvr'] must be finite"),
    ("recbole", NAN_BPR, "training raised ValueError: Training loss is nan."),
]
"""Framework, what is wrong with a method or a plugin with a RecBole model, and what is said."""


@pytest.mark.parametrize(("framework", "broken", "message"), TRAINING)
def test_what_fails_when_it_is_trained_is_named_and_its_folder_says_so(
    framework, broken, message, method_source, distributions, typed, train, tmp_path, small_data
):
    pytest.importorskip(framework.replace("-", "_"))
    name = "NanBPR" if broken is NAN_BPR else "Broken"
    distributions.add("acme", broken if broken is NAN_BPR else method_source(**broken))
    code, _, err = train(name, tmp_path / "run", framework)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"Error: {name} (plugin acme): {message}")

    assert set(FAILED) <= set(names_in(tmp_path / "run.unfinished"))
    about = json.loads((tmp_path / "run.unfinished" / "run.json").read_text())
    assert (about["framework"], about["plugin"]) == (framework, "acme")
    assert about["error"].startswith(f"{name} (plugin acme): {message}")
    assert "Traceback" in about["traceback"]
    assert json.loads((tmp_path / "run.unfinished" / "history.json").read_text())["stopped"] == "error"
    assert [each for each in names_in(tmp_path) if each.startswith("run")] == ["run.unfinished"]

    code, _, err = typed("evaluate", tmp_path / "run.unfinished", small_data / "log.csv")
    assert code == 2
    assert f"is a run that failed, so no model was finished: {about['error']}" in err


def test_a_failed_run_in_a_folder_of_its_own_says_where_that_is(
    method_source, distributions, typed, small_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    distributions.add("acme", method_source(factor="float('nan')"))
    code, _, err = typed("run", "-m", "Broken", "-d", small_data / "log.csv", "epochs=1", "show_progress=false")
    assert code == 1
    (folder,) = (tmp_path / "runs").iterdir()
    told = err.splitlines()[-1]
    assert f" {folder.relative_to(tmp_path)} says why; " in told
    assert json.loads((folder / "run.json").read_text())["error"] in told


def test_what_was_trained_in_recbole_before_the_failure_is_kept_in_the_one_folder_and_goes_on(
    distributions, train, typed, tmp_path, monkeypatch
):
    pytest.importorskip("recbole")
    monkeypatch.chdir(tmp_path)
    # 540 of the ratings are trained on, in batches of 256.
    distributions.add("acme", model("LateBPR", factors="float('nan'), *[1] * 7"))
    code, out, err = train("LateBPR", "run", "recbole", "epochs=4")
    assert code == 1
    done = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert err.splitlines()[-1] == (
        "Error: LateBPR (plugin acme): training raised ValueError: Training loss is nan. "
        "run.unfinished says why; 'cvr-plugins run --resume run.unfinished' goes on."
    )
    assert [name for name in names_in(tmp_path) if name.startswith("run")] == ["run.unfinished"]
    assert {*FAILED, "checkpoint.pth"} <= set(names_in(tmp_path / "run.unfinished"))
    history = json.loads((tmp_path / "run.unfinished" / "history.json").read_text())
    assert (history["stopped"], len(history["epochs"])) == ("error", len(done))
    assert 0 < len(done) < 4

    assert sys.modules["acme_module"].FACTORS == [], "the plugin is mended"
    code, out, err = typed("run", "--resume", "run", "-o", "mended", "show_progress=false")
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch ")] == [
        str(epoch) for epoch in range(len(done), 4)
    ]
    assert train("LateBPR", "whole", "recbole", "epochs=4")[0] == 0
    whole, mended = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "mended"))
    assert mended["epochs"] == whole["epochs"]


def test_what_recbole_s_own_model_had_trained_before_it_failed_is_told(train, tmp_path, monkeypatch):
    recbole_trainer = pytest.importorskip("recbole.trainer")
    monkeypatch.chdir(tmp_path)
    fine = [True] * 7

    def check(self, loss):
        if not (fine and fine.pop()):
            raise ValueError("Training loss is nan")

    monkeypatch.setattr(recbole_trainer.Trainer, "_check_nan", check)
    code, _, err = train("BPR", "run", "recbole", "epochs=4")
    assert code == 1
    assert err.splitlines()[-1] == (
        "Error: BPR: ValueError: Training loss is nan. "
        "run.unfinished says why; 'cvr-plugins run --resume run.unfinished' goes on."
    )
    assert [name for name in names_in(tmp_path) if name.startswith("run")] == ["run.unfinished"]


LEAVING = """
from cvr_plugins import Architecture, Method, hookimpl
from cvr_plugins.metrics import Metric
from cvr_plugins.objectives import ESMM

def leave(*_, **__):
    raise {error}

@hookimpl
def cvr_register_datasets():
    return {{"leaving": leave}}

@hookimpl
def cvr_register_metrics():
    return {{"leaving": Metric("leaving", "max", leave, "")}}

@hookimpl
def cvr_register_architectures():
    leaving = dict.fromkeys(("__init__", "forward", "parameters_for"), leave)
    return {{"leaving": type("Leaving", (Architecture,), leaving)}}

@hookimpl
def cvr_register_methods():
    names = ("prepare", "loss", "predict")
    return [Method(f"Leaves_{{name}}", type("Leaves", (ESMM,), {{name: leave}})) for name in names]

@hookimpl
def cvr_register_recbole_models():
    from recbole.data.dataset import Dataset
    from recbole.model.general_recommender.bpr import BPR

    dataset = type("Leaving", (Dataset,), {{"__init__": leave}})
    configured = {{"recbole_configure": classmethod(leave)}}
    return [type("ConfiguredBPR", (BPR,), configured), type("DataBPR", (BPR,), {{"recbole_dataset": dataset}})]
"""

RUN = "run -m ESMM -d {log} epochs=1 dims=[2] show_progress=false"
RECBOLES = "run --framework recbole -d toy data_path={data} -m"
LEFT = {
    "run -m ESMM -d leaving": "leaving (plugin acme): its builder raised",
    "run -m FM --framework recbole -d leaving": "leaving (plugin acme): its builder raised",
    "export leaving out.csv": "leaving (plugin acme): its builder raised",
    f"{RUN} metrics=[leaving]": "Metric 'leaving' (plugin acme): its computation raised",
    f"{RUN} architecture=leaving": (
        "ESMM (plugin acme), architecture 'leaving' on backbone 'mlp': its constructor raised"
    ),
    f"{RUN} -m Leaves_prepare": "Leaves_prepare (plugin acme): its constructor raised",
    f"{RUN} -m Leaves_loss": "Leaves_loss (plugin acme): training raised",
    f"{RECBOLES} ConfiguredBPR": "ConfiguredBPR (plugin acme): recbole_configure raised",
    f"{RECBOLES} DataBPR": "DataBPR (plugin acme): its data set raised",
    "check Leaves_predict --only predictions": None,
}
"""Command line -> what it says of a part that leaves, None for what is a table."""


@pytest.mark.parametrize(("error", "said"), [("SystemExit(0)", "SystemExit: 0"), ("GeneratorExit", "GeneratorExit")])
@pytest.mark.parametrize("line", LEFT)
def test_whoever_leaves_the_process_is_named_and_the_command_fails(
    line, error, said, distributions, typed, small_data, tmp_path, monkeypatch
):
    pytest.importorskip("recbole" if "recbole" in line else "torch_rechub")
    monkeypatch.chdir(tmp_path)
    distributions.add("acme", LEAVING.format(error=error))
    code, out, err = typed(*line.format(log=small_data / "log.csv", data=small_data).split())
    if LEFT[line] is None:
        assert (code, f"found: {said}" in out) == (1, True)
    else:
        assert code in (1, 2)
        assert f"Error: {LEFT[line]} {said}." in err


def test_a_model_that_leaves_while_it_predicts_is_named(
    distributions, method_source, train, typed, small_data, tmp_path, monkeypatch
):
    leaving = (
        "def predict(self, out):\n    import os\n    return os.environ.get('LEAVE') and exit(0) or super().predict(out)"
    )
    distributions.add("acme", method_source(extra=leaving))
    assert train("Broken", tmp_path / "run")[0] == 0
    monkeypatch.setenv("LEAVE", "1")
    code, _, err = typed("predict", tmp_path / "run", small_data / "log.csv", tmp_path / "out.csv")
    assert (code, err.splitlines()[-1]) == (2, "Error: Broken (plugin acme): prediction raised SystemExit: 0.")


def test_what_a_builder_leaves_changed_is_put_back_and_told(distributions, typed):
    torch = pytest.importorskip("torch")
    distributions.add(
        "acme",
        """
        from cvr_plugins import hookimpl

        def build():
            import torch
            torch.set_grad_enabled(False)
            raise SystemExit

        @hookimpl
        def cvr_register_datasets():
            return {"leaving": build}
        """,
    )
    code, _, err = typed("run", "-m", "ESMM", "-d", "leaving")
    assert (code, torch.is_grad_enabled()) == (2, True)
    assert "Plugin 'acme' (state): torch's gradient mode changed by its builder, and put back." in err
