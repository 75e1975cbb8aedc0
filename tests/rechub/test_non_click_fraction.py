"""Training on all clicked rows and a share of the unclicked ones: which rows, how many, and from where it is set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvr_plugins.data import Encoded
from cvr_plugins.model import NonClickSampling
from cvr_plugins.rechub import ESMM, CVRTrainer, TensorLoader, TrainedRun
from cvr_plugins.rechub.runner import run

ROWS = 1000


@pytest.fixture
def numbered():
    """A loader whose one column is the row's number; every fifth row is clicked."""

    def make(fraction=0.25, rows=ROWS, **options):
        options = {"batch_size": 64, "shuffle": True, **options}
        y = {"conversion": np.zeros(rows), "click": np.arange(rows) % 5 == 0}
        return TensorLoader({"row": np.arange(rows)}, y, non_click_fraction=fraction, **options)

    return make


def rows_of(loader) -> list[int]:
    return torch.cat([x["row"] for x, _ in loader]).tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_has_all_clicked_rows_and_the_share_of_the_others_each_once(numbered, shuffle):
    loader = numbered(shuffle=shuffle)
    for _ in range(3):
        rows = rows_of(loader)
        assert len(set(rows)) == len(rows) == 200 + 800 // 4
        assert {row for row in rows if row % 5 == 0} == set(range(0, ROWS, 5))
        assert (rows == sorted(rows)) != shuffle


def test_labels_stay_with_their_rows(numbered):
    for x, ys in numbered():
        assert ys[:, 1].tolist() == (x["row"] % 5 == 0).tolist()


def test_each_epoch_draws_anew_from_seed_and_epoch_alone(numbered):
    loader = numbered(seed=3)
    epochs = [rows_of(loader) for _ in range(4)]
    assert len({frozenset(rows) for rows in epochs}) == 4
    torch.manual_seed(0)
    other = numbered(seed=3)
    next(iter(other))  # an abandoned epoch counts as one
    assert rows_of(other) == epochs[1]
    other.set_epoch(3)
    assert rows_of(other) == epochs[3]
    assert set(rows_of(numbered(seed=4))) != set(epochs[0])
    in_order = numbered(seed=3, shuffle=False)
    in_order.set_epoch(2)
    assert len(set(rows_of(in_order)) & set(epochs[2])) == 400, "shuffling does not change which rows are drawn"


def test_every_unclicked_row_has_the_same_chance(numbered):
    loader = numbered(rows=100)
    count = np.zeros(100)
    for _ in range(1000):
        count[rows_of(loader)] += 1
    assert (count[::5] == 1000).all()
    unclicked = np.delete(count, np.arange(0, 100, 5))
    # Five standard deviations of a binomial with p = 1/4.
    assert np.abs(unclicked - 250).max() < 5 * np.sqrt(1000 * 3 / 16)


