"""Reports: figures against NumPy and SciPy, the shape of the papers' tables, and gaps shown as what they are."""

from __future__ import annotations

import importlib
import re
import sys
import xml.etree.ElementTree as ET
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from cvr_plugins.files import TargetError
from cvr_plugins.grid import GridError
from cvr_plugins.grid.reports import Layout, Request, Results, render, summary_table, write_report
from cvr_plugins.grid.reports._statistics import difference_of, holm
from cvr_plugins.grid.reports._tables import difference_tables
from cvr_plugins.grid.reports._text import to_html

AUC, LOSS, CALIBRATION = "cvr/entire/auc", "cvr/entire/log_loss", "cvr/entire/calibration"


@pytest.fixture
def two_methods(folder):
    """Two methods, three seeds; one run of B failed."""
    a = [0.60, 0.62, 0.64]
    b = [0.65, 0.66, None]
    cells = [({"model": "A", "seed": s}, {AUC: v, LOSS: 1 - v}) for s, v in enumerate(a)]
    cells += [({"model": "B", "seed": s}, None if v is None else {AUC: v, LOSS: 1 - v}) for s, v in enumerate(b)]
    return folder(cells)


@pytest.fixture
def seeded(folder):
    """A maker of a grid of two seeds each: names of dimensions, rows of their values with the metric's."""

    def make(names, *rows):
        values = [(dict(zip(names.split(), chosen, strict=True)), value) for *chosen, value in rows]
        return folder([({**chosen, "seed": s}, {AUC: value + s / 100}) for chosen, value in values for s in (1, 2)])

    return make


def texts(table) -> list[list[str]]:
    """The rows of a table, their names in front, a star before what is bold."""
    stars = "" if table.best is None else table.best.replace({True: "*", False: ""}).astype(str)
    return (stars + table.text).reset_index().to_numpy().tolist()


def heads(table) -> list[str]:
    return [*table.text.index.names, *table.text.columns]


def summary(path, metrics, **layout):
    results = Results.read(path)
    return summary_table(results, Layout.of(results, **layout), metrics)


def differences(path, metrics, baseline=None, **layout):
    results = Results.read(path)
    return difference_tables(results, Layout.of(results, **layout), metrics, baseline)


def compared(ours, theirs):
    return difference_of(pd.Series(ours, dtype=float), pd.Series(theirs, dtype=float))


@pytest.mark.filterwarnings("error")
def test_without_spread_or_with_one_pair_there_is_no_test():
    assert np.isnan(compared([1.0], [0.5]).t_test)
    constant = compared([1.0, 2.0], [0.5, 1.5])
    assert constant[:3] == (2, 0.5, 0.0)
    assert np.isnan(constant[-2:]).all()
    assert np.isnan(compared([1.0, 2.0], [0.9, 1.9]).t_test), "equal but for rounding"
    assert compared([1.0, 2.0, 3.0], [1.0, 1.9, 2.7]).wilcoxon == 0.5
    assert compared([], []).pairs == 0
    assert np.isnan(compared([1.0, -1.0], [0.0, 0.0]).relative)


def test_holm_by_hand():
    # 3 x .01, then max(2 x .02, .03), then max(.04, .04); the missing one does not count.
    adjusted = [(0.02, 0.04), (np.nan, np.nan), (0.04, 0.04), (0.01, 0.03)]
    assert holm(pd.Series([p for p, _ in adjusted])).tolist() == pytest.approx([q for _, q in adjusted], nan_ok=True)
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_summary_of_methods_over_seeds(two_methods):
    table = summary(two_methods, [AUC, LOSS])
    assert heads(table) == ["model", f"{AUC} ↑", f"{LOSS} ↓", "runs", "failed"]
    assert texts(table) == [
        ["A", "0.6200 ± 0.0200", "0.3800 ± 0.0200", "3", "0"],
        ["B", "*0.6550 ± 0.0071", "*0.3450 ± 0.0071", "2", "1"],
    ]
    assert table.notes[0].startswith("Mean ± sample standard deviation over seed 0, 1, 2;")
    assert table.notes[-1] == "Failed: B-2: ValueError: it_broke & <b>burnt</b> 100 %"


