"""Stock RecBole finds our models, the methods and a third party's model by name: training, checkpoints, tuning."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.stock_recbole, pytest.mark.slow]

TRAIN = """
import cvr_plugins
from recbole.quick_start import run_recbole
from recbole.utils import get_model, get_trainer
import recbole.data.dataset

name, file = sys.argv[1:]
sys.argv[1:] = []
result = run_recbole(model=name or None, config_file_list=[file])
say(valid=result["best_valid_result"], test=result["test_result"])
"""

LOAD = """
{imports}
import glob
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer
fresh = "cvr_plugins" not in sys.modules
(file,) = sys.argv[1:]
sys.argv[1:] = []
config, model, dataset, train, valid, test = load_data_and_model(file)
# RecBole gives NumPy its old names when a Config is made, not when one is read; its metrics need them.
config.compatibility_settings()
trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
say(
    fresh=fresh, model=type(model).__name__, name=config["model"], dataset=type(dataset).__name__,
    trainer=type(trainer).__name__, test=trainer.evaluate(test, load_best_model=False, show_progress=False),
)
"""

CARRIED = {
    "Whim": ("ItsDataset", "ItsTrainer"),
    "PARS": ("SessionDataset", "SessionTrainer"),
    "MaskedRec": ("SessionDataset", "SessionTrainer"),
    "NISE": ("MethodDataset", "MethodTrainer"),
}


@pytest.fixture(scope="module")
def trained(place):
    """Train a model once, by another spelling of its name, and return what came of it and its checkpoint."""
    done = {}

    def train(model):
        if model.name not in done:
            before = set(place.checkpoints.glob("*.pth"))
            file = place.config(**model.keys)
            said = place.said(TRAIN, model.name.lower(), file)
            (checkpoint,) = set(place.checkpoints.glob("*.pth")) - before
            done[model.name] = (said, checkpoint)
        return done[model.name]

    return train


def test_run_recbole_by_name(trained, model):
    said, checkpoint = trained(model)
    assert said.valid
    assert said.test.keys() >= said.valid.keys()
    assert checkpoint.name.startswith(f"{model.name}-"), "by the model's own spelling"
    if model.name == "Whim":
        assert set(said.test) == {"oddness@2", "oddness@5", "hit@2", "hit@5"}, "metrics and topk are its defaults"


def test_run_recbole_by_a_configuration_file(place, trained, model):
    said = place.said(TRAIN, "", place.config(model=model.name, **model.keys))
    assert said.test == trained(model)[0].test, "the same run"


@pytest.mark.parametrize("imports", ["import cvr_plugins", ""], ids=["imported", "fresh"])
def test_a_checkpoint_is_loaded_by_name(place, trained, model, imports):
    said, checkpoint = trained(model)
    loaded = place.said(LOAD.format(imports=imports), str(checkpoint))
    assert loaded.fresh is (imports == "")
    assert (loaded.model, loaded.name) == (model.name, model.name)
    assert (loaded.dataset, loaded.trainer) == CARRIED[model.name]
    assert loaded.test == said.test


def test_training_and_loading_in_one_process(place):
    said = place.said(
        """
        import glob
        import cvr_plugins
        from recbole.quick_start import load_data_and_model, run_recbole
        run_recbole(model="Whim", dataset="ml-100k", config_dict={"epochs": 1, "checkpoint_dir": "one",
                    "show_progress": False, "state": "ERROR", "use_gpu": False})
        (file,) = glob.glob("one/*.pth")
        config, model, *_ = load_data_and_model(file)
        say(model=type(model).__module__, trained_by=model.trained_by.item(), width=config["width"])
        """
    )
    assert (said.model, said.trained_by, said.width) == ("whim_models", 1.0, 6)


def test_a_class_is_as_good_as_its_name(place, trained, whim):
    said = place.said(
        TRAIN.replace("model=name or None", "model=Whim").replace(
            "import cvr_plugins", "import cvr_plugins\nfrom whim_models import Whim"
        ),
        "",
        place.config(**whim.keys),
    )
    assert said.test == trained(whim)[0].test


def test_the_hyper_tuning_objective(place, trained, model):
    said = place.said(
        """
        import cvr_plugins
        from recbole.quick_start import objective_function
        (file,) = sys.argv[1:]
        sys.argv[1:] = []
        say(**objective_function({"learning_rate": 0.02}, [file], saved=False))
        """,
        place.config(model=model.name.upper(), **model.keys),
    )
    assert said.model == model.name
    assert said.test_result.keys() == trained(model)[0].test.keys()


def test_hyper_tuning_searches_or_says_what_it_needs(place):
    done = place.python(
        """
        import cvr_plugins
        from recbole.quick_start import objective_function
        from recbole.trainer import HyperTuning
        (file,) = sys.argv[1:]
        sys.argv[1:] = []
        try:
            tuning = HyperTuning(objective_function, params_dict={"choice": {"width": [4, 8]}},
                                 fixed_config_file_list=[file], early_stop=10)
            tuning.run()
            say(tried=sorted(tuning.params2result), best=tuning.best_params)
        except ImportError as error:
            say(error=error)
        """,
        place.config(model="Whim", dataset="ml-100k", epochs=1),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    from cvr_plugins.recbole.compat.messages import _version

    if _version("hyperopt") == "0.2.5":
        assert '"tried": ["width:4", "width:8"]' in done.stdout
    else:
        assert "RecBole's HyperTuning does not run with" in done.stdout
        assert "pip install 'cvr-plugins[stock-recbole]'." in done.stdout


def test_without_the_environment_variable_loading_says_what_to_do(place, trained, whim):
    done = place.python(
        LOAD.format(imports="import cvr_plugins"), str(trained(whim)[1]), TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="0"
    )
    assert done.returncode != 0
    assert done.stderr.count("Traceback") == 1
    assert "set the environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 if you trust the file" in done.stderr


def test_recboles_own_models_train_as_without_us(place):
    code = """
    {imports}
    from recbole.quick_start import run_recbole
    (file,) = sys.argv[1:]
    sys.argv[1:] = []
    say(**run_recbole(model="BPR", dataset="ml-100k", config_file_list=[file]))
    """
    file = place.config(epochs=1)
    ours, own = (place.said(code.format(imports=imports), file) for imports in ("import cvr_plugins", ""))
    assert ours.test_result == own.test_result
    assert ours.best_valid_result == own.best_valid_result
