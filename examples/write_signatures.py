"""Write the signatures that plugins rely on to tests/plugins/signatures.txt, for changes to be seen and told.

python examples/write_signatures.py          rewrite the file
python examples/write_signatures.py --check  fail if a signature differs from the file

A changed signature is written only after an entry was added to "Changes" of examples/plugin_template/VERSIONING.md. The
script then writes a fingerprint of all signatures into that entry, so that editing the file alone is noticed, too.
"""

import argparse
import dataclasses
import difflib
import functools
import hashlib
import importlib
import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "plugins" / "signatures.txt"
PAGE = ROOT / "examples" / "plugin_template" / "VERSIONING.md"
MODULES = (
    "cvr_plugins",
    "cvr_plugins.hookspecs",
    "cvr_plugins.functional",
    "cvr_plugins.metrics",
    "cvr_plugins.data",
    "cvr_plugins.plugins",
    "cvr_plugins.testing",
)
COUNT = re.compile(r"^changes told: (\d+)$", re.MULTILINE)
CHANGES = "\n## Changes\n"
ENTRY = re.compile(r"^- (?P<version>[^\s:]+)(?: \(signatures (?P<fingerprint>\w+)\))?:", re.MULTILINE)


def public_names(module):
    """The names of `__all__`, or without one those that the module defines itself."""
    if hasattr(module, "__all__"):
        return sorted(set(module.__all__) - {"__version__"})
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return sorted(name for name in own if not name.startswith("_"))


def signature(value):
    """A signature as text; "" where there is none to be had, or where it is another library's."""
    made_by = value.__init__ if inspect.isclass(value) and "__init__" in dir(value) else value
    if not is_ours(made_by) and not (dataclasses.is_dataclass(value) or issubclass_of_tuple(value)):
        return ""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [_plain(parameter) for parameter in found.parameters.values()]
    return shown(found.replace(parameters=parameters))


def is_ours(value):
    """Whether our package defines it: what others define changes with their versions."""
    return str(getattr(value, "__module__", "")).startswith("cvr_plugins")


def issubclass_of_tuple(value):
    """Whether it is a class of named tuples, whose fields are their signature."""
    return inspect.isclass(value) and issubclass(value, tuple)


def shown(value):
    """Text of a signature or an annotation, the same on every version of Python."""
    return re.sub(r"ForwardRef\(([^()]*?)(, module=[^()]*)?\)", r"\1", str(value)).replace("'", "").replace('"', "")


def _plain(parameter):
    """A parameter whose default is shown the same in every process and on every version of Python."""
    default = parameter.default
    if default is parameter.empty or isinstance(default, (str, int, float, bool, type(None), tuple)):
        return parameter
    name = getattr(default, "__name__", type(default).__name__)
    return parameter.replace(default=_Shown("default" if name.startswith("_") else name))


class _Shown:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<{self.text}>"


def members(cls):
    """The public attributes of a class that our package defines, `name` and what it is."""
    found = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("cvr_plugins"):
            continue
        annotations = vars(base).get("__annotations__", {})
        for name in [*annotations, *vars(base)]:
            if name.startswith("_"):
                continue
            value = inspect.getattr_static(base, name, None)
            if isinstance(value, (property, functools.cached_property)):
                found[name] = ": property"
            elif isinstance(value, (classmethod, staticmethod)):
                found[name] = signature(value.__func__)
            elif inspect.isfunction(value):
                found[name] = signature(value)
            elif name in annotations:
                found[name] = f": {shown(annotations[name])}"
    return sorted(found.items())


def lines():
    """One line per signature."""
    for name in MODULES:
        module = importlib.import_module(name)
        for public in public_names(module):
            value = getattr(module, public)
            path = f"{name}.{public}"
            if inspect.isclass(value):
                frozen = " (frozen)" if dataclasses.is_dataclass(value) and value.__dataclass_params__.frozen else ""
                bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
                # An exception takes what any exception takes.
                own = "" if issubclass(value, BaseException) else signature(value)
                yield f"class {path}{own} of {bases or 'object'}{frozen}"
                yield from (f"    {member}{shown}" for member, shown in members(value))
            elif inspect.isfunction(value):
                yield f"{path}{signature(value)}"
            elif isinstance(value, (str, int, float)):
                yield f"{path} = {value!r}"
            elif callable(value):
                yield f"{path}: callable"
            else:
                yield f"{path}: {type(value).__name__}"


def changes(page):
    """The entries under "Changes" of the page, newest first; each a match of ENTRY."""
    return list(ENTRY.finditer(page, page.index(CHANGES)))


def fingerprint(found):
    """What tells one list of signatures from another."""
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]


def marked(page, found):
    """The page with the fingerprint of the signatures in its newest entry."""
    newest = changes(page)[0]
    entry = f"- {newest['version']} (signatures {fingerprint(found)}):"
    return page[: newest.start()] + entry + page[newest.end() :]


def stored(text):
    """The signatures in a file, and how many changes had been told when it was written."""
    count = COUNT.search(text)
    return text.splitlines()[2:], int(count[1]) if count else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    now, page = list(lines()), arguments.page.read_text(encoding="utf-8")
    told, last = len(changes(page)), changes(page)[0]["fingerprint"]
    before, told_before = stored(arguments.file.read_text(encoding="utf-8")) if arguments.file.exists() else ([], 0)
    if now == before and last == fingerprint(now):
        return 0
    difference = "\n".join(difflib.unified_diff(before, now, "signatures.txt", "today", lineterm="", n=0))
    if arguments.check:
        print(f"{difference}\nPublic signatures changed: add an entry to {arguments.page}, then run this script.")
        return 1
    if told <= told_before:
        print(f"{difference}\nPublic signatures changed: first add an entry under 'Changes' of {arguments.page}.")
        return 1
    text = "\n".join([f"changes told: {told}", "", *now, ""])
    arguments.file.write_text(text, encoding="utf-8")
    arguments.page.write_text(marked(page, now), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