def test_differences_pair_equal_seeds_only(two_methods):
    (table,) = differences(two_methods, [AUC], "A")
    assert table.title == f"Difference to A in {AUC} ↑"
    p = stats.ttest_rel([0.65, 0.66], [0.60, 0.62]).pvalue
    assert texts(table) == [["B", "+0.0450 ± 0.0071", "+7.38 %", "2", f"{p:.4f}", "0.5000", f"{p:.4f}"]]
    assert "With 2 pairs Wilcoxon's p-value is at least 0.5" in table.notes[1]


def test_a_dimension_side_by_side(seeded):
    path = seeded("dataset model", ("x", "A", 0.5), ("x", "B", 0.6), ("y", "A", 0.7), ("y", "B", 0.8))
    table = summary(path, [AUC], columns=["dataset"])
    assert heads(table) == ["model", f"x {AUC} ↑", f"y {AUC} ↑", "runs"]
    assert texts(table)[1] == ["B", "*0.6150 ± 0.0071", "*0.8150 ± 0.0071", "4"]
    assert [row[:2] for row in texts(differences(path, [AUC], columns=["dataset"])[0])] == [["x", "B"], ["y", "B"]]


def test_another_dimension_can_be_compared_and_variants_are(seeded):
    path = seeded("model weighting", ("A", "dwa", 0.5), ("A", "dtp", 0.5))
    assert heads(summary(path, [AUC]))[0] == "weighting"
    table = summary(path, [AUC], compared=["weighting"], over=["seed"])
    assert [row[0] for row in texts(table)] == ["dwa", "dtp"]
    assert all(row[1].startswith("*") for row in texts(table)), "equal means are equally good"
    results = Results.read(seeded("variant", ("IPS", 0.5), ("SNIPS", 0.5)))
    assert Layout.of(results).compared == ["variant"]


def test_rows_can_be_named_by_two_dimensions_like_mmoe_in_the_papers_table_two(seeded):
    rows = [("ESMM", "towers", 0.6), ("ESMM", "mmoe", 0.7), ("NISE", "towers", 0.65)]
    blocks = [("dwa", backbone, *row) for backbone in ("mlp", "deepfm") for row in rows]
    path = seeded("weighting backbone model architecture", *blocks)
    table = summary(path, [AUC], compared=["model", "architecture"])
    assert heads(table)[:3] == ["backbone", "model", "architecture"]
    assert "All runs: weighting dwa." in table.notes
    assert [row[3].startswith("*") for row in texts(table)] == [False, True, False] * 2
    (found,) = differences(path, [AUC], "ESMM mmoe", compared=["model", "architecture"])
    assert found.title.startswith("Difference to ESMM mmoe in")
    assert [row[:3] for row in texts(found)][:2] == [["mlp", "ESMM", "towers"], ["mlp", "NISE", "towers"]]
    assert "counts all 0 t-tests" in found.notes[0]
    text = render(Results.read(path), Request(compared=["model", "architecture"], metrics=[AUC]), ["md"])["md"]
    assert "|  | ESMM | mmoe | " not in text, "a repeated name stands in the first row only"
    assert "|  |  | mmoe | **" in text


def test_a_grid_of_one_method_names_it(folder):
    path = folder([({"seed": s}, {AUC: 0.5 + s / 10}) for s in (1, 2)], source={"model": "ESMM"})
    assert texts(summary(path, [AUC])) == [["ESMM", "0.6500 ± 0.0707", "2"]]
    assert differences(path, [AUC]) == []


def test_one_run_has_no_spread_and_no_seed_no_mean_over_it(folder):
    table = summary(folder([({"model": "A"}, {AUC: 0.5}), ({"model": "B"}, {AUC: 0.4})]), [AUC])
    assert texts(table) == [["A", "*0.5000", "1"], ["B", "0.4000", "1"]]
    assert "over" not in table.notes[0].split(";")[0]


