"""`cvr-plugins new`: a distribution to start a plugin from."""

from __future__ import annotations

from pathlib import Path

import click

from cvr_plugins.scaffold import KINDS, write_distribution


@click.command(short_help="Write a new plugin to start from.")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), default="method", show_default=True, help="What it brings.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to make; NAME, here, if not given.")
def new(name: str, kind: str, out: Path | None) -> None:
    """Write a distribution called NAME with a working plugin in it and tests that pass.

    NAME, such as my-cvr-plugin, also gives the package (my_cvr_plugin), the class (MyCvrPlugin) and the plugin their
    names. Nothing that exists is overwritten.
    """
    written = write_distribution(name, kind=kind, folder=out)
    click.echo(f"Wrote {written.folder}: {', '.join(written.files)}\n\nNext:")
    for command in written.commands:
        click.echo(f"  {command}")
