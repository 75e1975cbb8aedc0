"""Checkpoints: training goes on from them to the bit, RecBole reads them, and nothing that is in one is executed."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("recbole")

from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.evaluator.base_metric import TopkMetric
from recbole.trainer import Trainer
from recbole.utils import ModelType, get_trainer, init_seed

from cvr_plugins.recbole import CheckpointError, Config, SafeCheckpoints, load_checkpoint
from cvr_plugins.recbole.compat.checkpoints import load_weights

SEQUENTIAL = {
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
}
MODELS = {
    "BPR": {},
    "GRU4Rec": {**SEQUENTIAL, "learning_rate": 0.01},
    "SASRec": {**SEQUENTIAL, "hidden_dropout_prob": 0.5},
    "BERT4Rec": SEQUENTIAL,
    "NeuMF": {"learner": "adagrad", "dropout_prob": 0.3},
    "DeepFM": {"threshold": {"rating": 3}},
    "RecVAE": {"hidden_dimension": 16, "latent_dimension": 8},
    "KD_DAGFM": {"threshold": {"rating": 3}},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def prepare(brief):
    """Make a trainer with safe checkpoints, and its three loaders, in the order and with the seeds of RecBole."""

    def make(model: str = "BPR", *mixins: type, **keys: object):
        config = Config(model, config_dict={**brief, **MODELS.get(model, {}), **keys})
        init_seed(config["seed"], True)
        loaders = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], True)
        model = config.model_class(config, loaders[0]._dataset)
        base = get_trainer(config["MODEL_TYPE"], config["model"])
        return type(base.__name__, (*mixins, SafeCheckpoints, base), {})(config, model), loaders

    return make


def interrupted(trainer, loaders, epoch: int) -> None:
    """Train, and press Ctrl-C at the second batch of an epoch."""
    step, seen = trainer.optimizer.zero_grad, []

    def zero_grad(*args, **options):
        at = len(trainer.history.records)
        seen.append(at)
        if at == epoch and seen.count(at) == 2:
            raise KeyboardInterrupt
        return step(*args, **options)

    for name, each in vars(trainer).items():
        if name.startswith("optimizer"):
            each.zero_grad = zero_grad
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loaders[0], loaders[1], verbose=False)


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_interrupted_training_ends_as_if_it_had_not_been(model, epoch, prepare):
    whole, loaders = prepare(model, epochs=5)
    best = whole.fit(loaders[0], loaders[1], verbose=False)
    weights = copy.deepcopy(whole.model.state_dict())
    tested = whole.evaluate(loaders[2])

    first, loaders = prepare(model, epochs=5)
    interrupted(first, loaders, epoch)
    init_seed(7, True)
    second, loaders = prepare(model, epochs=5)
    second.resume_checkpoint(first.saved_model_file)
    assert second.start_epoch == epoch
    assert second.fit(loaders[0], loaders[1], verbose=False) == best
    assert same(weights, second.model.state_dict())
    assert second.history == whole.history
    assert second.train_loss_dict == whole.train_loss_dict
    assert second.evaluate(loaders[2]) == tested


def test_the_count_of_early_stopping_goes_on(prepare):
    class Falling:
        """Validates worse with every epoch but the first."""

        def _valid_epoch(self, *args, **options):
            _, result = super()._valid_epoch(*args, **options)
            score = 1.0 / len(self.history.records)
            self.history.records[-1].value = score
            return score, result

    whole, loaders = prepare("BPR", Falling, epochs=20, stopping_step=4)
    best = whole.fit(loaders[0], loaders[1], verbose=False)
    assert [each.epoch for each in whole.history.records] == [0, 1, 2, 3, 4, 5]
    first, loaders = prepare("BPR", Falling, epochs=20, stopping_step=4)
    interrupted(first, loaders, 3)
    assert Path(first.saved_model_file).exists()
    assert Path(first.last_model_file).exists()
    assert load_checkpoint(first.saved_model_file)["epoch"] == 0
    assert load_checkpoint(first.last_model_file)["epoch"] == 2
    second, loaders = prepare("BPR", Falling, epochs=20, stopping_step=4)
    second.resume_checkpoint(first.last_model_file)
    assert (second.start_epoch, second.cur_step, second.best_valid_score) == (3, 2, 1.0)
    assert second.fit(loaders[0], loaders[1], verbose=False) == best
    assert [each.epoch for each in second.history.records] == [0, 1, 2, 3, 4, 5]
    assert same(whole.model.state_dict(), second.model.state_dict())
    assert not Path(second.last_model_file).exists()
    # The best epoch's weights are the first one's, in both.
    assert second.evaluate(loaders[2]) == whole.evaluate(loaders[2])


def test_finished_training_is_not_trained_on_nor_its_file_touched(prepare):
    trainer, loaders = prepare(epochs=2)
    best = trainer.fit(loaders[0], loaders[1], verbose=False)
    before = Path(trainer.saved_model_file).read_bytes()
    again, loaders = prepare(epochs=2)
    again.resume_checkpoint(trainer.saved_model_file)
    assert again.fit(loaders[0], loaders[1], verbose=False) == best
    assert Path(trainer.saved_model_file).read_bytes() == before


def test_more_epochs_may_follow(prepare):
    whole, loaders = prepare(epochs=4)
    whole.fit(loaders[0], loaders[1], verbose=False)
    trainer, loaders = prepare(epochs=2)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    longer, loaders = prepare(epochs=4)
    longer.resume_checkpoint(trainer.saved_model_file)
    longer.fit(loaders[0], loaders[1], verbose=False)
    assert same(whole.model.state_dict(), longer.model.state_dict())


def test_nothing_is_kept_where_nothing_is_to_be_saved(prepare, tmp_path):
    trainer, loaders = prepare(epochs=2)
    trainer.fit(loaders[0], loaders[1], verbose=False, saved=False)
    assert list((tmp_path / "saved").iterdir()) == []


def test_a_state_of_the_trainers_own_is_kept(prepare):
    class Counting:
        count = 0

        def _train_epoch(self, *args, **options):
            loss = super()._train_epoch(*args, **options)
            self.count += 1
            return loss

        def extra_state(self):
            return {"count": self.count, "trace": [torch.arange(self.count)]}

        def load_extra_state(self, state):
            assert torch.equal(state["trace"][0], torch.arange(state["count"]))
            self.count = state["count"]

    trainer, loaders = prepare("BPR", Counting, epochs=3)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    again, _ = prepare("BPR", Counting, epochs=3)
    again.resume_checkpoint(trainer.saved_model_file)
    assert again.count == again.start_epoch > 0


ITEM_CLASS = {"selected_features": ["class"], "item_attribute": "class", "load_col": None}
KEEPING = {
    "LightGCN": {},
    "ItemKNN": {},
    "EASE": {},
    "Pop": {},
    "SLIMElastic": {},
    "SASRecF": {**SEQUENTIAL, **ITEM_CLASS},
    "S3Rec": {**SEQUENTIAL, **ITEM_CLASS, "train_stage": "pretrain", "pretrain_epochs": 1, "save_step": 1},
}


@pytest.mark.parametrize(("model", "keys"), KEEPING.items(), ids=list(KEEPING))
def test_whatever_a_model_keeps_beside_its_weights_is_read_back(model, keys, prepare):
    trainer, loaders = prepare(model, epochs=1, **keys)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    tested = trainer.evaluate(loaders[2], load_best_model=False)
    fresh, loaders = prepare(model, epochs=1, **keys)
    fresh.eval_collector.data_collect(loaders[0])
    assert fresh.evaluate(loaders[2], model_file=trainer.saved_model_file) == tested


def test_recbole_itself_finds_its_own_types_in_a_checkpoint(prepare):
    trainer, loaders = prepare("BPR", note=Path("somewhere"), share=np.float32(0.5))
    trainer.fit(loaders[0], loaders[1], verbose=False)
    code = (
        "import sys, torch\n"
        "state = torch.load(sys.argv[1], weights_only=False)\n"
        "from recbole.config import Config\n"
        "assert type(state['config']) is Config\n"
        "print(state['config']['model'], state['config']['dataset_save_path'], state['config']['share'])\n"
        "print(sorted(state), [m for m in sys.modules if m.startswith('cvr_plugins')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, trainer.saved_model_file], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "BPR None 0.5"
    keys = ["best_valid_score", "config", "cur_step", "cvr_plugins", "epoch", "optimizer", "other_parameter"]
    assert second == f"{[*keys, 'state_dict']} []"


def test_what_could_not_be_read_back_is_refused_before_training(prepare):
    with pytest.raises(CheckpointError, match=r"The value of function cannot be kept in a checkpoint: <built-in"):
        prepare("BPR", function=print)
    with pytest.raises(
        CheckpointError, match=r"The value of nested cannot be kept .*TopkMetric'> is a builtins.type; give"
    ):
        prepare("BPR", nested={"a": [TopkMetric]})


def test_a_write_that_fails_leaves_the_checkpoint_before_it(prepare, monkeypatch):
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    before = Path(trainer.saved_model_file).read_bytes()

    def fails(state, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="No space left"):
        trainer._save_checkpoint(1)
    assert Path(trainer.saved_model_file).read_bytes() == before
    assert len(list(Path(trainer.saved_model_file).parent.iterdir())) == 1


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


class EvilConfig:
    """Calls RecBole's Config, which executes strings, with one."""

    def __reduce__(self):
        return RecBoleConfig, ("BPR", "ml-100k", None, {"seed": "__import__('os').mkdir('executed')"})


