"""Tables as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from cvr_plugins.grid.reports._tables import Table

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "→": r"$\to$",
    }
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#])")


def to_markdown(table: Table) -> str:
    """Return GitHub-flavoured Markdown; a block's names stand in its first row only."""
    text, _ = _names_as_columns(table, _marked(table, _md, "**{}**"))
    names = table.text.index.nlevels
    rule = ["---"] * names + ["---:"] * (text.shape[1] - names)
    rows = [f"| {' | '.join(fields)} |" for fields in (text.columns, rule, *text.to_numpy())]
    return "\n".join([f"**{_md(table.title)}**", "", *rows, "", *(f"- {_md(note)}" for note in table.notes), ""])


def to_latex(table: Table) -> str:
    """Return a LaTeX table for the package booktabs, all text escaped."""
    text, begins = _names_as_columns(table, _marked(table, _latex, r"\textbf{{{}}}"))
    names = table.text.index.nlevels
    text.iloc[begins, 0] = "\\midrule\n" + text.iloc[begins, 0]
    made: str = text.style.hide(axis="index").to_latex(
        hrules=True,
        position_float="centering",
        caption=f"{_latex(table.title)}. {_latex(' '.join(table.notes))}",
        column_format="l" * names + "r" * (text.shape[1] - names),
    )
    return made


def to_html(table: Table) -> str:
    """Return an HTML table, all text escaped."""
    text = _marked(table, html.escape, "<strong>{}</strong>")
    notes = "\n".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return f"<h2>{html.escape(table.title)}</h2>\n{text.to_html(escape=False, border=0)}\n<ul>\n{notes}\n</ul>"


def _marked(table: Table, escape: Callable[[str], str], bold: str) -> pd.DataFrame:
    """Return a table's text, names and heads with everything escaped, the best fields in bold."""
    text = table.text.apply(lambda column: column.map(escape))
    if table.best is not None:
        text = text.mask(table.best, text.apply(lambda column: column.map(bold.format)))
    names = [escape(name) for name in text.index.names]
    return text.rename(index=escape, columns=escape).rename_axis(index=names)


def _names_as_columns(table: Table, text: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the text with the rows' names as columns, each once in its block, and which rows begin a further block."""
    names = text.index.to_frame(index=False)
    same = names.eq(names.shift()).to_numpy()
    begins = ~same[:, : table.groups].all(axis=1)
    repeated = np.logical_and.accumulate(same, axis=1) & ~begins[:, None]
    begins[:1] = False
    return pd.concat([names.mask(repeated, ""), text.reset_index(drop=True)], axis=1), begins


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)
