"""Reports of grids: tables of means and paired differences as Markdown, LaTeX and HTML, the last with plots."""

from cvr_plugins.grid.reports._layout import Layout
from cvr_plugins.grid.reports._results import Results, choose
from cvr_plugins.grid.reports._tables import summary_table
from cvr_plugins.grid.reports._text import to_markdown
from cvr_plugins.grid.reports._write import FORMATS, Request, render, write_report

__all__ = [
    "FORMATS",
    "Layout",
    "Request",
    "Results",
    "choose",
    "render",
    "summary_table",
    "to_markdown",
    "write_report",
]
