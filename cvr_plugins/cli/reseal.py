"""`cvr-plugins reseal`: a run folder that was changed on purpose is taken as it is."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Take a run folder that was changed on purpose as it is.")
@click.argument("folder", type=click.Path(path_type=Path))
def reseal(folder: Path) -> None:
    """Write the hashes of the files of FOLDER, a run folder, anew.

    Whoever reads the folder checks its files against them, so that a damaged one is refused; after an edit of your own
    this makes it readable again.
    """
    from cvr_plugins.training.manifest import seal
    from cvr_plugins.training.run_folder import RunFolder

    RunFolder.open(folder, verify=False)
    click.echo(f"{folder}: {seal(folder)} files")