def test_gaps_are_shown_as_what_they_are(folder):
    kinds = {"Undefined": ["", ""], "Partly": [0.5, ""], "Failed": [None, None], "Half": [0.7]}
    cells = [
        ({"model": name, "seed": seed}, None if value is None else {AUC: value})
        for name, values in kinds.items()
        for seed, value in enumerate(values, 1)
    ]
    path = folder(cells, planned=[({"model": "Half", "seed": 2},), ({"model": "Never", "seed": 1},)])
    table = summary(path, [AUC])
    assert heads(table)[2:] == ["runs", "failed", "not run"]
    assert texts(table) == [
        ["Undefined", "undefined", "2", "0", "0"],
        ["Partly", "0.5000 (1 of 2)", "2", "0", "0"],
        ["Failed", "failed", "0", "2", "0"],
        ["Half", "*0.7000", "1", "0", "1"],
        ["Never", "not run", "0", "0", "1"],
    ]
    rows = {row[0]: row[1:] for row in texts(differences(path, [AUC], "Partly")[0])}
    assert rows["Half"] == ["+0.2000", "+40.00 %", "1", "undefined", "undefined", "undefined"]
    assert rows["Failed"] == ["undefined", "", "0", "", "", ""]


def test_a_metric_best_at_one_is_best_nearest_to_it(folder):
    values = {"A": [0.5, 0.6], "B": [1.2, 1.3], "C": [3.0, 3.1]}
    path = folder([({"model": m, "seed": s}, {CALIBRATION: v[s]}) for m, v in values.items() for s in (0, 1)])
    assert [row[1].startswith("*") for row in texts(summary(path, [CALIBRATION]))] == [False, True, False]
    (table,) = differences(path, [CALIBRATION], "A")
    assert table.title == f"Difference to A in the distance of {CALIBRATION} from 1 ↓"
    assert texts(table)[0][:2] == ["B", "-0.2000 ± 0.1414"]


def test_collapsed_runs_are_counted_and_named(folder):
    path = folder([({"model": "A", "seed": s}, {AUC: 0.5, "collapsed": "cvr ctcvr" if s else ""}) for s in (0, 1)])
    table = summary(path, [AUC])
    assert texts(table)[0][-1] == "1"
    assert heads(table)[-1] == "collapsed"
    assert any("A-1 (cvr, ctcvr)" in note for note in table.notes)


def test_what_a_mechanism_did_stands_beside_the_metrics(folder):
    did = {"mechanism": "rows relabelled", "acted": 0.5, "idle": ""}
    nothing = {**did, "acted": 0.0, "idle": "yes"}
    told = {"A": (did, did), "B": (did, nothing), "C": ({}, {})}
    path = folder([({"model": m, "seed": s}, {AUC: 0.5, **told[m][s]}) for m in told for s in (0, 1)])
    table = summary(path, [AUC])
    assert heads(table)[-1] == "mechanism"
    assert [row[-1] for row in texts(table)] == [
        "rows relabelled 0.5",
        "rows relabelled 0.25; did nothing in 1 of 2",
        "",
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(metrics=["cvr/entire/auk"]), "Unknown metric"),
        (Request(metrics=["cvr/oracle/auc"]), "value of cvr/oracle/auc; there are cvr/entire/auc"),
        (Request(baseline="C"), "The baseline 'C' is no value of model. Known: A, B"),
        (Request(compared=["modle"]), "'modle' is no dimension of this grid. Did you mean model"),
        (Request(columns=["seed"]), "'seed' can only be one of"),
        (Request(columns=["model"]), "Nothing is left to compare"),
        ("pdf", "Unknown report format 'pdf'"),
    ],
)
def test_what_cannot_be_reported_is_refused(two_methods, request_, message):
    request_, form = (Request(), request_) if isinstance(request_, str) else (request_, "md")
    with pytest.raises(ValueError, match=message):
        render(Results.read(two_methods), request_, [form])


def test_a_grid_without_a_result_has_no_report(folder):
    with pytest.raises(GridError, match="has no finished run yet; 1 failed"):
        Results.read(folder([({"model": "A"}, None)]))


def test_markdown_and_html_are_escaped(two_methods):
    text = render(Results.read(two_methods), Request(metrics=[AUC], baseline="A"), ["md"])["md"]
    assert f"| model | {AUC} ↑ | runs | failed |\n| --- | ---: | ---: | ---: |\n" in text
    assert "| B | **0.6550 ± 0.0071** | 2 | 1 |" in text
    assert r"it\_broke & \<b\>burnt\</b\> 100 %" in text
    text = to_html(summary(two_methods, [AUC]))
    assert "it_broke &amp; &lt;b&gt;burnt&lt;/b&gt;" in text
    assert "<td><strong>0.6550 ± 0.0071</strong></td>" in text


