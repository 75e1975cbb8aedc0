"""Turn the folder of the ml-100k-funnel grid into the table of README.md.

    cvr-plugins grid -c ml-100k-funnel/grid --out results --jobs 4
    python examples/benchmarks/readme_table.py results [--into README.md]

The table holds the oracle-space figures that no real log can give, and the click-space AUC that one can. With --into it
replaces what stands between the lines `<!-- grid: ... -->` and `<!-- end -->` of the file.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from cvr_plugins.grid.reports import Layout, Results, summary_table, to_markdown

METRICS = (
    "cvr/oracle/auc",
    "cvr/oracle/log_loss",
    "cvr/oracle/calibration",
    "cvr/oracle/ece_quantile",
    "cvr/click/auc",
)


def table(folder: Path) -> str:
    """Return the Markdown table of a grid's folder with its notes, without a title."""
    results = Results.read(folder)
    text = to_markdown(summary_table(results, Layout.of(results), METRICS))
    return text.split("\n", 2)[2]


def replaced(text: str, made: str, *, place: str = "grid") -> str:
    """Return a text with what was made in its place; raise ClickException if it has none."""
    between = re.compile(rf"(<!-- {place}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not between.search(text):
        raise click.ClickException(f"The file has no lines '<!-- {place}: ... -->' and '<!-- end -->' for the table.")
    return between.sub(lambda found: f"{found[1]}\n{made}\n{found[2]}", text, count=1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--into", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File to put the table into."
)
def main(folder: Path, into: Path | None) -> None:
    """Print the table of the grid in FOLDER, or put it into a file."""
    made = table(folder)
    if into is None:
        click.echo(made)
    else:
        into.write_text(replaced(into.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
