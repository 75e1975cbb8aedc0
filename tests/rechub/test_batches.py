"""Batches cut from packed tensors: the rows a stock DataLoader gives, orders by seed and epoch, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from cvr_plugins.data import Encoded
from cvr_plugins.rechub import TensorLoader


def rows_of(batches):
    """All batches as one (x_dict, ys)."""
    xs, ys = zip(*batches, strict=True)
    return {name: torch.cat([x[name] for x in xs]) for name in xs[0]}, torch.cat(ys)


def order_of(loader):
    return torch.cat([x["row"] for x, _ in loader]).tolist()


@pytest.fixture
def numbered():
    """A shuffling loader whose one column is the row's number."""
    return lambda rows=20, **options: TensorLoader(
        {"row": np.arange(rows)}, {"click": np.zeros(rows)}, batch_size=8, shuffle=True, **options
    )


def test_batches_are_those_of_a_stock_dataloader(log, stock_loader):
    data = log(50)
    ours = TensorLoader(data.x, data.y, batch_size=16)
    stock = stock_loader(data.x, list(data.y.values()), 16)
    assert len(ours) == len(stock) == 4
    assert ours.label_columns == ("click", "conversion")
    for (x, ys), (stock_x, stock_ys) in zip(ours, stock, strict=True):
        assert set(x) == set(stock_x)
        for name, values in x.items():
            torch.testing.assert_close(values, stock_x[name], check_dtype=False, rtol=1e-6, atol=0)
        assert torch.equal(ys, stock_ys.float())


def test_columns_are_packed_small_and_contiguous(log):
    data = log(50)
    x, ys = next(iter(TensorLoader({**data.x, "flag": data.x["user"] > 20}, data.y, batch_size=16)))
    types = {name: values.dtype for name, values in x.items()}
    assert types == {
        "user": torch.int32,
        "keys": torch.int32,
        "flag": torch.int32,
        "type": torch.int64,
        "a.b": torch.float32,
    }
    assert all(values.is_contiguous() for values in x.values())
    assert ys.dtype == torch.float32


def test_a_last_batch_may_hold_one_row(log):
    data = log(33)
    sizes = [len(ys) for _, ys in TensorLoader(data.x, data.y, batch_size=16)]
    assert sizes == [16, 16, 1]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([2**31 - 1, -(2**31)], torch.int32),
        ([2**31, 0], torch.int64),
        ([-(2**31) - 1, 0], torch.int64),
        ([2.0**24 + 1, 0.0], torch.int32),
        ([2.0**40 + 1, 0.0], torch.int64),
    ],
)
def test_no_id_is_rounded(ids, expected):
    x, _ = next(iter(TensorLoader({"id": np.array(ids)}, {})))
    assert x["id"].dtype == expected
    assert x["id"].tolist() == [int(value) for value in ids]


def test_large_dense_values_stay_floats():
    x, _ = next(iter(TensorLoader({"income": [2.0**30 + 0.5, 1.0], "gap": [np.inf, 1.0]}, {})))
    assert {values.dtype for values in x.values()} == {torch.float32}
    assert x["gap"].tolist() == [np.inf, 1.0]


def test_series_tensors_lists_and_read_only_arrays_are_taken_without_a_warning(recwarn):
    arrow = pa.array([1, 2, 3]).to_numpy()
    assert not arrow.flags.writeable
    x = {
        "series": pd.Series([1, 2, 3], index=[5, 6, 7]),
        "tensor": torch.tensor([1, 2, 3]),
        "list": [1, 2, 3],
        "arrow": arrow,
        "reversed": np.array([3, 2, 1])[::-1],
        "unsigned": np.array([1, 2, 3], dtype=np.uint16),
    }
    wide = np.broadcast_to(np.array([[1], [2], [3]]), (3, 2))
    found, ys = next(iter(TensorLoader({**x, "wide": wide}, {"click": pd.Series([True, False, True])})))
    assert found.pop("wide").tolist() == [[1, 1], [2, 2], [3, 3]]
    assert {name: values.tolist() for name, values in found.items()} == {name: [1, 2, 3] for name in x}
    assert ys.tolist() == [[1.0], [0.0], [1.0]]
    assert not recwarn.list


def test_a_loader_is_not_changed_by_later_writes_to_packed_columns():
    ids = np.array([1, 2, 3])
    loader = TensorLoader({"id": ids}, {})
    ids[:] = 0
    assert next(iter(loader))[0]["id"].tolist() == [1, 2, 3]


def test_a_vocabularys_rows_need_no_copy(log):
    data = log(20)
    encoded = Encoded(
        sparse=np.stack([data.x["user"], data.x["keys"]], axis=1).astype(np.int32),
        sparse_names=("user", "keys"),
        sequences={"type": data.x["type"].astype(np.int32)},
        dense=data.x["a.b"].astype(np.float32)[:, None],
        dense_names=("a.b",),
        unknown={},
    )
    loader = TensorLoader.from_encoded(encoded, data.y, batch_size=7, groups=data.x["user"])
    plain = TensorLoader(data.x, data.y, batch_size=7)
    (x, ys), (plain_x, plain_ys) = rows_of(loader), rows_of(plain)
    assert all(torch.equal(x[name], values) for name, values in plain_x.items())
    assert torch.equal(ys, plain_ys)
    assert loader._packed.sparse.data_ptr() == encoded.sparse.ctypes.data
    assert loader.groups.tolist() == data.x["user"].tolist()


