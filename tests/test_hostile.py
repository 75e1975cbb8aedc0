"""Hostile files and names: nothing of them is executed, none outgrows its bounds, and each is told in a sentence."""

from __future__ import annotations

import ast
import pickle
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import cvr_plugins
from cvr_plugins.cli._group import run as command_line
from cvr_plugins.config import ConfigError, _reading, load_yaml, parse_pairs
from cvr_plugins.grid import GridError, plan
from cvr_plugins.grid._cells import cell_name
from cvr_plugins.training.checkpoint import CheckpointError, load_checkpoint
from cvr_plugins.training.run_folder import default_name


def named(levels: int, line: Callable[[int], str]) -> str:
    """A text of levels that each name the one before."""
    return "a0: &a0 [1, 1, 1]\n" + "".join(f"a{k}: &a{k} {line(k)}\n" for k in range(1, levels))


YAML = {
    "laughs": (named(10, lambda k: f"[{', '.join([f'*a{k - 1}'] * 9)}]"), "more than 100,000 values"),
    "laughing keys": (
        "m0: &m0 {k0: 1}\n" + "".join(f"m{k}: &m{k} {{<<: [{f'*m{k - 1}, ' * 9}], k{k}: 1}}\n" for k in range(1, 10)),
        "more than 100,000 values",
    ),
    "deep lists": ("a: " + "[" * 100_000, "more than 64 levels"),
    "deep mappings": ("{a: " * 5000, "more than 64 levels"),
    "deep blocks": ("- " * 5000, "more than 64 levels"),
    "deep aliases": (named(100, lambda k: f"[*a{k - 1}]"), "more than 64 levels"),
    "itself": ("a: &a [*a]\n", "a part that contains itself"),
    "itself, merged": ("a: &a {<<: *a}\n", "a part that contains itself"),
    "long": ("a: 1\n" + "#" * 4_000_000, "more than 4,000,000 characters"),
    "digits": ("epochs: " + "9" * 5000, "is no number"),
    "hexadecimal": ("epochs: 0x" + "f" * 5000, "is no number"),
    "base 60 by its tag": ("epochs: !!int 1:30", "'1:30' is no number"),
    "base 60 with a fraction": ("learning_rate: !!float 1:30.5", "'1:30.5' is no number"),
    "binary by its tag": ("epochs: !!int 0b11", "'0b11' is no number"),
    "a call": ("epochs: !!python/object/apply:os.mkdir [executed]", "could not determine a constructor"),
    "a name": ("epochs: !!python/name:os.system", "could not determine a constructor"),
    "a module": ("epochs: !!python/module:antigravity", "could not determine a constructor"),
    "an object": ("epochs: !!python/object/new:os.mkdir {args: [executed]}", "could not determine a constructor"),
    "a date": ("epochs: 2026-02-31", "day is out of range"),
    "a list as a key": ("? [1, 2]\n: 3", "unhashable key"),
    "a null": ("epochs: \0", "special characters are not allowed"),
}
"""What is wrong with a file -> the file, and what is said of it."""


def of_recbole(file: Path) -> object:
    pytest.importorskip("recbole")
    from cvr_plugins.recbole import Config

    return Config("BPR", "ml-100k", [file])