def test_latex_is_escaped(two_methods):
    text = render(Results.read(two_methods), Request(metrics=[AUC, LOSS]), ["tex"])["tex"]
    assert r"it\_broke \& $<$b$>$burnt$<$/b$>$ 100 \%" in text
    assert r"B & \textbf{0.6550 $\pm$ 0.0071} & \textbf{0.3450 $\pm$ 0.0071} & 2 & 1 \\" in text
    assert re.search(r"cvr/entire/log\\_loss \$\\downarrow\$", text)
    assert text.count(r"\end{table}") == 3
    unescaped = re.sub(r"\\.", "", text.split("\n", 1)[1])
    assert not re.search(r"[%#_^~↑±]", unescaped)


def test_html_holds_tables_and_plots_and_needs_no_other_file(finished_grid):
    results = Results.read(finished_grid)
    text = render(results, Request(), ["html"])["html"]
    pictures = re.findall(r'<img alt="(\w+)[^"]*" src="data:image/svg\+xml;base64,([^"]*)">', text)
    assert [word for word, _ in pictures] == ["Calibration", "Calibration", "The", "Training"]
    assert "Calibration of cvr/oracle" in text
    for _, data in pictures:
        drawing = ET.fromstring(b64decode(data))
        assert drawing.tag.endswith("svg")
        assert len(drawing.findall(".//{*}g[@id='axes_2']")) == 1, "a panel per method"
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)
    assert render(results, Request(), ["html"])["html"] == text


@pytest.mark.parametrize("out", [".", "runs/new"])
def test_a_report_is_not_written_over_what_it_reads(out, finished_copy):
    (finished_copy / "report.md").hardlink_to(finished_copy / "results.csv")
    with pytest.raises(TargetError, match="is read"):
        write_report(finished_copy, Request(), ["md"], finished_copy / out)


def test_html_without_matplotlib_says_what_to_install(finished_grid, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GridError, match=r"pip install 'cvr-plugins\[report\]'"):
        write_report(finished_grid, Request(), ["md", "html"], tmp_path)
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    ("keys", "shown", "notes"),
    [
        # The truth is known: it is judged first.
        ("ctcvr/entire/auc cvr/click/auc cvr/oracle/auc", "cvr/oracle/auc cvr/click/auc", 0),
        # A real log: not cvr/entire, where low predictions look good, unless nothing else is there.
        (
            "cvr/entire/auc cvr/entire/log_loss ctcvr/entire/auc cvr/click/auc cvr/click/log_loss",
            "cvr/click/auc ctcvr/entire/auc cvr/click/log_loss",
            1,
        ),
        ("cvr/entire/auc cvr/entire/log_loss", "cvr/entire/auc cvr/entire/log_loss", 2),
    ],
)
def test_without_a_wish_what_the_log_can_judge_is_shown(folder, keys, shown, notes):
    results = Results.read(folder([({"model": "A"}, dict.fromkeys(keys.split(), 0.5))]))
    text = render(results, Request(), ["md"])["md"]
    assert re.findall(r"\w+/\w+/\w+", text.splitlines()[2].replace("\\", "")) == shown.split()
    assert ("nothing here judges CVR on unclicked rows" in text) == (notes > 0)
    assert ("rewards low predictions" in text) == (notes > 1)


def test_the_readme_table_is_put_in_its_place(finished_grid, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
    script = importlib.import_module("readme_table")
    monkeypatch.setattr(script, "METRICS", ("cvr/oracle/auc",))
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- grid: written by a script -->\nold\n<!-- end -->\nafter\n<!-- end -->\n")
    done = CliRunner().invoke(script.main, [str(finished_grid), "--into", str(file)])
    assert done.exit_code == 0, done.output
    text = file.read_text()
    assert text.startswith("before\n<!-- grid: written by a script -->\n\n| model | cvr/oracle/auc ↑ | runs |\n")
    assert text.endswith("<!-- end -->\nafter\n<!-- end -->\n")
    assert "\nold\n" not in text
    assert CliRunner().invoke(script.main, [str(finished_grid)]).output in text
    file.write_text("nothing")
    assert CliRunner().invoke(script.main, [str(finished_grid), "--into", str(file)]).exit_code == 1
