"""The classes: one per registered method, third parties' included, found by name and pickled by reference."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from recbole.utils import InputType, ModelType, get_model

from cvr_plugins import plugins
from cvr_plugins.plugins import AmbiguousName, UnknownName, registry
from cvr_plugins.recbole import models
from cvr_plugins.recbole.context import MethodDataset, MethodRecommender, MethodTrainer

METHODS = [entry.name for entry in registry().entries("method")]

SOURCE = """
import torch
from cvr_plugins import Method, Objective, Phase, hookimpl
from cvr_plugins.functional import bce, masked_mean


class Alternating(Objective):
    '''A third party's: two phases, a count as state, an option.'''

    phases = (Phase("a", terms=("ctr",), trains=("ctr",)), Phase("b", terms=("cvr",), trains=("cvr",), shared=False))

    def __init__(self, *, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    def loss(self, out, y):
        cvr = masked_mean(bce(out.logits["cvr"], y.conversion), y.click)
        return {"ctr": bce(out.logits["ctr"], y.click).mean(), "cvr": self.strength * cvr}

    def after_batch(self, out, y, x):
        self.rows += len(y.click)


@hookimpl
def cvr_register_methods():
    return [Method(NAME, Alternating, summary="A third party's", reference="Nobody, 2026")]
"""


def test_every_method_is_a_class_of_its_name():
    for name in METHODS:
        model = getattr(models, name)
        assert model is models.model_class(name.upper()) is models.model_class(f"builtin:{name}") is get_model(name)
        assert (model.__name__, model.__qualname__, model.__module__) == (name, name, "cvr_plugins.recbole.models")
        assert issubclass(model, MethodRecommender)
        assert (model.type, model.input_type) == (ModelType.CONTEXT, InputType.POINTWISE)
        assert (model.recbole_trainer, model.recbole_dataset) == (MethodTrainer, MethodDataset)
        assert model.method is registry().method(name)
        assert model.method.reference in model.__doc__
        assert name in dir(models)


def test_a_model_survives_pickling(prepare, batch):
    run = prepare(models.NISE)
    copied = pickle.loads(pickle.dumps(run.model))
    rows = batch(run.valid)
    run.model.eval(), copied.eval()
    assert copied.predict(rows).equal(run.model.predict(rows))


def test_names_that_are_none_say_so():
    with pytest.raises(AttributeError, match=r"no attribute 'NISSE'.*Did you mean NISE"):
        models.NISSE  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nise'; the method is 'NISE'"):
        models.nise  # noqa: B018
    with pytest.raises(UnknownName):
        models.model_class("Nobody")


def test_a_third_partys_method_is_trained_evaluated_and_resumed(plugin, prepare):
    plugin("acme", f"NAME = 'Alternating'\n{SOURCE}")
    model = models.Alternating
    assert (model.__module__, model.plugin) == ("cvr_plugins.recbole.models", "acme")
    run = prepare("Alternating", epochs=6, strength=2.0)
    assert type(run.model) is model
    assert run.model.core.objective.strength == 2.0
    _, best = run.trainer.fit(run.train, run.valid)
    assert best["cvr/click/auc"] > 0.6
    assert run.model.core.objective.rows == 6 * len(run.train.dataset)
    again = prepare("Alternating", epochs=6, strength=2.0)
    again.trainer.resume_checkpoint(run.trainer.saved_model_file)
    assert again.model.core.objective.rows > 0
    assert run.trainer.evaluate(run.test)["cvr/click/auc"] > 0.5


def test_a_contested_name_belongs_to_nobody_and_the_qualified_one_always_works(plugin, prepare, tmp_path):
    plugin("acme", f"NAME = 'Rival'\n{SOURCE}")
    site = plugin("emca", f"NAME = 'Rival'\n{SOURCE}")
    with pytest.warns(plugins.PluginWarning), pytest.raises(ImportError, match="'Rival' is used by the plugins"):
        models.Rival  # noqa: B018
    with pytest.raises(AmbiguousName):
        models.model_class("Rival")
    theirs = models.model_class("emca:Rival")
    assert theirs is getattr(models, "emca:Rival")
    assert (theirs.__name__, theirs.plugin) == ("Rival", "emca")
    assert type(prepare("emca:Rival", epochs=1).model) is theirs

    # Pickled by reference into a fresh process, as all methods' classes.
    file = tmp_path / "classes"
    file.write_bytes(pickle.dumps([theirs, *map(models.model_class, METHODS)], protocol=2))
    code = "import pickle, sys; print(*(c.plugin + ':' + c.__name__ for c in pickle.load(open(sys.argv[1], 'rb'))))"
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.split() == ["emca:Rival", *(f"builtin:{name}" for name in METHODS)], done.stderr