class EvilModel:
    def __reduce__(self):
        from recbole.model.general_recommender.bpr import BPR

        return BPR, ({}, None)


class EvilEnum:
    def __reduce__(self):
        return getattr, (ModelType, "mro")


@pytest.mark.parametrize("place", ["config", "other_parameter", "epoch", "extra"])
@pytest.mark.parametrize("evil", [Evil, EvilConfig, EvilModel, EvilEnum])
def test_a_file_that_would_execute_something_is_refused(evil, place, prepare, tmp_path):
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    state = torch.load(trainer.saved_model_file, weights_only=False)
    if place == "config":
        state["config"].final_config_dict["seed"] = evil()
    else:
        state[place] = evil()
    torch.save(state, tmp_path / "evil.pth", pickle_protocol=2)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "evil.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        trainer.resume_checkpoint(tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        trainer.evaluate(loaders[2], model_file=str(tmp_path / "evil.pth"))
    assert not Path("executed").exists()
    # The file does what it is meant to where it is unpickled as RecBole does.
    if evil is Evil:
        torch.load(tmp_path / "evil.pth", weights_only=False)
        assert Path("executed").exists()


def test_reasons_for_refusing_a_file(prepare, tmp_path):
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    good = Path(trainer.saved_model_file)
    state = torch.load(good, weights_only=False)

    def refused(name: str, match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            load_checkpoint(tmp_path / name)

    refused("none.pth", r"There is no checkpoint .*none.pth")
    torch.save(state, tmp_path / "stock.pth", pickle_protocol=4)
    refused("stock.pth", r"written as RecBole itself writes them \(pickle protocol 4\), and reading that would execute")
    torch.save({**state, "x": Evil()}, tmp_path / "evil.pth")
    refused("evil.pth", r"refused, nothing of it was executed: it holds posix.mkdir, .*one model may be")
    (tmp_path / "short.pth").write_bytes(good.read_bytes()[:-2000])
    refused("short.pth", "is not a checkpoint, or is cut short")
    (tmp_path / "text.pth").write_text("weights")
    refused("text.pth", "is not a checkpoint, or is cut short")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(state["epoch"]))
    refused("pickle.pth", "is not a checkpoint, or is cut short")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"garbage")
    refused("zip.pth", "is not a checkpoint, or is cut short")
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    refused("weights.pth", "is not a checkpoint of a RecBole model: it needs config, epoch, state_dict")
    torch.save({**state, "objects": np.array([Evil()], dtype=object)}, tmp_path / "objects.pth")
    refused("objects.pth", r"refused, nothing of it was executed|cannot be read")
    assert not Path("executed").exists()
    with pytest.raises(CheckpointError, match=r"it holds recbole.model.*BPR, .* of the model recbole.model.*NeuMF"):
        load_checkpoint(good, prepare("NeuMF")[0].config.model_class)


