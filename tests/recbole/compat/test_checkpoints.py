"""Checkpoints of RecBole runs: training goes on from them to the bit, and nothing that is in one is executed."""

from __future__ import annotations

import copy
import os
import zipfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("recbole")

from recbole.evaluator.base_metric import TopkMetric
from recbole.model.general_recommender import BPR
from recbole.model.knowledge_aware_recommender import MKR
from recbole.trainer import KGATTrainer, NCLTrainer, Trainer
from recbole.utils import init_seed

from cvr_plugins.cli._group import run
from cvr_plugins.config import ConfigError
from cvr_plugins.recbole import CheckpointError, Config, SafeCheckpoints, load_checkpoint, load_data_and_model
from cvr_plugins.recbole.compat.checkpoints import load_weights

pytestmark = pytest.mark.usefixtures("elsewhere")

SEQUENTIAL = {
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
}
ITEM_CLASS = {"selected_features": ["class"], "item_attribute": "class", "load_col": None}
PRETRAINING = {"train_stage": "pretrain", "pretrain_epochs": 3, "save_step": 2}
GRAPH = {
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "link": ["item_id", "entity_id"],
        "kg": ["head_id", "relation_id", "tail_id"],
    },
    "threshold": {"rating": 3},
}
MODELS = {
    "BPR": {},
    "SASRec": {**SEQUENTIAL, "hidden_dropout_prob": 0.5},
    "BERT4Rec": SEQUENTIAL,
    "NeuMF": {"learner": "adagrad", "dropout_prob": 0.3},
    "RecVAE": {"hidden_dimension": 16, "latent_dimension": 8, "train_batch_size": 20},
    "KD_DAGFM": {"threshold": {"rating": 3}},
    "S3Rec": {**SEQUENTIAL, **ITEM_CLASS, **PRETRAINING},
    "MultiVAE": {"train_batch_size": 20},
    "DiffRec": {"train_batch_size": 20},
    "LINE": {},
    "CKE": GRAPH,
    "MKR": {**GRAPH, "low_layers_num": 1, "high_layers_num": 1},
}
"""Model -> keys; those from S3Rec on count or collect something, or draw from more than one loader."""


class Attentive(MKR):
    """Trained as KGAT, whose own package is not to be had: in two passes, after which a matrix is made."""

    recbole_trainer = KGATTrainer
    recbole_defaults = {"kg_embedding_size": 8, "dropout_prob": 0.1, "reg_weight": 1e-6, "use_inner_product": True}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.matrix = torch.ones(3).to_sparse()

    def calculate_loss(self, interaction):
        return self.calculate_rs_loss(interaction) * self.matrix.to_dense().sum()

    def update_attentive_A(self):
        self.matrix = (self.matrix.to_dense() + self.user_embeddings_lookup.weight.mean() ** 2).to_sparse()


class Clustered(BPR):
    """Trained as NCL, which wants a package of its own: by centres that are found before every second epoch."""

    recbole_trainer = NCLTrainer
    recbole_defaults = {"m_step": 2, "warm_up_step": 1}

    def e_step(self):
        self.centres = self.user_embedding.weight.detach().mean(dim=0) + torch.rand(1)

    def calculate_loss(self, interaction):
        loss = super().calculate_loss(interaction)
        return loss, (self.user_embedding.weight - self.centres).square().mean()


MODELS.update({Attentive: MODELS["MKR"], Clustered: {}})


@pytest.fixture
def prepare(assemble, brief):
    """Make a trainer with safe checkpoints, and its three loaders."""

    def make(model: str | type = "BPR", *mixins: type, **keys: object):
        run = assemble(model, {**brief, **MODELS.get(model, {}), **keys}, *mixins, SafeCheckpoints)
        return run.trainer, (run.train, run.valid, run.test)

    return make


def interrupted(trainer, loaders, epoch: int, batch: int = 2) -> None:
    """Train, and press Ctrl-C at the second batch of an epoch, or at another."""
    step, seen = trainer.optimizer.zero_grad, []

    def zero_grad(*args, **options):
        at = len(trainer.history.records)
        seen.append(at)
        if at == epoch and seen.count(at) == batch:
            raise KeyboardInterrupt
        return step(*args, **options)

    for name, each in vars(trainer).items():
        if name.startswith("optimizer"):
            each.zero_grad = zero_grad
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loaders[0], loaders[1], verbose=False)


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