def test_a_vocabulary_without_a_kind_of_feature_gives_the_others():
    nothing = np.empty((3, 0), np.float32)
    encoded = Encoded(np.array([[1], [2], [3]], np.int32), ("user",), {}, nothing, (), {})
    x, ys = next(iter(TensorLoader.from_encoded(encoded, {})))
    assert list(x) == ["user"]
    assert ys.shape == (3, 0)


def test_shuffling_gives_each_row_once_and_keeps_rows_together(log):
    data = log(101)
    x, ys = rows_of(TensorLoader({**data.x, "row": np.arange(101)}, data.y, batch_size=16, shuffle=True, seed=3))
    order = x["row"].long()
    assert sorted(order.tolist()) == list(range(101))
    assert order.tolist() != list(range(101))
    for name, values in data.x.items():
        torch.testing.assert_close(x[name], torch.as_tensor(values)[order], check_dtype=False, rtol=1e-6, atol=0)
    assert torch.equal(ys, torch.as_tensor(np.stack(list(data.y.values()), axis=1))[order].float())


def test_an_order_depends_on_seed_and_epoch_alone(numbered):
    loader = numbered(seed=4)
    epochs = [order_of(loader) for _ in range(3)]
    assert len({tuple(order) for order in epochs}) == 3
    torch.manual_seed(0)
    other = numbered(seed=4)
    next(iter(other))  # an abandoned epoch counts as one
    assert order_of(other) == epochs[1]
    resumed = numbered(seed=4)
    resumed.set_epoch(2)
    assert order_of(resumed) == epochs[2]
    assert order_of(numbered(seed=5)) != epochs[0]


def test_in_order_ignores_shuffling_and_leaves_the_epoch_alone(numbered):
    loader = numbered()
    assert torch.cat([x["row"] for x, _ in loader.in_order()]).tolist() == list(range(20))
    assert order_of(loader) == order_of(numbered())


def test_labels_come_back_by_name(log):
    data = log(9)
    loader = TensorLoader(data.x, {**data.y, "counterfactual": data.would}, batch_size=4)
    labels = loader.labels()
    assert {name: column.tolist() for name, column in labels.items()} == {
        "click": data.y["click"].tolist(),
        "conversion": data.y["conversion"].tolist(),
        "counterfactual": data.would.tolist(),
    }


def test_batches_go_to_the_device_asked_for(log):
    data = log(9)
    loader = TensorLoader(data.x, data.y, device="meta")
    x, ys = next(iter(loader))
    assert {values.device.type for values in [*x.values(), ys]} == {"meta"}
    x, ys = next(iter(loader.to("cpu")))
    assert {values.device.type for values in [*x.values(), ys]} == {"cpu"}


REFUSED = [
    ({"x": {"a": [1, 2], "b": [1]}}, r"must have the same number of rows; got \{'a': 2, 'b': 1\}"),
    ({"x": {"a": [1, 2], "s": [[1]]}}, r"must have the same number of rows, at least one; got \[1, 2\]"),
    ({"x": {"a": [1, 2]}, "y": {"click": [1, 0, 1]}}, r"same number of rows, at least one; got \[2, 3\]"),
    ({"x": {"a": []}, "y": {}}, r"same number of rows, at least one; got \[0\]"),
    ({"x": {"a": ["red", "blue"]}}, "Column 'a' must hold numbers, .* Encode tokens as ids"),
    ({"x": {"a": [[1], [1, 2]]}}, "Column 'a' must hold numbers, equally many in each row"),
    ({"x": {"a": np.zeros((2, 1, 1))}}, r"Column 'a' must have one or two dimensions; got shape \[2, 1, 1\]"),
    ({"y": {"click": [1.0, 2.0]}}, r"'click' must hold 0 and 1; 1 of 2 rows of the data do not \(the first holds 2\)"),
    ({"y": {"click": [1.0, np.nan]}}, "'click' must hold 0 and 1; 1 of 2 rows"),
    ({"y": {"click": [[1], [0]]}}, r"The label column 'click' must have one value per row; got \[2, 1\]"),
    ({"groups": [1]}, r"groups must have one entry per row \(2\); got 1"),
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
    ({"batch_size": 2.0}, "batch_size must be a whole number of at least 1; got 2.0"),
    ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_unusable_columns_and_options_are_refused(changed, message):
    options = {"x": {"a": [1, 2]}, "y": {"click": [1, 0]}, **changed}
    with pytest.raises(ValueError, match=message):
        TensorLoader(options.pop("x"), options.pop("y"), **options)
