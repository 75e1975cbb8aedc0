"""Finding the files of published data sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cvr_plugins.data.errors import DataError, quoted


def find_files(
    path: str | Path | None, layouts: Iterable[tuple[str, ...]], *, name: str, within: Iterable[str] = ()
) -> list[Path]:
    """Return the files of the first layout that is complete in the folder, or in one of the folders `within` it.

    Raises
    ------
    DataError
        If no folder is given, or it holds no layout.
    """
    layouts = list(layouts)
    wanted = " or ".join(quoted(layout) for layout in layouts)
    if path is None:
        raise DataError(f"{name} cannot be shipped: set data_path to the folder that holds {wanted}.")
    folder = Path(path)
    for layout in layouts:
        for place in (folder, *(folder / inner for inner in within)):
            files = [place / file for file in layout]
            if all(file.is_file() for file in files):
                return files
    raise DataError(f"{str(path)!r} does not hold the files of {name}: {wanted}. Set data_path to their folder.")
