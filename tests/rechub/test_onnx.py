"""torch-rechub's stock ONNX export of our models against onnxruntime."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

from cvr_plugins.rechub import ESMM, AdapSL, CVRTrainer, Naive

USER = [
    SparseFeature("user", 40, embed_dim=4),
    SequenceFeature("genres", 12, embed_dim=3, padding_idx=0),
    SequenceFeature("seen", 25, embed_dim=2, pooling="sum", shared_with="item"),
    DenseFeature("age"),
]
ITEM = [SparseFeature("item", 25, embed_dim=2), DenseFeature("vector", embed_dim=2)]
BATCHES = (1, 2, 37)


def batch(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    real = np.arange(6) < rng.integers(0, 7, (rows, 1))
    return {
        "user": rng.integers(0, 40, rows),
        "genres": rng.integers(1, 12, (rows, 6)) * real,
        "seen": np.where(real, rng.integers(0, 25, (rows, 6)), -1),
        "age": rng.normal(size=(rows, 1)).astype(np.float32),
        "item": rng.integers(0, 25, rows),
        "vector": rng.normal(size=(rows, 2)).astype(np.float32),
    }


@pytest.fixture
def exported(tmp_path, capfd):
    """Export through the stock trainer's method; give the session and the model it was made of."""

    def make(cls, user=USER, item=ITEM, **options):
        torch.manual_seed(0)
        model = cls(user, item, dims=[16, 8], **options)
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if "mask" in name:
                    value.copy_(torch.rand(value.shape) < 0.7)
                elif "tables" in name or "running_mean" in name:
                    value.normal_(0, 0.5)
        path = tmp_path / "model.onnx"
        trainer = CVRTrainer(model, model_path=None, progress=False)
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert trainer.export_onnx(str(path))
        finally:
            logging.disable(before)
        capfd.readouterr()
        onnx.checker.check_model(str(path))
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), model

    return make


MODELS = [
    (ESMM, {}),
    (Naive, {"dense": "tanh", "dense_stats": {"age": (0.2, 1.5), "vector": (0.0, 0.7)}}),
    (ESMM, {"architecture": "mmoe", "backbone": "dcn_v2"}),
    (AdapSL, {}),
]


@pytest.mark.parametrize(("cls", "options"), MODELS, ids=["ESMM", "tanh", "MMoE on DCN-V2", "masks"])
def test_onnxruntime_predicts_as_the_model_does(cls, options, exported):
    session, model = exported(cls, **options)
    assert [each.name for each in session.get_inputs()] == [feature.name for feature in [*USER, *ITEM]]
    for rows in BATCHES:
        x = batch(rows)
        with torch.no_grad():
            expected = model.eval()({name: torch.from_numpy(values) for name, values in x.items()}).numpy()
        (found,) = session.run(None, x)
        assert found.shape == (rows, 3)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        if rows > 2:
            assert expected.std(axis=0).min() > 1e-3


def test_features_may_have_any_name(exported):
    user = [SparseFeature("keys", 40, embed_dim=4), SequenceFeature("a.b c", 12, embed_dim=3, padding_idx=0)]
    session, model = exported(ESMM, user, [DenseFeature("type")])
    x = dict(zip(["keys", "a.b c", "type"], [batch(9)[name] for name in ("user", "genres", "age")], strict=True))
    with torch.no_grad():
        expected = model.eval()({name: torch.from_numpy(values) for name, values in x.items()}).numpy()
    np.testing.assert_allclose(session.run(None, x)[0], expected, rtol=0, atol=1e-5)