PASSES = {"RecVAE": [4, 11], "MKR": [5], Attentive: [3, 5]}
"""Model -> batches of its epoch in other passes than the first."""
CUTS = [
    *((model, 10, 2) for model in ("BPR", "NeuMF", "MultiVAE", "CKE", Attentive, Clustered)),
    *((model, 1e-9, batch) for model in MODELS for batch in (2, *PASSES.get(model, ()))),
]
"""Model, minutes (after each epoch, or after each batch), and the batch that Ctrl-C is pressed at."""


@pytest.mark.usefixtures("recbole_as_it_was")
@pytest.mark.parametrize(("model", "minutes", "batch"), CUTS)
def test_interrupted_training_ends_as_if_it_had_not_been(model, minutes, batch, prepare, recwarn):
    epoch = 2
    whole, loaders = prepare(model, epochs=3)
    best = whole.fit(loaders[0], loaders[1], verbose=False)
    weights = copy.deepcopy(whole.model.state_dict())
    tested = whole.evaluate(loaders[2])

    first, loaders = prepare(model, epochs=3, checkpoint_minutes=minutes)
    interrupted(first, loaders, epoch, batch)
    init_seed(7, True)
    second, loaders = prepare(model, epochs=3)
    second.resume_checkpoint(first.last_model_file)
    told = (
        "Clustered is kept at the ends of epochs alone, not within one: NCLTrainer goes over the data in a way of its"
    )
    assert (second._within is None) == (minutes > 1 or model is Clustered)
    assert sum(str(each.message).startswith(told) for each in recwarn) == 2 * (model is Clustered)
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


KEEPING = {
    "LightGCN": {},
    "ItemKNN": {},
    "EASE": {},
    "Pop": {},
    "SLIMElastic": {},
    "SASRecF": {**SEQUENTIAL, **ITEM_CLASS},
    "S3Rec": {**SEQUENTIAL, **ITEM_CLASS, **PRETRAINING, "pretrain_epochs": 1, "save_step": 1},
}


@pytest.mark.parametrize(("model", "keys"), KEEPING.items(), ids=list(KEEPING))
def test_whatever_a_model_keeps_beside_its_weights_is_read_back(model, keys, prepare):
    trainer, loaders = prepare(model, epochs=1, **keys)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    tested = trainer.evaluate(loaders[2], load_best_model=False)
    fresh, loaders = prepare(model, epochs=1, **keys)
    fresh.eval_collector.data_collect(loaders[0])
    assert fresh.evaluate(loaders[2], model_file=trainer.saved_model_file) == tested


@pytest.fixture
def trained(prepare):
    """A trainer after one epoch, its loaders and its checkpoint."""
    trainer, loaders = prepare(epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False)
    return trainer, loaders, Path(trainer.saved_model_file)


def test_a_checkpoint_is_plain_values_and_says_whose_it_is(trained):
    assert torch.serialization.get_unsafe_globals_in_checkpoint(trained[2]) == []
    state = torch.load(trained[2], weights_only=True)
    assert (state["framework"], state["model"], state["plugin"]) == ("recbole", "BPR", "recbole")
    assert type(state["config"]) is dict
    assert Config(config_dict=state["config"]).to_dict() == state["config"]
    assert same(state["state_dict"], trained[0].model.state_dict())


def test_what_could_not_be_read_back_is_refused_before_training(prepare):
    with pytest.raises(ConfigError, match=r"function must be made of numbers, text.*<built-in"):
        prepare("BPR", function=print)
    with pytest.raises(ConfigError, match=r"nested must be made of numbers, text.*TopkMetric"):
        prepare("BPR", nested={"a": [TopkMetric]})


def test_a_write_that_fails_leaves_the_checkpoint_before_it(trained, monkeypatch):
    trainer, _, file = trained
    before = file.read_bytes()

    def fails(state, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="No space left"):
        trainer._save_checkpoint(1)
    assert file.read_bytes() == before
    assert len(list(file.parent.iterdir())) == 1


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(("place", "protocol"), [("config", 2), ("extra", 4)])
def test_a_file_that_would_execute_something_is_refused(place, protocol, trained, tmp_path):
    trainer, loaders, file = trained
    state = torch.load(file, weights_only=True)
    evil = tmp_path / "evil.pth"
    torch.save({**state, place: {"seed": Evil()}}, evil, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match="refused, nothing of it was executed") as caught:
        load_checkpoint(evil)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        trainer.resume_checkpoint(evil)
    with pytest.raises(CheckpointError):
        trainer.evaluate(loaders[2], model_file=str(evil))
    assert not Path("executed").exists()


