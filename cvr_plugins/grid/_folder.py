"""The folder of a grid: finished runs in their folders, which are the truth, and the table made of them."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cvr_plugins.files import put_in_place, undecodable, whole_file
from cvr_plugins.grid._cells import Cell, GridError, differences
from cvr_plugins.grid._rows import CELL_FILE, FAILED, FIXED_COLUMNS, RUN, Row, finished_row
from cvr_plugins.grid._spec import Grid
from cvr_plugins.training.run_folder import RunFolder, write_json

FORMAT = 1
_OWN = frozenset({"grid.json", "results.csv", "runs", "unfinished", "errors", ".lock"})


@dataclass
class GridFolder:
    """Files of a grid.

    - `grid.json`: the grid as it was last started, and its cells;
    - `runs/CELL/`: the run folder of each finished cell, put there by one rename; what is here is done;
    - `results.csv`: a row per finished and failed cell, written whole as each run ends, made anew from `runs/` on
      resuming;
    - `errors/CELL.txt`: the traceback of a failed cell;
    - `unfinished/CELL/`: what a cell works in; one that was cut off or failed goes on from what it has trained there.
      Seconds in the table add up over the processes that worked on a cell; of a failed one they are the last one's.

    Parameters
    ----------
    path : Path
        The folder.
    dimensions : tuple of str
        Names of the grid's dimensions, once it is started.
    rows : dict
        Cell -> row of the table, once it is started.
    """

    path: Path
    dimensions: tuple[str, ...] = ()
    rows: dict[str, Row] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        """The results table."""
        return self.path / "results.csv"

    def run_path(self, name: str) -> Path:
        """Return where the finished run of the cell of that name is kept."""
        return self.path / "runs" / name

    @contextmanager
    def locked(self, *, resume: bool) -> Iterator[None]:
        """Make the folder if need be and keep other grids out of it.

        Parameters
        ----------
        resume : bool
            Whether it may hold a grid already.

        Raises
        ------
        GridError
            If it holds anything and `resume` is false, holds something other than a grid, or is in use.
        """
        if self.path.is_dir():
            present = {entry.name for entry in self.path.iterdir()} - {".lock"}
            strange = sorted(present - _OWN - {name for name in present if name.startswith((".", "report."))})
            if present and not resume:
                raise GridError(
                    f"The folder {self.path} is not empty; give --resume to go on with its grid, or name another."
                )
            if present and "grid.json" not in present and strange:
                raise GridError(f"The folder {self.path} holds no grid but {', '.join(strange[:3])}; name another.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise GridError(f"Another grid is at work in {self.path}; wait for it or name another folder.") from error
        except OSError as error:
            raise GridError(f"Cannot use the folder {self.path}: {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()

    def start(self, grid: Grid, *, retry_failed: bool) -> tuple[list[Cell], list[str]]:
        """Bring the folder up to date with a grid.

        Finished cells keep their runs, failed ones their rows unless `retry_failed` or a change of their
        configuration says otherwise. Runs of cells that are no longer in the grid stay, and a note counts them.

        Parameters
        ----------
        grid : Grid
            To be run here.
        retry_failed : bool
            Whether failed cells are to run again.

        Returns
        -------
        list of Cell, list of str
            The cells to run, and notes.

        Raises
        ------
        GridError
            If the grid's dimensions changed, or the configuration of a cell that is finished.
        """
        self._check_dimensions(grid)
        for left in [*self.path.glob(".*.results.csv"), *self.path.glob(".*.grid.json")]:
            left.unlink()
        for name in ("runs", "unfinished"):
            (self.path / name).mkdir(exist_ok=True)
        cells = {cell.name: cell for cell in grid.cells}
        runs = sorted(folder.name for folder in (self.path / "runs").iterdir() if not folder.name.startswith("."))
        for left in (self.path / "unfinished").iterdir():
            if left.name in runs or not (left / CELL_FILE).is_file():
                shutil.rmtree(left, ignore_errors=True)
        self._refuse_changed([cells[name] for name in cells if name in runs])

        before = {row["cell"]: row for row in self.read()}
        fingerprints = {name: row["fingerprint"] for name, row in before.items()}
        fingerprints |= {name: cell.fingerprint for name, cell in cells.items()}
        for name in dict.fromkeys([*before, *cells, *runs]):
            if name in runs:
                self.rows[name] = self.finished(name, fingerprints.get(name, ""))
            elif name in before and before[name]["status"] == FAILED:
                again = name in cells and retry_failed
                if not again and before[name]["fingerprint"] == fingerprints[name]:
                    self.rows[name] = before[name]
        self.dimensions = grid.dimensions
        self._write_grid(grid)
        self._write_table()
        gone = len(set(self.rows) - set(cells))
        notes = [f"{gone} results of {self.path} are not in this grid; they stay in results.csv."] if gone else []
        return [cell for cell in grid.cells if cell.name not in self.rows], notes

    def finished(self, name: str, fingerprint: str) -> dict[str, str]:
        """Return the row of a finished run. Raises RunFolderError if its folder is damaged."""
        return finished_row(RunFolder.open(self.run_path(name)), fingerprint)

    def publish(self, cell: Cell, unfinished: Path) -> dict[str, str]:
        """Put the finished run of a cell's folder in its place and its row into the table; returns the row."""
        put_in_place(unfinished / RUN, self.run_path(cell.name))
        shutil.rmtree(unfinished, ignore_errors=True)
        row = self.finished(cell.name, cell.fingerprint)
        self.add(row)
        return row

    def add(self, row: Row) -> None:
        """Add a row to the table at once and for good."""
        self.rows[row["cell"]] = row
        self._write_table()

    def read(self) -> list[dict[str, str]]:
        """Return the rows of the table, none if there is none; raise GridError if it is no text."""
        try:
            with self.table.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise GridError(f"{undecodable(self.table, 'utf-8')} Save it as UTF-8.") from error

    def grid(self) -> dict[str, Any]:
        """Return the content of grid.json. Raises GridError if this is not the folder of a grid."""
        if not (self.path / "grid.json").is_file():
            raise GridError(f"{self.path} is not the folder of a grid: it has no grid.json.")
        found: dict[str, Any] = RunFolder(self.path, verify=False).read_json("grid.json")
        if found.get("format") != FORMAT:
            raise GridError(f"{self.path} has the grid format {found.get('format')!r}; this version reads {FORMAT}.")
        return found

    def _check_dimensions(self, grid: Grid) -> None:
        if (self.path / "grid.json").is_file():
            before = self.grid()["dimensions"]
            if list(before) != list(grid.dimensions):
                raise GridError(
                    f"The grid in {self.path} has the dimensions {', '.join(before)}, this one "
                    f"{', '.join(grid.dimensions)}: their cells cannot be told apart in one table. Name another folder."
                )

    def _refuse_changed(self, cells: Sequence[Cell]) -> None:
        stored = [RunFolder.open(self.run_path(cell.name)).read_json(CELL_FILE)["identity"] for cell in cells]
        both = [(cell, differences(old, cell.identity)) for cell, old in zip(cells, stored, strict=True)]
        changed = [(cell, found) for cell, found in both if found]
        if changed:
            cell, found = changed[0]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise GridError(
                f"The configuration of finished cells changed: {cell}{more}: {'; '.join(found)}. "
                f"Name another folder, or remove their folders in {self.path / 'runs'} to have them run again."
            )

    def _write_grid(self, grid: Grid) -> None:
        content = {
            "format": FORMAT,
            "dimensions": list(grid.dimensions),
            "cells": {cell.name: dict(cell.dimensions) for cell in grid.cells},
            "source": dict(grid.source),
        }
        with whole_file(self.path / "grid.json") as aside:
            write_json(aside, content)

    def _write_table(self) -> None:
        """Write all rows: a table is never seen half written, and each run may have metrics of its own."""
        first, *fixed = FIXED_COLUMNS
        found = [key for row in self.rows.values() for key in row]
        columns = dict.fromkeys([first, *self.dimensions, *fixed, *found])
        with whole_file(self.table) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
            file.flush()
            os.fsync(file.fileno())
