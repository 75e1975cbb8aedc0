"""`cvr-plugins report`."""

from __future__ import annotations

from pathlib import Path

import click

from cvr_plugins.cli._output import remark, stands


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["md", "tex", "html", "all"]),
    default="md",
    show_default=True,
    help="Markdown, LaTeX (booktabs), HTML with plots, or all three.",
)
@click.option("--metric", "metrics", multiple=True, metavar="KEY", help="Such as cvr/oracle/auc; repeatable.")
@click.option("--baseline", help="Row that the others are compared with (default: the first).")
@click.option(
    "--compare",
    "compared",
    multiple=True,
    metavar="DIM",
    help="Dimension compared (default: variant, else model); repeatable.",
)
@click.option("--columns", multiple=True, metavar="DIM", help="Dimension put side by side; repeatable.")
@click.option("--over", multiple=True, metavar="DIM", help="Dimension averaged over (default: seed); repeatable.")
@click.option(
    "--choose",
    "chosen",
    multiple=True,
    metavar="DIM",
    help="Dimension of which each seed keeps the run that is best on its validation part; repeatable.",
)
@click.option("--digits", default=4, show_default=True, type=click.IntRange(0, 12), help="Decimals.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the files (default: DIR).")
def report(
    folder: Path,
    form: str,
    metrics: tuple[str, ...],
    baseline: str | None,
    compared: tuple[str, ...],
    columns: tuple[str, ...],
    over: tuple[str, ...],
    chosen: tuple[str, ...],
    digits: int,
    out: Path | None,
) -> None:
    """Write tables of the grid in DIR: means with spread over the seeds, and paired differences with tests.

    A row is a method; other dimensions that the grid varies make blocks of rows, or columns with --columns. Markdown is
    printed, too.

    \b
    cvr-plugins report results --metric cvr/oracle/auc --baseline ESMM
    cvr-plugins report results --choose weight_decay --choose learning_rate
    cvr-plugins report results --format all
    """
    from cvr_plugins.grid.reports import FORMATS, Request, write_report

    request = Request(metrics, baseline, compared, columns, over or None, digits, chosen)
    files = write_report(folder, request, FORMATS if form == "all" else (form,), out)
    with stands(f"{', '.join(map(str, files))} is written."):
        for file in files:
            if file.suffix == ".md":
                click.echo(file.read_text(encoding="utf-8"))
    for file in files:
        remark(f"Wrote {file}")
