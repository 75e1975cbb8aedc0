"""Write a new distribution from the templates, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from cvr_plugins.files import whole_folder
from cvr_plugins.nearest import unknown
from cvr_plugins.scaffold._names import Names, ScaffoldError

if TYPE_CHECKING:
    # Not at run time: the module moved between versions of Python.
    from importlib.abc import Traversable

SUFFIX = ".template"


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: what its distribution is described as, and the commands that use it."""

    description: str
    commands: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "method": Kind(
        "A conversion-rate method",
        ("cvr-plugins check $class_name", "cvr-plugins run -m $class_name -d ml-100k-funnel"),
    ),
    "architecture": Kind(
        "An architecture",
        ("cvr-plugins show ESMM --architecture $key", "cvr-plugins run -m ESMM -d ml-100k-funnel architecture=$key"),
    ),
    "backbone": Kind(
        "A backbone",
        ("cvr-plugins show ESMM --backbone $key", "cvr-plugins run -m ESMM -d ml-100k-funnel backbone=$key"),
    ),
    "recbole-model": Kind("A RecBole model", ("cvr-plugins run -m $class_name -d ml-100k",)),
    "dataset": Kind("A data set", ("cvr-plugins datasets", "cvr-plugins run -m ESMM -d $key")),
}
"""Every kind of distribution that can be written."""


@dataclass(frozen=True)
class Written:
    """A new distribution: where it is, its files relative to that, and the commands to go on with."""

    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]


def write_distribution(name: str, *, kind: str = "method", folder: str | Path | None = None) -> Written:
    """Write a distribution called `name` with a plugin of `kind` in it, which passes its own tests once installed.

    folder: to make, None for one called `name` here. Raises ScaffoldError for a name or kind that cannot be,
    TargetError if the folder exists or cannot be made, OutputError if writing fails; nothing is left behind then.
    """
    if kind not in KINDS:
        raise ScaffoldError(unknown(f"Unknown kind {kind!r}.", kind, KINDS))
    names = Names.of(name)
    target = Path(name if folder is None else folder)
    values = {**vars(names), "name": names.distribution, "description": KINDS[kind].description}
    commands = [Template(command).substitute(values) for command in KINDS[kind].commands]
    # In its README the reader stands inside the folder.
    values["commands"] = "\n".join(["pip install -e '.[test]'", "pytest", "cvr-plugins plugins", *commands])
    templates = resources.files(__package__) / "templates"
    files = []
    with whole_folder(target) as aside:
        for part in ("common", kind):
            for path, template in _templates(templates / part):
                relative = Path(*(names.package if step == "package" else step for step in path.parts))
                file = aside / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                text = Template(template.read_text(encoding="utf-8")).substitute(values)
                file.write_text(text, encoding="utf-8")
                files.append(relative.as_posix())
    where = f"./{target}" if not target.is_absolute() and target.parts[0] not in (".", "..") else str(target)
    first = (f"pip install -e '{where}[test]'", f"pytest '{where}'", "cvr-plugins plugins")
    return Written(target, tuple(sorted(files)), (*first, *commands))


def _templates(folder: Traversable, above: Path = Path()) -> Iterator[tuple[Path, Traversable]]:
    """Yield every template below `folder` with the path of what it becomes."""
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _templates(each, above / each.name)
        elif each.name.endswith(SUFFIX):
            yield above / each.name.removesuffix(SUFFIX), each