@pytest.mark.parametrize("reader", [load_yaml, of_recbole])
@pytest.mark.parametrize("what", YAML)
def test_a_hostile_file_is_refused_by_every_reader(what, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, message = YAML[what]
    Path("keys.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        reader(Path("keys.yaml"))
    assert str(caught.value).startswith("keys.yaml")
    assert len(str(caught.value)) < 300
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "command",
    [
        "run -m ESMM -c",
        "run -m BPR -c",
        "grid --out grid -c",
        "export ml-100k-funnel log.csv -c",
        "run --resume",
    ],
)
def test_a_hostile_file_is_a_sentence_on_the_command_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run.unfinished").mkdir()
    Path("run.unfinished/config.yaml").write_text(YAML["laughs"][0])
    assert command_line([*command.split(), "run" if command == "run --resume" else "run.unfinished/config.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert YAML["laughs"][1] in line


@pytest.mark.parametrize("reader", [load_yaml, of_recbole])
def test_a_file_in_another_encoding_is_named_with_line_and_byte(reader, tmp_path):
    (tmp_path / "keys.yaml").write_bytes("epochs: 1\ncheckpoint_dir: Läufe\n".encode("cp1252"))
    with pytest.raises(
        ConfigError, match=r"keys.yaml' is not utf-8 text: line 2 holds the byte 0xe4, .*Läufe'. Save it"
    ):
        reader(tmp_path / "keys.yaml")


@given(st.lists(st.lists(st.one_of(st.integers(0, 9), st.tuples(st.integers(0, 99))), max_size=5), max_size=7))
def test_aliases_count_as_what_they_name(lists):
    lines, values = [], {}
    for i, items in enumerate(lists):
        named = [f"a{item[0] % i}" if isinstance(item, tuple) and i else None for item in items]
        texts = [f"*{name}" if name else "7" for name in named]
        values[f"a{i}"] = [values[name] if name else 7 for name in named]
        lines.append(f"a{i}: &a{i} [{', '.join(texts)}]\n")

    def nodes(value: object) -> int:
        return 1 + sum(map(nodes, value)) if isinstance(value, list) else 1

    def levels(value: object) -> int:
        return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 1

    fits = 1 + sum(1 + nodes(value) for value in values.values()) <= 40
    fits = fits and 1 + max(map(levels, values.values()), default=0) <= 5
    with mock.patch.multiple(_reading, _MOST_NODES=40, _MOST_DEPTH=5):
        try:
            found = _reading._load("".join(lines))
        except yaml.YAMLError:
            assert not fits
        else:
            assert fits
            assert (found or {}) == values


def test_a_grid_of_more_cells_than_can_be_run_is_refused_before_they_are_made():
    grid = {"seed": list(range(2000)), "epochs": list(range(1, 2000)), "min_count": list(range(1, 2000))}
    with pytest.raises(GridError, match="The grid has 7,992,002,000 combinations"):
        plan({"model": "ESMM", "dataset": "log.csv", "grid": grid})


NUMBERS = {
    "016": 16,
    "-016": -16,
    "0o16": 14,
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "1_000": "1_000",
    "1e3": 1e3,
}
"""Text -> what it is in YAML 1.2."""


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_that_of_yaml_1_2_in_every_reader(text, tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text(f"of_ones_own: {text}\nlisted: [{text}]\n")
    for found in (load_yaml(file), parse_pairs([f"of_ones_own={text}", f"listed=[{text}]"]), of_recbole(file)):
        assert (found["of_ones_own"], found["listed"]) == (NUMBERS[text], [NUMBERS[text]])


HOSTILE = [
    "{0.__class__.__mro__}",
    "%s%n%(x)d%",
    "../../up",
    "/absolute",
    "$\\frac{$",
    "[red]x[/blue]",
    "\\input{up}",
    "cos\\nsystem\\n(S'touch executed'\\ntR.",
    "__import__('pathlib').Path('executed').touch()",
    "`touch executed`",
    "$(touch executed)",
    "<script>",
    "a.b",
    "state_dict",
    "__class__",
    "\x1b[31m",
]
"""Text that somewhere means something else."""


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.fixture
def hostile_log(tmp_path, monkeypatch):
    """A working folder four levels deep with a log whose columns and tokens are hostile."""
    deep = tmp_path / "1/2/3"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    rows = 400
    columns = {name: [HOSTILE[(i + j) % len(HOSTILE)] for i in range(rows)] for j, name in enumerate(HOSTILE)}
    labels = {"click": [i % 2 for i in range(rows)], "conversion": [int(i % 6 == 1) for i in range(rows)]}
    ids = {"user_id": [i % 20 for i in range(rows)], "item_id": [i % 30 for i in range(rows)]}
    pd.DataFrame({**ids, **columns, **labels}).to_csv("log.csv", index=False)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert [path.name for path in Path("..").resolve().iterdir()] == ["3"]
    assert not list(tmp_path.rglob("executed"))
    assert not Path("/absolute").exists()


def test_hostile_names_and_tokens_are_names_and_tokens(hostile_log, capsys):
    quick = ["epochs=1", "embedding_size=2", "dims=[2]", "show_progress=false"]
    assert command_line(["run", "-m", "ESMM", "-d", "log.csv", "--out", "run", *quick]) == 0, capsys.readouterr().err
    assert command_line(["predict", "run", "log.csv", "scores.csv"]) == 0, capsys.readouterr().err
    assert len(pd.read_csv("scores.csv")) == 400
    assert command_line(["export", "log.csv", "copy.parquet"]) == 0, capsys.readouterr().err
    assert set(HOSTILE) <= set(pd.read_parquet("copy.parquet").columns)
    if find_spec("recbole"):
        assert command_line(["export", "log.csv", "atomic"]) == 0, capsys.readouterr().err
        side = ["-d", "atomic/log", "--framework", "recbole", "--out", "other"]
        assert command_line(["run", "-m", "ESMM", *side, *quick]) == 0, capsys.readouterr().err


def test_a_parquet_file_s_own_types_are_not_unpickled(hostile_log, capsys):
    evil = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Evil())}
    schema = pa.schema([pa.field("user_id", pa.int64(), metadata=evil)])
    pq.write_table(pa.table({"user_id": [1]}, schema=schema), "evil.parquet")
    assert command_line(["export", "evil.parquet", "copy.csv"]) == 2


@pytest.mark.parametrize("address", ["http://localhost/log.csv", "s3://bucket/log.parquet", "file:///log.csv"])
def test_a_data_set_is_not_fetched(address, monkeypatch, capsys):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it connects"))
    for more in (["-d", address], ["-d", "x.csv", f"data_path={address}"]):
        assert command_line(["run", "-m", "ESMM", *more]) == 2
        assert "there is no file or folder" in capsys.readouterr().err


def test_weights_are_read_and_nothing_executed_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"format": 1, "config": {}, "state_dict": Evil()}, "evil.pt")
    torch.load("evil.pt")
    Path("executed").unlink()
    with pytest.raises(CheckpointError, match="nothing of it was executed"):
        load_checkpoint("evil.pt")
    assert not Path("executed").exists()


