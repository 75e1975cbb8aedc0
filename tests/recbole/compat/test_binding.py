"""What a model class carries is known to RecBole under the names it looks for, and nothing of RecBole's is lost."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import pytest

pytest.importorskip("recbole")

import recbole.data.dataset
import recbole.evaluator
import recbole.trainer
from recbole.config import Config
from recbole.config import configurator as recbole_configurator
from recbole.data.dataset import Dataset
from recbole.evaluator import evaluator, register
from recbole.evaluator.base_metric import AbstractMetric, TopkMetric
from recbole.model.abstract_recommender import AbstractRecommender, GeneralRecommender
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType, InputType, get_trainer

from cvr_plugins.recbole.compat import binding
from cvr_plugins.recbole.compat.binding import BindingError, bind


class QuaintsTrainer(Trainer):
    pass


class QuaintsDataset(Dataset):
    pass


class Oddness(TopkMetric):
    smaller = True


class Quaint(GeneralRecommender):
    input_type = InputType.PAIRWISE
    recbole_trainer = QuaintsTrainer
    recbole_dataset = QuaintsDataset
    recbole_defaults = {
        "embedding_size": 7,
        "dims": [1, 2],
        "topk": [3],
        "epochs": 4,
        "learning_rate": 0.5,
        "stopping_step": 6,
    }
    recbole_metrics = (Oddness,)


class Plain(GeneralRecommender):
    input_type = InputType.PAIRWISE


@pytest.fixture(autouse=True)
def _clean(distributions, recbole_as_it_was, monkeypatch):
    monkeypatch.setattr(Config, "compatibility_settings", lambda self: None)
    monkeypatch.setattr(sys, "argv", ["test"])


def config(model="Quaint", files=(), **given):
    return Config(model, "ml-100k", config_file_list=[str(file) for file in files], config_dict=given)


def variant(**attributes):
    return type("Quaint", (GeneralRecommender,), {"input_type": InputType.PAIRWISE, **attributes})


def test_trainer_and_dataset_are_found_by_the_models_name():
    assert get_trainer(Quaint.type, "Quaint") is Trainer
    assert config(Quaint)["model"] == bind(Quaint) == "Quaint", "a class that is passed is bound as one that is named"
    assert get_trainer(Quaint.type, "Quaint") is QuaintsTrainer
    assert recbole.data.dataset.QuaintDataset is QuaintsDataset


def test_metrics_are_in_every_table_of_recboles():
    bind(Quaint)
    for module in (register, recbole.evaluator, evaluator):
        assert module.metrics_dict["oddness"] is Oddness
    assert register.metric_information["oddness"] == Oddness.metric_need
    for module in (register, recbole.evaluator, recbole_configurator):
        assert module.metric_types["oddness"] is EvaluatorType.RANKING
        assert module.smaller_metrics.count("oddness") == 1
    made = config(Quaint, metrics=["Oddness", "NDCG"], valid_metric="Oddness@3")
    assert made["eval_type"] is EvaluatorType.RANKING
    assert made["valid_metric_bigger"] is False
    assert register.Register(made).need("rec.topk")


def test_a_metric_without_a_model():
    binding.register_metrics([Oddness])
    binding.register_metrics([Oddness])
    assert config("BPR", metrics=["oddness"], valid_metric="oddness@3")["metrics"] == ["oddness"]


def test_defaults_lie_between_recboles_and_the_users(tmp_path, monkeypatch):
    bind(Quaint)
    file = tmp_path / "quaint.yaml"
    file.write_text("epochs: 5\nlearning_rate: 0.25\nstopping_step: 7\n")
    monkeypatch.setattr(sys, "argv", ["test", "--stopping_step=9"])
    made = config(Quaint, [file], learning_rate=0.125, stopping_step=8)
    expected = {
        "embedding_size": 7,  # ours, unknown to RecBole
        "topk": [3],  # ours over RecBole's [10]
        "epochs": 5,  # the file's over ours
        "learning_rate": 0.125,  # the dictionary's over the file's
        "stopping_step": 9,  # the command line's over all
        "train_batch_size": 2048,  # RecBole's
    }
    assert {key: made[key] for key in expected} == expected
    made["dims"].append(3)
    assert config(Quaint)["dims"] == [1, 2], "defaults are copied"


def test_defaults_come_after_those_of_the_kind_and_the_data_set():
    from recbole.model.abstract_recommender import ContextRecommender

    class Contextual(ContextRecommender):
        recbole_defaults = {"metrics": ["LogLoss"], "valid_metric": "LogLoss", "threshold": None, "load_col": None}

    made = config(Contextual)
    assert made["metrics"] == ["LogLoss"], "RecBole's for context-aware models are AUC and LogLoss"
    assert (made["threshold"], made["load_col"]) == (None, None), "RecBole has its own for ml-100k"


def test_a_model_may_complete_the_configuration():
    seen = {}

    class Completing(Plain):
        recbole_defaults = {"epochs": 4}

        @classmethod
        def recbole_configure(cls, config):
            seen.update(internal=config.internal_config_dict["epochs"], given=dict(config.external_config_dict))
            config.external_config_dict["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO"}

    made = config(Completing, epochs=9)
    assert seen == {"internal": 4, "given": {"epochs": 9}}
    assert made["eval_args"]["order"] == "TO"


def test_a_users_own_class_that_carries_nothing_is_left_alone():
    made = config(Plain)
    assert made["model"] == "Plain"
    assert Plain not in binding._names
    assert b"cvr_plugins" not in pickle.dumps(made, protocol=4).replace(Plain.__module__.encode(), b"")


@pytest.mark.parametrize("spelling", ["MASKEDREC", "builtin:MaskedRec"])
def test_the_configuration_has_the_models_own_spelling(spelling):
    assert config(spelling)["model"] == "MaskedRec"


def test_a_contested_model_is_called_by_its_qualified_name(distributions):
    source = """
    from cvr_plugins import hookimpl
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.utils import InputType

    class Own(Dataset):
        pass

    class Quaint(GeneralRecommender):
        input_type = InputType.PAIRWISE
        recbole_dataset = Own

    @hookimpl
    def cvr_register_recbole_models():
        return [Quaint]
    """
    distributions.add("acme", source)
    distributions.add("zeta", source)
    for plugin in ("acme", "zeta"):
        made = config(f"{plugin.upper()}:quaint")
        assert made["model"] == f"{plugin}:Quaint"
        assert getattr(recbole.data.dataset, made["model"] + "Dataset").__module__ == f"{plugin}_module"
        assert made.model_class is recbole.utils.get_model(made["model"])
    assert "QuaintDataset" not in vars(recbole.data.dataset)


def test_binding_twice_changes_nothing():
    bind(Quaint)
    tables = [dict(vars(recbole.trainer)), dict(register.metrics_dict), list(register.smaller_metrics)]
    load = Config._load_internal_config_dict
    bind(Quaint)
    bind(Quaint, name="Quaint")
    assert [dict(vars(recbole.trainer)), dict(register.metrics_dict), list(register.smaller_metrics)] == tables
    assert Config._load_internal_config_dict is load


def test_a_class_defined_anew_takes_the_place_of_its_old_self():
    bind(Quaint)
    again = type("QuaintsTrainer", (Trainer,), {"__module__": __name__})
    bind(variant(recbole_trainer=again))
    assert recbole.trainer.QuaintTrainer is again


class NDCG(TopkMetric):
    pass


CLASHES = [
    ("KG", {"recbole_trainer": QuaintsTrainer}, "the trainer 'KGTrainer'", "recbole.trainer.trainer.KGTrainer"),
    (
        "Sequential",
        {"recbole_dataset": QuaintsDataset},
        "the dataset 'SequentialDataset'",
        "recbole.data.dataset.sequential_dataset.SequentialDataset",
    ),
    ("Quaint", {"recbole_metrics": (Oddness, NDCG)}, "RecBole's metric 'ndcg'", "recbole.evaluator.metrics.NDCG"),
]


@pytest.mark.parametrize(("name", "carried", "place", "owner"), CLASHES, ids=["trainer", "dataset", "metric"])
def test_nothing_of_recboles_is_overwritten(name, carried, place, owner):
    model = type(name, (GeneralRecommender,), {"recbole_metrics": (Oddness,), "__module__": "acme", **carried})
    with pytest.raises(BindingError) as caught:
        bind(model)
    message = str(caught.value)
    assert message.startswith(f"acme.{name} brings {__name__}.")
    assert f"as {place}, which is RecBole's own already, {owner}; rename" in message
    assert "oddness" not in register.metrics_dict, "all or nothing"
    assert vars(sys.modules[owner.rpartition(".")[0]])[owner.rpartition(".")[2]].__module__.startswith("recbole.")
    with pytest.raises(BindingError):
        config(model)


def test_nothing_of_another_model_is_overwritten():
    bind(Quaint)

    class Other(Trainer):
        pass

    with pytest.raises(
        BindingError, match=r"'QuaintTrainer', which is another's already, .*QuaintsTrainer; rename one"
    ):
        bind(variant(recbole_trainer=Other))
    assert recbole.trainer.QuaintTrainer is QuaintsTrainer


def test_the_trainer_that_recbole_itself_takes_for_a_name_may_be_carried():
    class S3Rec(GeneralRecommender):
        recbole_trainer = recbole.trainer.S3RecTrainer

    assert bind(S3Rec) == "S3Rec"


BARE = type("Bare", (AbstractMetric,), {})
WRONG = [
    (variant(recbole_trainer=3), "recbole_trainer must be a RecBole trainer"),
    (variant(recbole_dataset=Trainer), "recbole_dataset must be a RecBole dataset class; got the class Trainer."),
    (variant(recbole_defaults=["epochs"]), "recbole_defaults must map RecBole's parameters to values; got ['epochs']."),
    (variant(recbole_defaults={1: 2}), "recbole_defaults must map RecBole's parameters to values; got {1: 2}."),
    (variant(recbole_metrics=Oddness), "recbole_metrics must be a tuple of RecBole metric classes; got the class Odd"),
    (variant(recbole_metrics=("NDCG",)), "recbole_metrics must hold RecBole metric classes; got 'NDCG'."),
    (variant(recbole_metrics=(BARE,)), "recbole_metrics: Bare has no 'metric_need', which RecBole asks it for."),
    (variant(recbole_configure={}), "recbole_configure must be a class method; got {}."),
    (variant(recbole_metric=(Oddness,)), "has an unknown attribute 'recbole_metric'. Did you mean recbole_metrics?"),
    (3, "A RecBole model is a class; got 3."),
    (type("Quaint", (AbstractRecommender,), {}), "Quaint has no 'type', RecBole's ModelType; derive it from"),
]


@pytest.mark.parametrize(("model", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_is_carried_is_checked(distributions, model, reason):
    from cvr_plugins.plugins import recbole_problem

    with pytest.raises(BindingError, match=re.escape(reason)) as caught:
        bind(model)
    if model != 3:
        assert recbole_problem(model) == str(caught.value), "the reason with which the hook refuses it"


def test_recboles_own_models_are_left_alone():
    from recbole.model.general_recommender import BPR

    before = dict(vars(recbole.trainer))
    assert bind(BPR) == "BPR"
    assert dict(vars(recbole.trainer)) == before
    assert pickle.loads(pickle.dumps(config("BPR"))).final_config_dict["model"] == "BPR"


def test_a_copied_or_pickled_configuration_is_what_it_was():
    made = config(Quaint, learning_rate=0.125)
    for again in (copy.deepcopy(made), *(pickle.loads(pickle.dumps(made, protocol=p)) for p in (2, 3, 4, 5))):
        assert vars(again).keys() == vars(made).keys()
        assert again.final_config_dict == made.final_config_dict
        assert again.model_class is Quaint


@pytest.mark.parametrize("first", ["import cvr_plugins", "from recbole.config import Config"])
def test_config_knows_us_whichever_is_imported_first(fresh, first):
    done = fresh(
        f"""
        {first}
        import cvr_plugins
        from recbole.config import Config
        from recbole.model.general_recommender import BPR
        Config.compatibility_settings = lambda self: None

        class Whim(BPR):
            __module__ = "whim"
            recbole_defaults = {{"epochs": 77}}

        from cvr_plugins.recbole.compat.binding import bind
        if not {first!r}.startswith("import"):
            bind(Whim)
        print(Config(Whim, "ml-100k")["epochs"])
        """
    )
    assert (done.stderr, done.stdout) == ("", "77\n")