@pytest.mark.parametrize(
    ("fraction", "rows", "expected"),
    [(1, 1000, 1000), (0.5, 1000, 600), (1e-6, 1000, 201), (0.999, 5, 5), (0.3, 1, 1)],
)
def test_the_length_is_that_of_the_iteration(numbered, fraction, rows, expected):
    loader = numbered(fraction, rows, batch_size=7)
    found = list(loader)
    assert sum(len(ys) for _, ys in found) == expected
    assert len(loader) == len(found) == -(-expected // 7)
    assert all(len(ys) == 7 for _, ys in found[:-1])
    assert loader.rows == rows


def test_a_share_of_one_changes_nothing(numbered):
    whole = TensorLoader({"row": np.arange(ROWS)}, {}, batch_size=64, shuffle=True, seed=5)
    assert rows_of(numbered(1.0, seed=5)) == rows_of(whole)


def test_a_run_trains_on_the_share_and_is_judged_on_all_rows(shop, tmp_path, monkeypatch):
    made = []

    class Kept(TensorLoader):
        @classmethod
        def from_encoded(cls, *args, **options):
            made.append(super().from_encoded(*args, **options))
            return made[-1]

    monkeypatch.setattr("cvr_plugins.rechub.runner.TensorLoader", Kept)
    run({**shop.config, "non_click_fraction": 0.2, "epochs": 1}, folder=tmp_path / "run")
    train, *others = made
    clicked = int((train.labels()["click"] == 1).sum())
    rows = [sum(len(ys) for _, ys in loader) for loader in made]
    assert rows == [clicked + round(0.2 * (train.rows - clicked)), *(each.rows for each in others)]


@pytest.mark.parametrize("click", [0, 1])
def test_logs_of_one_kind_of_row(click):
    loader = TensorLoader({"row": np.arange(10)}, {"click": np.full(10, click)}, non_click_fraction=0.5, shuffle=True)
    assert len(rows_of(loader)) == (10 if click else 5)


def test_evaluation_sees_all_rows(numbered, build, loader):
    assert torch.cat([x["row"] for x, _ in numbered().in_order()]).tolist() == list(range(ROWS))
    trainer = CVRTrainer(build(ESMM), model_path=None, progress=False)
    report = trainer.evaluate(trainer.model, loader(300, non_click_fraction=0.1))
    assert report.support["ctr/entire"].rows == 300
    assert len(trainer.predict(trainer.model, loader(300, non_click_fraction=0.1))) == 300


def test_a_vocabularys_rows_are_drawn_alike():
    encoded = Encoded(np.arange(50, dtype=np.int32)[:, None], ("row",), {}, np.empty((50, 0), np.float32), (), {})
    y = {"click": np.arange(50) % 5 == 0}
    options = {"non_click_fraction": 0.5, "shuffle": True, "seed": 2}
    plain = TensorLoader({"row": np.arange(50)}, y, **options)
    assert rows_of(TensorLoader.from_encoded(encoded, y, **options)) == rows_of(plain)


@pytest.mark.parametrize("value", [0, 1.01, float("nan"), "0.5"])
def test_other_values_are_refused(numbered, value):
    with pytest.raises(ValueError, match=r"^non_click_fraction must be a number in \(0, 1\]; got "):
        numbered(value)


@pytest.mark.parametrize(("y", "got"), [({}, "none"), ({"conversion": [0, 1]}, "'conversion'")])
def test_without_the_click_column_a_share_is_refused(y, got):
    with pytest.raises(ValueError, match=f"^non_click_fraction=0.5 needs the label column 'click'; got {got}"):
        TensorLoader({"row": [0, 1]}, y, non_click_fraction=0.5)
    assert len(TensorLoader({"row": [0, 1]}, y, non_click_fraction=1.0)) == 1


def test_what_a_share_predicts_is_corrected_for_all_rows():
    # Of 100 rows 20 are clicked; with a quarter of the others half of those trained on are.
    sampling = NonClickSampling()
    predicted = {
        "ctr": torch.tensor([0.5, 0.0, 1.0]),
        "cvr": torch.tensor([0.1] * 3),
        "ctcvr": torch.tensor([0.05] * 3),
    }
    assert {task: p.tolist() for task, p in sampling(predicted).items()} == {
        k: p.tolist() for k, p in predicted.items()
    }
    sampling.share.fill_(0.25)
    found = sampling(predicted)
    assert found["ctr"].tolist() == pytest.approx([0.2, 0.0, 1.0])
    assert found["ctcvr"].tolist() == pytest.approx([0.02, 0.0125, 0.05])
    assert torch.equal(found["cvr"], predicted["cvr"])
    assert sampling({"cvr": predicted["cvr"]}).keys() == {"cvr"}


def test_a_run_on_a_share_predicts_as_many_clicks_as_there_are_and_so_do_its_files(shop, tmp_path):
    config = {**shop.config, "non_click_fraction": 0.1, "epochs": 10, "metrics": ["auc", "calibration"]}
    result = run(config, folder=tmp_path / "run")
    plain = run({**config, "non_click_correction": False}, folder=tmp_path / "plain")
    for key in ("ctr/entire/auc", "cvr/click/auc", "cvr/click/calibration"):
        assert result.report[key] == pytest.approx(plain.report[key], rel=1e-6)
    for task in ("ctr", "ctcvr"):
        assert 0.7 < result.report[f"{task}/entire/calibration"] < 1.3
        assert plain.report[f"{task}/entire/calibration"] > 1.7
    share = TrainedRun.load(tmp_path / "run").model.sampling.share.item()
    assert share == pytest.approx(0.1, abs=0.01)
