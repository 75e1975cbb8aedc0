"""Running a grid: cells to processes, their runs into the grid's folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

from cvr_plugins.files import check_apart, writing
from cvr_plugins.grid._cells import GridError
from cvr_plugins.grid._folder import GridFolder
from cvr_plugins.grid._pool import Reply, Task, answers
from cvr_plugins.grid._rows import Row, failed_row
from cvr_plugins.grid._spec import Grid
from cvr_plugins.options import MOST_THREADS, check_count


@dataclass(frozen=True)
class Outcome:
    """What `run_grid` did.

    Parameters
    ----------
    ran : int
        Cells that ran now.
    failed : int
        How many of them failed.
    before : int
        Cells that had a result before.
    """

    ran: int
    failed: int
    before: int


def _ignore(_: object) -> None:
    pass


def run_grid(
    grid: Grid,
    out: str | Path,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    jobs: int = 1,
    on_note: Callable[[str], None] = _ignore,
    on_start: Callable[[int], None] = _ignore,
    on_row: Callable[[Row], None] = _ignore,
) -> Outcome:
    """Run the cells of a grid that have no result yet, each in a process of its own.

    Parameters
    ----------
    grid : Grid
        Made by `plan`.
    out : str or Path
        Its folder.
    resume : bool
        Go on in a folder that holds a grid already.
    retry_failed : bool
        Run failed cells again.
    jobs : int
        Cells at a time; results do not depend on it.
    on_note, on_start, on_row : callable
        Told each remark of a run once, the number of cells to run, and each new row.

    Returns
    -------
    Outcome
        How many cells ran.

    Raises
    ------
    GridError
        If `out` cannot be used for this grid (see `GridFolder`), or no process can start.
    OutputError
        If `out` cannot be written to, the disk being full for example.
    TargetError
        If the table of results would be written over a data set.

    Notes
    -----
    The program may be killed at any moment: what `out` says is done is done, and the rest goes on when it is resumed.
    The processes are spawned, so a script that calls this needs `if __name__ == "__main__":`.
    """
    check_count("jobs", jobs, most=MOST_THREADS, error=GridError)
    folder = GridFolder(Path(out))
    check_apart(folder.table, {name for name in (cell.config["dataset"] for cell in grid.cells) if isfile(name)})
    with folder.locked(resume=resume):
        with writing(folder.path):
            cells, notes = folder.start(grid, retry_failed=retry_failed)
        for note in notes:
            on_note(note)
        on_start(len(cells))
        aside = folder.path / "unfinished"
        tasks = [Task(cell, aside / cell.name) for cell in cells]
        failed = 0
        told: set[str] = set()
        # Closing kills the processes, also when the program is interrupted.
        with closing(answers(tasks, jobs)) as replies:
            for task, reply in replies:
                for remark in reply.remarks:
                    if remark not in told:
                        told.add(remark)
                        on_note(remark)
                failed += reply.error is not None
                with writing(folder.path):
                    row = _settle(folder, task, reply)
                on_row(row)
    return Outcome(len(cells), failed, len(grid.cells) - len(cells))


def _settle(folder: GridFolder, task: Task, reply: Reply) -> Row:
    trace = folder.path / "errors" / f"{task.cell.name}.txt"
    if reply.error is None:
        trace.unlink(missing_ok=True)
        return folder.publish(task.cell, task.folder)
    kind, message, traceback = reply.error
    trace.parent.mkdir(exist_ok=True)
    trace.write_text(traceback, encoding="utf-8")
    row = failed_row(task.cell, kind, message, reply.seconds)
    folder.add(row)
    return row
