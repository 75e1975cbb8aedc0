"""How results look: nothing is cut off at any width, and what is not a terminal gets plain lines."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from cvr_plugins.cli._output import echo_json, echo_report, echo_table, flat
from cvr_plugins.metrics import Report, Scored, evaluate

ANSI = re.compile(r"\x1b\[[0-9;]*m")
METRICS = ("auc", "ks", "gauc", "gauc_impression", "log_loss", "calibration", "ece_quantile", "precision@0.5%")


@pytest.fixture
def report() -> Report:
    """All six tasks and spaces, with counts of a large log."""
    rng = np.random.default_rng(0)
    click = rng.random(2000) < 0.3
    predictions = {task: rng.random(2000).astype(np.float32) for task in ("ctr", "cvr", "ctcvr", "ctavr")}
    scored = Scored(predictions, click, click & (rng.random(2000) < 0.3), click, click, rng.integers(0, 9, 2000))
    return evaluate(scored, METRICS)


@pytest.fixture
def terminal(monkeypatch):
    """Pretend that standard output is a terminal of this width."""

    def make(width: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")

    return make


def _shown(capsys) -> list[str]:
    return ANSI.sub("", capsys.readouterr().out).splitlines()


def _numbers(lines: list[str]) -> dict[str, list[str]]:
    return {line.split()[0]: re.split(r"\s{2,}", line.strip())[1:] for line in lines if line.strip()}


@pytest.mark.parametrize(
    ("value", "idle", "line"),
    [
        (0.0184, False, "rows relabelled in the kept epoch: 0.0184"),
        (0.0, True, "rows relabelled in the kept epoch: 0: the method's mechanism did nothing"),
        (None, True, "rows relabelled in the kept epoch: none: the method's mechanism did nothing"),
    ],
)
def test_what_a_mechanism_did_stands_below_the_table(value, idle, line, report, capsys):
    echo_report(report, title="", mechanism={"says": "rows relabelled", "value": value, "idle": idle})
    assert _shown(capsys)[-1] == line


def test_a_report_in_a_file_is_plain_and_complete(report, capsys):
    echo_report(report, title="ESMM on the test part")
    lines = _shown(capsys)
    assert lines[0] == "ESMM on the test part"
    assert lines[1].split() == ["ctr", "cvr", "cvr", "cvr", "ctcvr", "ctavr"]
    assert lines[2].split() == ["entire", "click", "entire", "oracle", "entire", "entire"]
    shown = _numbers(lines[3:])
    for metric in METRICS:
        values = [report.values[f"{target}/{metric}"] for target in report.support]
        assert shown[metric] == [f"{value:.4f}" if value is not None else "undefined" for value in values]
    assert shown["rows"] == [f"{support.rows:,}" for support in report.support.values()]
    assert lines[-3:] == [
        "click: the clicked rows",
        "entire: all rows, unclicked ones counting as not converted",
        "oracle: all rows against the conversion had they been clicked",
    ]
    assert all(line == line.rstrip() and line.isascii() for line in lines)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_report_fits_into_a_terminal_with_all_its_numbers(width, report, capsys, terminal):
    echo_report(report, title="t")
    plain = _numbers(_shown(capsys)[3:])
    terminal(width)
    echo_report(report, title="t")
    lines = _shown(capsys)
    assert max(map(len, lines)) <= 80
    framed = _numbers(lines[4:])
    for metric in ("rows", "positives", "mean", *METRICS):
        assert framed[metric] == plain[metric]


def test_a_terminal_narrower_than_the_numbers_breaks_lines_but_loses_none(report, capsys, terminal):
    terminal(20)
    echo_report(report, title="t")
    text = "\n".join(_shown(capsys))
    assert "…" not in text
    assert f"{report.values['ctavr/entire/log_loss']:.4f}" in text


def test_only_the_spaces_that_occur_are_explained_and_what_is_undefined_is_said_to_be(capsys):
    never = np.zeros(3, bool)
    echo_report(evaluate(Scored({"ctr": np.full(3, 0.5, np.float32)}, never, never), ["auc"]), title="t")
    lines = _shown(capsys)
    assert _numbers(lines[3:])["auc"] == ["undefined"]
    assert [line.split(":")[0] for line in lines if ": " in line] == ["entire"]


ROWS = [
    ["one", 1234, 0.5, None, "a [bold]long[/bold] description that has to be folded somewhere"],
    ["two", 5, -1.25, 7, ""],
]


def test_a_table_sets_numbers_flush_right_and_takes_no_markup(capsys):
    echo_table(["name", "count", "value", "gap", "text"], ROWS, title="things")
    lines = _shown(capsys)
    assert lines[0] == "things"
    assert lines[2].startswith("one   1,234    0.5       a [bold]long[/bold] description")
    assert lines[3] == "two       5  -1.25    7"


def test_a_table_folds_text_on_a_terminal_and_never_numbers(capsys, terminal):
    terminal(60)
    echo_table(["name", "count", "value", "gap", "text"], ROWS)
    lines = _shown(capsys)
    assert max(map(len, lines)) <= 60
    assert "1,234" in lines[2]
    assert " ".join(line[29:].strip() for line in lines[2:]).split() == ROWS[0][-1].split()


def test_an_empty_table_is_its_header(capsys):
    echo_table(["name", "count"], [])
    assert _shown(capsys) == ["name  count"]


def test_json_is_json(capsys):
    echo_json({"a": [1.5, None], "b": "ü"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [1.5, None], "b": "ü"}
    assert "ü" in text


def test_a_summary_on_one_line():
    assert flat({"rows": 1000, "click_rate": 0.12345, "actions": None}) == "rows 1,000, click rate 0.1235"
