"""Every registered method as an ordinary torch-rechub multi-task model."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys

import numpy as np
import pytest
import torch
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import ESMM as StockESMM
from torch_rechub.trainers import MTLTrainer

import cvr_plugins.rechub as rechub
from cvr_plugins.assembly import OptionError
from cvr_plugins.objectives import ESMM as ESMMObjective
from cvr_plugins.plugins import PluginWarning, registry
from cvr_plugins.rechub import ESMM, Naive, RechubModel, model_class

SMALL = {"dims": [8, 4]}


@pytest.fixture
def model(features):
    """A model whose embeddings and towers are large enough to tell rows apart."""

    def make(cls=ESMM, **options):
        torch.manual_seed(3)
        made = cls(features.user, features.item, **{**SMALL, **options})
        with torch.no_grad():
            for table in made.encoder.tables:
                table.weight.normal_()
        return made

    return make


def test_forward_gives_cvr_ctr_ctcvr(model, log, tensors):
    made = model().eval()
    p = made(tensors(log(37).x))
    assert p.shape == (37, 3)
    assert ((p > 0) & (p < 1)).all()
    assert p.std(dim=0).min() > 1e-3
    torch.testing.assert_close(p[:, 2], p[:, 0] * p[:, 1])
    logits = made.outputs(tensors(log(37).x)).logits
    torch.testing.assert_close(p[:, 0], logits["cvr"].sigmoid())
    torch.testing.assert_close(p[:, 1], logits["ctr"].sigmoid())


def test_one_list_may_hold_all_features(features, log, tensors):
    batch = tensors(log(9).x)
    torch.manual_seed(1)
    two = ESMM(features.user, features.item).eval()
    torch.manual_seed(1)
    one = ESMM(features.all).eval()
    assert torch.equal(two(batch), one(batch))
    assert (len(two.user_features), len(two.item_features)) == (3, 1)
    assert (len(one.user_features), len(one.item_features)) == (4, 0)


def pointers(model):
    return {p.data_ptr() for p in model.parameters()}


def test_models_of_one_feature_list_share_no_parameters():
    user = [SparseFeature("user", 30, embed_dim=4), SparseFeature("age", 8, embed_dim=4)]
    item = [SparseFeature("item", 20, embed_dim=4)]
    towers = {"cvr_params": {"dims": [4]}, "ctr_params": {"dims": [4]}}
    before = ESMM(user, item)
    stock = StockESMM(user, item, **towers)
    models = [before, stock, ESMM(user, item), Naive(user, item)]
    assert not any(hasattr(feature, "embed") for feature in models[2].features), "the stock model's tables stay its own"
    for i, first in enumerate(models):
        for second in models[i + 1 :]:
            assert not pointers(first) & pointers(second)
    # torch-rechub's own models do share: the reason for the copies.
    assert pointers(stock) & pointers(StockESMM(user, item, **towers))


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "state_dict"])
def test_copies_predict_alike_and_share_nothing(copied, model, log, tensors):
    made = model(dense="tanh", dense_stats={"a.b": (0.5, 2.0)}, cvr_params={"dims": [3]})
    made.train().outputs(tensors(log(20).x))  # running statistics other than the initial ones
    if copied == "state_dict":
        other = model(dense="tanh", dense_stats={"a.b": (0.0, 1.0)}, cvr_params={"dims": [3]})
        other.load_state_dict(made.state_dict())
    else:
        other = copy.deepcopy(made) if copied == "deepcopy" else pickle.loads(pickle.dumps(made))
    assert type(other) is ESMM
    batch = tensors(log(20).x)
    assert torch.equal(made.eval()(batch), other.eval()(batch))
    assert not pointers(made) & pointers(other)
    assert [f.name for f in other.features] == [f.name for f in made.features]


def test_a_class_is_the_same_object_at_each_access():
    assert rechub.ESMM is ESMM is model_class("ESMM") is model_class("esmm") is model_class("builtin:ESMM")
    assert pickle.loads(pickle.dumps(ESMM)) is ESMM
    assert issubclass(ESMM, RechubModel)
    assert (ESMM.__module__, ESMM.__qualname__, ESMM.plugin) == ("cvr_plugins.rechub", "ESMM", "builtin")
    assert ESMM.method is registry().method("ESMM")
    assert ESMM.method.objective is ESMMObjective


def test_a_class_documents_its_method_and_the_common_options():
    doc = inspect.getdoc(ESMM)
    assert doc.startswith(ESMM.method.summary)
    assert ESMM.method.reference in doc
    assert "user_features, item_features: lists of torch-rechub features" in doc


def test_dir_lists_every_method():
    listed = dir(rechub)
    assert {entry.name for entry in registry().entries("method")} <= set(listed)
    assert set(rechub.__all__) <= set(listed)
    assert all(getattr(rechub, name) is not None for name in listed)


UNKNOWN = [
    ("ESM", "has no attribute 'ESM'. Unknown method 'ESM'. Did you mean .*ESMM"),
    ("esmm", "has no attribute 'esmm'; the method is 'ESMM'"),
    ("Nothing", "has no attribute 'Nothing'. Unknown method 'Nothing'."),
    ("__wrapped__", "has no attribute '__wrapped__'"),
    ("_private", "has no attribute '_private'"),
]


@pytest.mark.parametrize(("name", "message"), UNKNOWN)
def test_an_unknown_attribute_names_the_nearest(name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(rechub, name)
    assert not hasattr(rechub, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from cvr_plugins.rechub import {name}")


def test_a_plugins_method_is_a_class_too(plugin, method_source, features, log, tensors):
    plugin("third", method_source(name="Third", plugin="third"))
    from cvr_plugins.rechub import Third

    assert Third.plugin == "third"
    assert inspect.getdoc(Third).startswith("of third.\n\nSomeone, 2026\n\n")
    made = pickle.loads(pickle.dumps(Third(features.user, features.item))).eval()
    assert type(made) is Third
    assert made(tensors(log(4).x)).shape == (4, 3)


def test_classes_of_one_name_are_kept_apart(plugin, method_source, features, log, tensors):
    plugin("third", method_source(name="ESMM", plugin="third"))
    plugin("fourth", method_source(name="Twice", plugin="fourth"))
    plugin("fifth", method_source(name="Twice", plugin="fifth"))
    with pytest.warns(PluginWarning):
        theirs = model_class("third:ESMM")
    assert theirs is not ESMM
    assert rechub.ESMM is ESMM
    assert "Twice" not in dir(rechub)
    with pytest.raises(ImportError, match=r"used by the plugins 'f\w+' and 'f\w+'; ask for f"):
        exec("from cvr_plugins.rechub import Twice")
    batch = tensors(log(4).x)
    for cls in (theirs, model_class("fourth:Twice"), model_class("fifth:Twice")):
        made = cls(features.user, features.item).eval()
        for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
            assert type(other) is cls
            assert torch.equal(other(batch), made(batch))


def test_a_refused_plugins_method_says_why_on_import(plugin):
    plugin(
        "broken",
        "from cvr_plugins import Method, hookimpl\n"
        "@hookimpl\n"
        "def cvr_register_methods():\n"
        "    return [Method(name='Broken', objective=dict)]\n",
    )
    message = r"'Broken' is not available.*'broken'.*dict is not a subclass"
    with pytest.warns(PluginWarning), pytest.raises(ImportError, match=message):
        exec("from cvr_plugins.rechub import Broken")


def test_a_subclass_pickles_as_itself(features, log, tensors, monkeypatch):
    class Narrow(ESMM):
        def __init__(self, *lists):
            super().__init__(*lists, dims=[2])

    Narrow.__qualname__ = "Narrow"
    monkeypatch.setattr(sys.modules[Narrow.__module__], "Narrow", Narrow, raising=False)
    made = Narrow(features.user, features.item).eval()
    other = pickle.loads(pickle.dumps(made))
    assert type(other) is Narrow
    batch = tensors(log(4).x)
    assert torch.equal(other(batch), made(batch))


REFUSED = [
    ({"dimz": [3]}, r"Unknown option 'dimz' for ESMM on towers/mlp. Did you mean dims\?"),
    ({"backbone": "deepfm"}, "one embedding size for all features; got user: 4, type: 3, keys: 2"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_unusable_options_are_refused(options, message, features):
    with pytest.raises(OptionError, match=message):
        ESMM(features.user, features.item, **options)


def test_stock_predict_works(model, log, tensors, capfd):
    from torch.utils.data import DataLoader
    from torch_rechub.utils.data import PredictDataset

    made = model()
    data = log(37)
    stock = MTLTrainer(made, ["classification"] * 3)
    found = stock.predict(made, DataLoader(PredictDataset(data.x), batch_size=16))
    with torch.no_grad():
        expected = made.eval()(tensors(data.x))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    capfd.readouterr()


def test_training_by_the_stock_trainer_warns_once(model, log, stock_loader, tmp_path, capfd):
    made = model()
    data = log(40)
    columns = [data.y["conversion"], data.y["click"], data.y["conversion"]]
    stock = MTLTrainer(made, ["classification"] * 3, n_epoch=2, model_path=str(tmp_path))
    loader = stock_loader(data.x, columns, 8)
    with pytest.warns(UserWarning, match="ESMM is being trained through forward.*CVRTrainer") as caught:
        stock.fit(loader, loader)
    assert sum("trained through forward" in str(each.message) for each in caught) == 1
    capfd.readouterr()
