"""The file of a grid: shared keys, lists to take the product of, cells to leave out, settings of some cells only."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cvr_plugins.assembly import HEAD_SUFFIX as PARAMS_SUFFIX
from cvr_plugins.assembly import OptionError, assemble
from cvr_plugins.config import Config, ConfigError, load_yaml, refuse_unknown, resolve
from cvr_plugins.grid._cells import (
    PARTS,
    WITHOUT_EFFECT,
    Cell,
    GridError,
    canonical,
    cell_name,
    described,
    identity_of,
    text_of,
)
from cvr_plugins.grid._rows import FIXED_COLUMNS
from cvr_plugins.metrics import parse_key
from cvr_plugins.nearest import either, unknown
from cvr_plugins.plugins import registry

SECTIONS = ("variants", "grid", "exclude", "overrides")

_MOST_CELLS = 100_000
VARIANT = "variant"
"""Dimension whose values are the names under `variants`."""


Chosen = Mapping[str, Any]
"""Dimension -> value of a cell."""


@dataclass(frozen=True)
class Grid:
    """The cells of a grid, each checked as far as that goes without data.

    Parameters
    ----------
    dimensions : tuple of str
        The names of the lists, in order.
    sizes : tuple of int
        The length of each.
    cells : tuple of Cell
        Their product without what is excluded.
    excluded : int
        How many combinations that left out.
    source : mapping
        The file's content.
    """

    dimensions: tuple[str, ...]
    sizes: tuple[int, ...]
    cells: tuple[Cell, ...]
    excluded: int
    source: Mapping[str, Any]


def plan(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Grid:
    """Read a grid and check every cell of it.

    Parameters
    ----------
    source : str, Path or mapping
        A YAML file or its content: the flat keys of a run, and

        - `grid`: dimension -> list of values; a dimension is any key of a run;
        - `variants`: name -> keys, such as `{SNIPS: {model: MultiIPW, self_normalized: true}}`: a first dimension
          `variant`, whose values are the names and stand for these keys, which win over shared ones;
        - `exclude`: list of partial cells to leave out, such as `{model: ESM2, architecture: [mmoe, ple]}`, where a
          list means any of its values;
        - `overrides`: list of `{when: partial cell, set: keys}`, settings of some cells only, later ones win.
    overrides : mapping or None
        Shared keys that replace the file's; of a dimension the value, or the list of values, that it takes in place of
        the file's.

    Returns
    -------
    Grid
        Its runs use one thread each unless `threads` says otherwise, so that results do not depend on how many run at
        once.

    Raises
    ------
    GridError, ConfigError, RegistryError
        For unknown keys and names, values that are not in the grid, two equal cells and an empty grid. Whether an
        architecture or the data suit a method only its run can say.
    """
    raw = dict(source) if isinstance(source, Mapping) else load_yaml(source)
    variants, found = _variants(raw.get("variants")), raw.get("grid")
    names = {*(found if isinstance(found, dict) else ()), *([VARIANT] if variants else ())}
    given = {name: value for name, value in (overrides or {}).items() if name in names}
    shared = {
        **{key: value for key, value in raw.items() if key not in SECTIONS},
        **{key: value for key, value in (overrides or {}).items() if key not in names},
    }
    _refuse_what_is_not_plain({**raw, **shared, **given})
    known = _dimensions(found, shared, variants)
    taken = {name: _values(value, known[name]) for name, value in given.items()}
    variants = {name: variants[name] for name in _known_variants(taken.pop(VARIANT, list(variants)), variants)}
    replaced = found and {**found, **taken}
    dimensions = _dimensions(replaced, shared, variants) if given else known
    # What is said of values that this grid leaves out is of no cell.
    known = {name: [*values, *taken.get(name, ())] for name, values in known.items()}
    if "checkpoint_dir" in shared:
        raise GridError("checkpoint_dir plays no role in a grid, whose runs go to its own folder; take it out.")
    exclude = [_partial(entry, known, "exclude") for entry in _entries(raw, "exclude")]
    settings = [_override(entry, known) for entry in _entries(raw, "overrides")]

    size = math.prod(map(len, dimensions.values()))
    if size > _MOST_CELLS:
        raise GridError(f"The grid has {size:,} combinations, and at most {_MOST_CELLS:,} can be run; make it smaller.")
    combinations = [dict(zip(dimensions, values, strict=True)) for values in product(*dimensions.values())]
    kept = [chosen for chosen in combinations if not any(matches(chosen) for matches in exclude)]
    if not kept:
        raise GridError("The grid has no cell left: exclude leaves out all of its combinations.")
    configs = []
    for chosen in kept:
        own = {name: value for name, value in chosen.items() if name != VARIANT}
        variant = variants[chosen[VARIANT]] if variants else {}
        later = [keys for matches, keys in settings if matches(chosen)]
        configs.append(_config(chosen, [{"threads": 1}, shared, own, variant, *later]))
    cells = _checked(kept, configs)
    _refuse_equal(cells)
    sizes = tuple(map(len, dimensions.values()))
    content = {**shared, **{name: raw[name] for name in SECTIONS if name in raw}}
    if given:
        content |= {"grid": {name: values for name, values in dimensions.items() if name != VARIANT}}
        content |= {"variants": variants} if variants else {}
    return Grid(tuple(dimensions), sizes, tuple(cells), len(combinations) - len(kept), content)


def _values(value: Any, known: Sequence[Any]) -> list[Any]:
    """Return the values that a dimension is to take; one that is a list may be meant itself."""
    one_value = not isinstance(value, list) or canonical(value) in map(canonical, known)
    return [value] if one_value else value


def _known_variants(names: Sequence[Any], variants: Mapping[str, Any]) -> list[str]:
    for name in names:
        if name not in variants:
            raise GridError(unknown(f"variant: this grid has no variant {name!r}.", str(name), variants))
    return list(dict.fromkeys(names))


def _refuse_what_is_not_plain(raw: Mapping[str, Any]) -> None:
    try:
        json.dumps(raw, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GridError(f"The grid holds a value that is no text, number, list or mapping of them: {error}.") from error


def _variants(found: Any) -> dict[str, dict[str, Any]]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not found:
        raise GridError(f"variants must be names with keys, such as {{NCF: {{model: Naive}}}}; got {found!r}.")
    for name, keys in found.items():
        if not isinstance(name, str) or not name.strip():
            raise GridError(f"variants: {name!r} cannot name a variant; use text, in quotes where YAML reads a number.")
        if not isinstance(keys, dict):
            raise GridError(f"variants: {name!r} must hold keys of a run, such as {{model: Naive}}; got {keys!r}.")
        _refuse_without_effect(f"variants: {name!r}", keys)
    return dict(found)


def _refuse_without_effect(who: str, keys: Mapping[str, Any]) -> None:
    for key in keys:
        if key in WITHOUT_EFFECT:
            raise GridError(f"{who} sets {key!r}, which makes no difference between cells; take it out.")


def _dimensions(
    found: Any, shared: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    if found is None and variants:
        found = {}
    elif not isinstance(found, dict) or not found:
        raise GridError(
            "A grid needs the key 'grid' with a list in it, such as grid: {model: [Naive, ESMM], seed: [1, 2, 3]}; "
            f"got {found!r}."
        )
    for name, values in found.items():
        if not isinstance(name, str) or name in SECTIONS or name in WITHOUT_EFFECT:
            raise GridError(f"{name!r} cannot be a dimension of a grid.")
        setting = [variant for variant, keys in variants.items() if name in keys]
        if setting:
            raise GridError(
                f"{name!r} is a dimension of the grid and a key of variant {setting[0]!r}; keep one of them."
            )
        if name == VARIANT:
            raise GridError(
                "'variant' cannot be a dimension of a grid by itself: put the variants' keys under 'variants'."
            )
        if name in FIXED_COLUMNS:
            raise GridError(f"{name!r} cannot be a dimension of a grid: the results table has a column of that name.")
        if not isinstance(values, list) or not values:
            raise GridError(f"Dimension {name!r} of the grid must be a list of values; got {values!r}.")
        if name in shared:
            raise GridError(f"{name!r} is a dimension of the grid and a key beside it; keep one of them.")
        texts = [canonical(value) for value in values]
        counts = Counter(texts)
        twice = [value for value, text in zip(values, texts, strict=True) if counts[text] > 1]
        if twice:
            raise GridError(f"Dimension {name!r} lists {twice[0]!r} more than once, which gives the same cell twice.")
    return {**({VARIANT: list(variants)} if variants else {}), **found}


def _entries(raw: Mapping[str, Any], section: str) -> list[Any]:
    entries = raw.get(section)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise GridError(f"{section} must be a list; got {entries!r}.")
    return entries


Matcher = Callable[[Chosen], bool]


def _partial(entry: Any, dimensions: Mapping[str, list[Any]], where: str) -> Matcher:
    """Return whether a cell is meant by `dimension: value` pairs, a list of values meaning any of them."""
    if not isinstance(entry, dict) or not entry:
        raise GridError(f"{where} names cells by dimension, such as {{model: ESMM, seed: [1, 2]}}; got {entry!r}.")
    wanted: dict[str, set[str]] = {}
    for name, value in entry.items():
        if name not in dimensions:
            raise GridError(unknown(f"{where}: {name!r} is no dimension of the grid.", name, dimensions))
        known = {canonical(each): text_of(each) for each in dimensions[name]}
        # A list-valued dimension such as dims: [[64], [32]] may name one of its values without a list around it.
        values = _values(value, dimensions[name])
        for each in values:
            if canonical(each) not in known:
                what = f"{where}: {name!r} takes no value {each!r} in this grid."
                raise GridError(unknown(what, text_of(each), known.values()))
        wanted[name] = set(map(canonical, values))
    return lambda chosen: all(canonical(chosen[name]) in values for name, values in wanted.items())


def _override(entry: Any, dimensions: Mapping[str, list[Any]]) -> tuple[Matcher, dict[str, Any]]:
    if not isinstance(entry, dict) or set(entry) != {"when", "set"} or not isinstance(entry["set"], dict):
        raise GridError(f"An entry of overrides is {{when: {{...}}, set: {{...}}}}; got {entry!r}.")
    for name in entry["set"]:
        if name in dimensions:
            raise GridError(f"overrides sets {name!r}, which is a dimension of the grid; exclude cells instead.")
    _refuse_without_effect("overrides", entry["set"])
    return _partial(entry["when"], dimensions, "overrides"), dict(entry["set"])


def _config(chosen: Chosen, layers: Sequence[Mapping[str, Any]]) -> Config:
    try:
        config = resolve(*layers)
        for name in config["metrics"] or ():
            registry().metric(name)
        parse_key(config["valid_metric"], find=registry().metric)
    except ValueError as error:
        raise GridError(f"Cell {described(chosen)}: {error}") from error
    return config


def _checked(kept: Sequence[Chosen], configs: Sequence[Config]) -> list[Cell]:
    """Refuse options that a cell's method, architecture, backbone and weighting do not have."""
    bare = [assemble(config["model"], **{part: config[part] for part in PARTS}) for config in configs]
    accepted = [{option for options in each.accepted.values() for option in options} for each in bare]
    anywhere = set().union(*accepted)
    cells = []
    for chosen, config, assembly, options in zip(kept, configs, bare, accepted, strict=True):
        params = {key for key in config.options if key.endswith(PARAMS_SUFFIX)}
        try:
            refuse_unknown(config, options | params, assembly.method.name)
            identity = identity_of(config)
        except (ConfigError, OptionError) as error:
            elsewhere = [key for key in config.options if key in anywhere - options]
            advice = f" Other cells take {either(elsewhere, 'and')}: give it to them by overrides." if elsewhere else ""
            raise GridError(f"Cell {described(chosen)}: {error}{advice}") from error
        cells.append(Cell(cell_name(chosen), chosen, config, identity))
    return cells


def _refuse_equal(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        same = seen.setdefault(canonical(cell.identity), cell)
        if same is not cell:
            raise GridError(f"The cells {same} and {cell} are the same run; take one of them out.")
