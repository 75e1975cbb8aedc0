"""Running a grid: cells to processes, their runs into the grid's folder."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cvr_plugins.grid._cells import Cell, GridError
from cvr_plugins.grid._folder import GridFolder
from cvr_plugins.grid._pool import Reply, Task, answers
from cvr_plugins.grid._rows import Row, failed_row
from cvr_plugins.grid._spec import Grid


@dataclass(frozen=True)
class Outcome:
    """What `run_grid` did: cells that ran now, how many of them failed, and cells that had a result before."""

    ran: int
    failed: int
    before: int


def run_grid(
    grid: Grid,
    out: str | Path,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    jobs: int = 1,
    on_note: Callable[[str], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> Outcome:
    """Run the cells of `grid` that have no result in the folder `out` yet, `jobs` at a time, each in its own process.

    resume: go on in a folder that holds a grid already; retry_failed: run failed cells again. Results do not depend on
    `jobs`. on_note: told each remark of a run once; on_start: the number of cells to run; on_row: each new row.
    The program may be killed at any moment: what `out` says is done is done, and the rest runs when it is resumed.
    The processes are spawned, so a script that calls this needs `if __name__ == "__main__":`.
    Raises GridError if `out` cannot be used for this grid (see GridFolder).
    """
    if jobs < 1:
        raise GridError(f"jobs must be at least 1; got {jobs}.")
    folder = GridFolder(Path(out))
    with folder.locked(resume=resume):
        cells, notes = folder.start(grid, retry_failed=retry_failed)
        tell = _once(on_note)
        for note in notes:
            tell(note)
        if on_start is not None:
            on_start(len(cells))
        named = {cell.name: cell for cell in cells}
        aside = folder.path / "unfinished"
        tasks = [Task(cell.name, cell.config, cell.about, aside / f"{cell.name}.{uuid.uuid4().hex}") for cell in cells]
        failed = 0
        # Closing kills the processes, also when the program is interrupted.
        with closing(answers(tasks, jobs)) as replies:
            for task, reply in replies:
                for remark in reply.remarks:
                    tell(remark)
                row = _settle(folder, named[task.name], task.folder, reply)
                failed += reply.error is not None
                if on_row is not None:
                    on_row(row)
    return Outcome(len(cells), failed, len(grid.cells) - len(cells))


def _settle(folder: GridFolder, cell: Cell, unfinished: Path, reply: Reply) -> Row:
    trace = folder.path / "errors" / f"{cell.name}.txt"
    if reply.error is None:
        trace.unlink(missing_ok=True)
        return folder.publish(cell, unfinished)
    kind, message, traceback = reply.error
    trace.parent.mkdir(exist_ok=True)
    trace.write_text(traceback, encoding="utf-8")
    row = failed_row(cell, kind, message, reply.seconds)
    folder.append(row)
    return row


def _once(tell: Callable[[str], None] | None) -> Callable[[str], None]:
    told: set[str] = set()

    def once(remark: str) -> None:
        if tell is not None and remark not in told:
            told.add(remark)
            tell(remark)

    return once