def test_reasons_for_refusing_a_file(trained, prepare, tmp_path):
    _, loaders, good = trained
    state = torch.load(good, weights_only=True)

    def refused(name: str, match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            load_checkpoint(tmp_path / name)

    refused("none.pth", r"There is no checkpoint .*none.pth")
    # A bit of the number of disks that the archive is on.
    flipped = bytearray(good.read_bytes())
    flipped[flipped.rindex(b"PK\x06\x07") + 16] ^= 2
    for name, content in {"short.pth": good.read_bytes()[:-2000], "text.pth": b"weights", "bit.pth": flipped}.items():
        (tmp_path / name).write_bytes(content)
        refused(name, f"{name} is not a checkpoint, or is damaged or cut short")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"garbage")
    refused("zip.pth", "is damaged, or holds more")
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    refused("weights.pth", "is not a checkpoint of a run")
    torch.save({**state, "format": 2}, tmp_path / "newer.pth")
    refused("newer.pth", "format 2; this version of cvr-plugins reads 1")
    torch.save({**state, "config": None}, tmp_path / "bare.pth")
    refused("bare.pth", "needs format, config and state_dict")
    torch.save({**state, "framework": "torch-rechub"}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth is a checkpoint of torch-rechub, not of recbole"):
        load_data_and_model(tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is of BPR, not of NeuMF"):
        prepare("NeuMF")[0].evaluate(loaders[2], model_file=str(good))


def test_what_recbole_itself_wrote_is_refused_and_its_weights_are_had_as_the_refusal_says(trained):
    trainer, _, file = trained
    stock = file.with_name("stock.pth")
    Trainer._save_checkpoint(trainer, 0, saved_model_file=str(stock))
    with pytest.raises(CheckpointError, match=r"as what RecBole itself writes does.* if you trust") as caught:
        load_checkpoint(stock)
    way = f"torch.save(torch.load({str(stock)!r}, weights_only=False)['state_dict'], 'weights.pt')"
    assert way in str(caught.value)
    torch.save(torch.load(stock, weights_only=False)["state_dict"], "weights.pt")
    assert same(torch.load("weights.pt", weights_only=True), trainer.model.state_dict())


def test_the_weights_of_a_run_are_written_for_any_model_of_its_kind(trained, prepare, tmp_path, capsys):
    trainer, _, file = trained
    assert run(["weights", str(file), "weights.pt"]) == 0
    fresh, _ = prepare(seed=7)
    fresh.model.load_state_dict(torch.load("weights.pt", weights_only=True))
    assert same(fresh.model.state_dict(), trainer.model.state_dict())
    assert run(["weights", str(tmp_path), "others.pt"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_with_recboles_own_configuration_files_are_left_to_recbole(trained, monkeypatch):
    trainer, loaders, file = trained
    monkeypatch.setattr(trainer, "_ours", False)
    trainer._save_checkpoint(0)
    assert type(torch.load(file, weights_only=False)["config"]) is Config
    with pytest.raises(CheckpointError, match=r"cvr_plugins\.recbole\.run"):
        trainer.resume_checkpoint(file)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert trainer.evaluate(loaders[2], load_best_model=True)


def test_weights_of_another_size_are_refused_in_a_sentence(trained, prepare):
    trainer, _, file = trained
    wider, _ = prepare(epochs=1, embedding_size=16)
    with pytest.raises(CheckpointError, match="The checkpoint's weights do not fit the model, its options or its data"):
        wider.resume_checkpoint(file)
    state = load_checkpoint(file)
    with pytest.raises(CheckpointError, match="The checkpoint sets forward, which a BPR does not keep"):
        load_weights(trainer.model, {**state, "other_parameter": {"forward": 1}})


def test_a_checkpoint_without_training_state_cannot_be_taken_up(trained, tmp_path):
    trainer, loaders, file = trained
    state = torch.load(file, weights_only=True)
    del state["training"]
    torch.save(state, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare.pth holds weights and no training state"):
        trainer.resume_checkpoint(tmp_path / "bare.pth")
    assert trainer.evaluate(loaders[2], model_file=str(tmp_path / "bare.pth"))
