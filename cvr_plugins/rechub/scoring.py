"""Apply a finished run to new logs, streaming, so that a log may be larger than memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cvr_plugins.data import DataError, FunnelLog, RawLog, Schema, TableWriter, read_table
from cvr_plugins.data.errors import quoted
from cvr_plugins.data.source import BATCH_ROWS, table_suffix
from cvr_plugins.files import check_apart, whole_file
from cvr_plugins.metrics import DEFAULT_METRICS, Report, Scored
from cvr_plugins.rechub.trained import TrainedRun
from cvr_plugins.training.results import report_of

PREFIX = "p_"
"""Before a task's name in the columns that `predict` adds."""


@dataclass(frozen=True)
class Scoring:
    """What scoring a log did.

    rows: scored; unknown: column -> tokens that are not in the vocabulary, scored as the unknown id; notes: what the
    checks of the labels found.
    """

    rows: int
    unknown: dict[str, int]
    notes: tuple[str, ...] = ()


def predict(
    run_dir: str | Path,
    log: str | Path,
    out: str | Path,
    *,
    device: str = "cpu",
    verify: bool = True,
    batch_rows: int = BATCH_ROWS,
    on_rows: Callable[[int], None] | None = None,
) -> Scoring:
    """Write the rows of `log` with the columns `p_cvr, p_ctr, p_ctcvr` (one per task) to `out`, whole or not at all.

    log: CSV or Parquet with the feature columns. out: `.csv`, `.tsv` (also `.gz`) or `.parquet`; all columns of the
    log pass through: of a Parquet log with types and values as stored, of a CSV log as the text that stands there.
    batch_rows: held in memory at a time; on_rows: called with the number of rows of each batch.
    Raises RunFolderError, ConfigError for the device, DataError if the log lacks a feature, has a column of the same
    name as an added one, cannot be read or has no rows, TargetError and OutputError if `out` cannot be written.
    """
    out = Path(out)
    table_suffix(out)
    check_apart(out, [log, *Path(run_dir).glob("*")])
    run = TrainedRun.load(run_dir, device=device, verify=verify)
    raw = RawLog.open(log, run.schema.features, encoding=run.config["encoding"])
    added = pa.schema([(PREFIX + task, pa.float32()) for task in run.model.tasks])
    clash = [name for name in added.names if name in raw.schema.names]
    if clash:
        raise DataError(f"{str(log)!r} has the columns {', '.join(clash)} already; rename or drop them.")
    schema = pa.schema([*raw.schema, *added])
    rows, unknown = 0, Counter[str]()
    with whole_file(out) as aside, TableWriter(aside, schema, name=out) as writer:
        for table, features in raw.batches(batch_rows):
            scores, missed = run.score(features)
            columns = [pa.array(np.ascontiguousarray(column)) for column in scores.T]
            writer.write(pa.table([*table.columns, *columns], names=schema.names))
            rows += len(features)
            unknown.update(missed)
            if on_rows is not None:
                on_rows(len(features))
        if rows == 0:
            raise DataError(f"{str(log)!r} has no rows; there is nothing to score.")
    return Scoring(rows, dict(+unknown))


def evaluate_run(
    run_dir: str | Path,
    log: str | Path,
    *,
    device: str = "cpu",
    verify: bool = True,
    batch_rows: int = BATCH_ROWS,
    on_rows: Callable[[int], None] | None = None,
) -> tuple[Report, Scoring]:
    """Score a labelled log and return its metrics by task and space; only scores, labels and users stay in memory.

    log: CSV or Parquet with the feature and label columns under the names of the run's own log; action and
    counterfactual columns are used where there are such, the action where all of its columns are, of which it is the
    OR. Read twice, for its labels and for its features.
    Raises RunFolderError, ConfigError for the device, DataError if a column is missing, the log cannot be read or
    fails a check, or has no rows.
    """
    run = TrainedRun.load(run_dir, device=device, verify=verify)
    encoding = run.config["encoding"]
    raw = RawLog.open(log, run.schema.features, encoding=encoding)
    schema, notes = _labels_present(run.schema, raw.schema.names)
    labelled = read_table(log, schema, encoding=encoding)
    scores: list[np.ndarray] = []
    unknown = Counter[str]()
    for _, features in raw.batches(batch_rows, rows=False):
        batch, missed = run.score(features)
        scores.append(batch)
        unknown.update(missed)
        if on_rows is not None:
            on_rows(len(batch))
    metrics = run.config["metrics"] or DEFAULT_METRICS
    report = report_of(_scored(run, np.concatenate(scores), labelled), metrics)
    return report, Scoring(len(labelled), dict(+unknown), (*notes, *labelled.notes))


def _scored(run: TrainedRun, scores: np.ndarray, labelled: FunnelLog) -> Scored:
    predictions = {task: scores[:, i] for i, task in enumerate(run.model.tasks)}
    return Scored(predictions=predictions, groups=labelled.user_codes(), **labelled.labels())


def _labels_present(schema: Schema, present: list[str]) -> tuple[Schema, tuple[str, ...]]:
    """The ids and labels of a schema without features, and without the optional ones that a log lacks; and notes."""
    actions = schema.labels.get("action", ())
    lacking = [name for name in actions if name not in present]
    notes: tuple[str, ...] = ()
    if 0 < len(lacking) < len(actions):
        # The OR of the others would be another label than the one the run was trained on.
        notes = (f"The log lacks {quoted(lacking)} of the action columns {quoted(actions)}; the action is left out.",)
    found = Schema(
        schema.user,
        schema.item,
        schema.click,
        schema.conversion,
        action=None if lacking else schema.action,
        counterfactual=schema.counterfactual if schema.counterfactual in present else None,
        id_features=False,
    )
    return found, notes
