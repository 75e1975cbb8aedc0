"""Grids: many runs from one file, their results in one table that survives a kill at any moment, and reports of it."""

from cvr_plugins.grid._cells import Cell, GridError
from cvr_plugins.grid._folder import GridFolder
from cvr_plugins.grid._run import Outcome, run_grid
from cvr_plugins.grid._spec import Grid, plan

__all__ = ["Cell", "Grid", "GridError", "GridFolder", "Outcome", "plan", "run_grid"]