def test_loading_leaves_torchs_list_of_allowed_types_as_it_was(prepare):
    class Mine:
        pass

    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    torch.serialization.add_safe_globals([Mine, RecBoleConfig])
    before = set(torch.serialization.get_safe_globals())
    try:
        state = load_checkpoint(trainer.saved_model_file)
        assert type(state["config"]) is RecBoleConfig
        assert state["config"].model_class is type(trainer.model)
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()


def test_weights_of_another_size_are_refused_in_a_sentence(prepare):
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    wider, _ = prepare(epochs=1, embedding_size=16)
    with pytest.raises(CheckpointError, match="The checkpoint's weights do not fit the model, its options or its data"):
        wider.resume_checkpoint(trainer.saved_model_file)
    state = load_checkpoint(trainer.saved_model_file)
    with pytest.raises(CheckpointError, match="The checkpoint sets forward, which a BPR does not keep"):
        load_weights(trainer.model, {**state, "other_parameter": {"forward": 1}})


def test_a_checkpoint_without_training_state_cannot_be_taken_up(prepare, tmp_path):
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    state = torch.load(trainer.saved_model_file, weights_only=False)
    del state["cvr_plugins"]
    torch.save(state, tmp_path / "bare.pth", pickle_protocol=2)
    with pytest.raises(CheckpointError, match=r"bare.pth holds weights and no training state"):
        trainer.resume_checkpoint(tmp_path / "bare.pth")
    assert trainer.evaluate(loaders[2], model_file=str(tmp_path / "bare.pth"))


def test_it_goes_in_front_of_any_trainer(prepare):
    assert issubclass(type(prepare("RecVAE")[0]), SafeCheckpoints)
    assert isinstance(prepare("BPR")[0], Trainer)
