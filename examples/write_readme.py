"""Write what README.md shows: outputs of its console commands, the scripts, the table of methods.

python examples/write_readme.py          rewrite README.md
python examples/write_readme.py --check  run everything and fail if README.md would change in more than its numbers
"""

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from plugin_environment import PluginEnvironment, Workshop

ROOT = Path(__file__).resolve().parent.parent
CUT = "..."
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
SCRIPT = re.compile(r"(This is \[`(examples/\w+\.py)`\](?:(?!```).)*```python\n).*?```", re.DOTALL)
METHODS = re.compile(r"(<!-- methods: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)


def run(command: str, folder: Path, environment: PluginEnvironment) -> str:
    """Run a command line in `folder` with the environment's programs first; return what it prints."""
    variables = environment.variables
    done = subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"README command failed ({done.returncode}): {command}\n{done.stdout}{done.stderr}")
    return "\n".join(line.rstrip() for line in (done.stderr + done.stdout).splitlines())


def with_outputs(block: str, folder: Path, environment: PluginEnvironment) -> str:
    """Return a console block with what its commands print; where a line of dots stands, as much as stands before it."""
    lines = []
    for entry in re.split(r"^(?=\$ )", block, flags=re.MULTILINE)[1:]:
        command, *shown = entry.splitlines()
        printed = run(command[2:], folder, environment).splitlines()
        if CUT in shown:
            printed[shown.index(CUT) :] = [CUT]
        lines += [command, *printed]
    return "```console\n" + "\n".join(lines) + "\n```"


def methods_table() -> str:
    from cvr_plugins.plugins import registry

    ours = [entry for entry in registry().entries("method") if entry.plugin == "builtin"]
    rows = [
        f"| `{entry.name}` | {entry.value.summary} | {entry.value.reference} |"
        for entry in sorted(ours, key=lambda entry: entry.name.lower())
    ]
    return "\n".join(["| method | what it does | reference |", "| --- | --- | --- |", *rows, ""])


def rewritten(text: str, workshop: Workshop) -> str:
    text = SCRIPT.sub(lambda found: f"{found[1]}{(ROOT / found[2]).read_text(encoding='utf-8')}```", text)
    text = METHODS.sub(lambda found: f"{found[1]}\n{methods_table()}\n{found[2]}", text)
    with tempfile.TemporaryDirectory() as temporary:
        environment = PluginEnvironment(Path(temporary) / "venv", workshop)
        folder = Path(temporary) / "here"
        folder.mkdir()
        return CONSOLE.sub(lambda found: with_outputs(found[1], folder, environment), text)


def shape(text: str) -> str:
    """Return the text without what differs between machines: numbers, widths that follow, marks of the better epoch."""
    return re.sub(r"[━─═ ]+", " ", re.sub(r"\d[\d,.]*", "0", text.replace(" *\n", "\n")))


def changes(workshop: Workshop) -> str:
    """Run everything; return how README.md would change in more than its numbers, as a diff."""
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    # Training may take fewer or more epochs on another machine: lines of one shape count once.
    after = rewritten(re.sub(r"\bepochs=\d{2,}", "epochs=2", before), workshop)
    old, new = (list(dict.fromkeys(shape(text).splitlines())) for text in (before, after))
    return "\n".join(difflib.unified_diff(old, new, "README.md", "today", lineterm=""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    workshop = Workshop()
    try:
        if check:
            found = changes(workshop)
            print(found, end="\n" * bool(found))
            return int(bool(found))
        readme = ROOT / "README.md"
        readme.write_text(rewritten(readme.read_text(encoding="utf-8"), workshop), encoding="utf-8")
        return 0
    finally:
        workshop.close()


if __name__ == "__main__":
    sys.exit(main())
