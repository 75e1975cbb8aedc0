"""Stock RecBole finds our models, the methods and a third party's model by name: training, checkpoints, tuning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cvr_plugins.recbole.compat.messages import _version

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]

LOADED = """
import glob, os, pickle
{imports}
from recbole.quick_start import load_data_and_model, objective_function, run_recbole
from recbole.utils import get_trainer

names, sys.argv[1:] = sys.argv[1:], []

def loaded(file):
    fresh = "cvr_plugins" not in sys.modules
    config, model, dataset, train, valid, test = load_data_and_model(file)
    # RecBole gives NumPy its old names when a Config is made, not when one is read; its metrics need them.
    config.compatibility_settings()
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    classes = [type(each).__name__ for each in (model, dataset, trainer)]
    found = trainer.evaluate(test, load_best_model=False, show_progress=False)
    return {{"fresh": fresh, "name": config["model"], "classes": classes, "test": found}}
"""

TRAIN = """
from recbole.trainer import HyperTuning
from whim_models import Whim

say(by_class=run_recbole(model=Whim, config_file_list=["Whim.yaml"], saved=False)["test_result"])
for name in names:
    result = run_recbole(model=name.lower(), config_file_list=[f"{name}.yaml"])
    (file,) = glob.glob(f"saved/{name}-*.pth")
    say(**{name: {
        "valid": result["best_valid_result"], "test": result["test_result"], "file": file, "again": loaded(file),
        "by_file": run_recbole(config_file_list=[f"{name}.yaml", f"{name}-named.yaml"])["test_result"],
        "tuned": objective_function({"learning_rate": 0.02}, [f"{name}.yaml", f"{name}-named.yaml"], saved=False),
    }})
say(trained_by=load_data_and_model(glob.glob("saved/Whim-*.pth")[0])[1].trained_by.item())
say(bpr=run_recbole(model="BPR", config_file_list=["shop.yaml"])["test_result"])
try:
    tuning = HyperTuning(objective_function, params_dict={"choice": {"embedding_size": [4, 8]}},
                         fixed_config_file_list=["Whim.yaml", "Whim-named.yaml"], early_stop=10)
    tuning.run()
    say(tuning=sorted(tuning.params2result))
except ImportError as error:
    say(tuning=error)
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "0"
try:
    load_data_and_model(file)
except pickle.UnpicklingError as error:
    say(refused=error, alone=error.__suppress_context__)
"""

# What each child has imported is what its parent has: RecBole, and nothing of ours.
FRESH = """
def in_a_child(key, function):
    if os.fork() == 0:
        say(**{key: function()})
        os._exit(0)
    assert os.wait()[1] == 0

for file in names:
    in_a_child(file, lambda: loaded(file))
in_a_child("bpr", lambda: run_recbole(model="BPR", config_file_list=["shop.yaml"])["test_result"])
"""

CARRIED = {
    "Whim": ["Whim", "ItsDataset", "ItsTrainer"],
    "PARS": ["PARS", "SessionDataset", "SessionTrainer"],
    "NISE": ["NISE", "MethodDataset", "MethodTrainer"],
}


def test_names_are_found_in_training_tuning_and_loading(place, models):
    # One test, so that two workers do not both make the runs.
    for name, keys in models.items():
        place.config(name, **keys)
        place.config(f"{name}-named", model=name.upper())
    place.config("shop", **models["Whim"])
    trained = place.said(LOADED.format(imports="import cvr_plugins") + TRAIN, *models)
    files = [vars(trained)[name]["file"] for name in models]
    fresh = vars(place.said(LOADED.format(imports="") + FRESH, *files))
    for name in models:
        said = SimpleNamespace(**vars(trained)[name])
        assert said.valid
        assert said.test.keys() >= said.valid.keys()
        assert said.by_file == said.test, "the same run"
        assert said.tuned["model"] == name
        assert said.tuned["test_result"].keys() == said.test.keys()
        expected = {"fresh": False, "name": name, "classes": CARRIED[name], "test": said.test}
        assert said.again == expected, "by the model's own spelling"
        assert fresh[said.file] == {**expected, "fresh": True}
    assert set(trained.Whim["test"]) == {"oddness@2", "oddness@5", "hit@2", "hit@5"}, "metrics and topk are its own"
    assert trained.trained_by == 1.0
    assert trained.by_class == trained.Whim["test"], "a class is as good as its name"
    assert trained.bpr == fresh["bpr"], "RecBole's own models train as without us"

    if _version("hyperopt") == "0.2.5":
        assert trained.tuning == ["embedding_size:4", "embedding_size:8"]
    else:
        assert "RecBole's HyperTuning does not run with" in trained.tuning
    assert "set the environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 if you trust the file" in trained.refused
    assert trained.alone