@settings(max_examples=50)
@given(st.one_of(st.text(), st.sampled_from(HOSTILE)), st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_a_name_is_one_folder_of_its_own(model, dataset):
    for name in (cell_name({"model": model, "dataset": dataset}), cell_name({"model": model})):
        assert Path("runs", name).parent == Path("runs")
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\\0")


@given(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE))
def test_a_run_s_folder_is_one_below_the_place_it_is_made_in(model, dataset):
    assert Path("runs", default_name(model, dataset)).parent == Path("runs")


def test_a_name_in_a_plot_begins_no_formula():
    pytest.importorskip("matplotlib")
    from cvr_plugins.grid.reports import _plots

    assert _plots._panels({"$\\frac{$": None}, lambda axes, _: axes.plot([1], label="$\\frac{$"), "x", "y")


ALLOWED = {
    ("testing/_state.py", "pickle.loads"): "of a model that the suite has pickled a moment ago",
    ("training/checkpoint.py", "torch.load"): "weights alone",
    ("testing/_state.py", "torch.load"): "weights alone",
    ("recbole/compat/guards.py", "np.load"): "without pickles",
}
"""(file, call) that would execute what it reads -> why it does not."""


def test_nothing_in_the_package_executes_or_unpickles_what_it_reads():
    root = Path(cvr_plugins.__file__).parent
    found = set()
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            options = {each.arg: ast.unparse(each.value) for each in node.keywords}
            of_yaml = call.startswith("yaml.") and "load" in call
            if of_yaml or call in ("eval", "exec", "compile", "__import__", "os.system"):
                found.add((path.relative_to(root).as_posix(), call))
            if call in ("pickle.load", "pickle.loads", "torch.load", "np.load", "pd.read_pickle", "joblib.load"):
                found.add((path.relative_to(root).as_posix(), call))
            assert call != "torch.load" or options["weights_only"] == "True"
            assert call != "np.load" or options["allow_pickle"] == "False"
    assert found == set(ALLOWED)
