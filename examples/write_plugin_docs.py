"""Write what examples/plugin_template/{README,TESTING}.md show: outputs of their commands, files, the table of checks.

python examples/write_plugin_docs.py          rewrite them
python examples/write_plugin_docs.py --check  run everything and fail if a page would change in more than its numbers
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plugin_environment import PluginEnvironment, Workshop
from write_readme import shape

FOLDER = Path(__file__).resolve().parent / "plugin_template"
PAGES = ("README.md", "TESTING.md")
CONSOLE = r"```console\n(?P<commands>.*?)```"
FILE = r"<!-- file: (?P<path>\S+) -->\n(?:\n```(?!console)\w+\n.*?```\n)?"
CHECKS = r"(?P<begin><!-- checks: [^\n]*-->\n).*?(?P<end><!-- end -->)"
PIECE = re.compile(f"{CONSOLE}|{FILE}|{CHECKS}", re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
FAILS = re.compile(r"cvr-plugins check .*(edge_batches|broken)")
"""Commands that are shown failing."""


def output(command, folder, environment):
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode and not FAILS.search(command):
        raise SystemExit(f"A command of the plugin pages failed ({done.returncode}): {command}\n{done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")


def checks_table():
    from cvr_plugins.testing import method_checks

    rows = [f"| `{check.name}` | {check.description} | {check.cause} |" for check in method_checks()]
    return "\n".join(["| check | what passes | usual cause of a failure |", "| --- | --- | --- |", *rows])


def written(found, folder, environment):
    if found["commands"] is not None:
        lines = []
        for line in found["commands"].splitlines():
            if line.startswith("$ "):
                lines += [line, output(line[2:], folder, environment)]
        return "```console\n" + "\n".join(filter(None, lines)) + "\n```"
    if found["path"] is not None:
        path = folder / found["path"]
        text = path.read_text(encoding="utf-8")
        return f"<!-- file: {found['path']} -->\n\n```{LANGUAGES[path.suffix]}\n{text}```\n"
    return f"{found['begin']}\n{checks_table()}\n\n{found['end']}"


def rewritten(text, workshop):
    with tempfile.TemporaryDirectory() as temporary:
        environment = PluginEnvironment(Path(temporary) / "venv", workshop)
        folder = Path(temporary) / "here"
        shutil.copytree(FOLDER, folder / "plugin_template", ignore=shutil.ignore_patterns("__pycache__"))
        page = PIECE.sub(lambda found: written(found, folder, environment), text)
        return page.replace(os.fspath(folder), "...")


def changes(name, workshop):
    """Run what a page shows; return how it would change in more than its numbers, as a diff."""
    before = (FOLDER / name).read_text(encoding="utf-8")
    # Which epoch was better, which mean is in bold and the sign of a small difference depend on the machine.
    texts = (before, rewritten(re.sub(r"\bepochs=\d+", "epochs=2", before), workshop))
    old, new = (list(dict.fromkeys(re.sub(r"\*|[+-](?=0)", "", shape(text)).splitlines())) for text in texts)
    return "\n".join(difflib.unified_diff(old, new, name, "today", lineterm=""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("pages", nargs="*", default=PAGES, help=f"of {', '.join(PAGES)}; all of them if none is named")
    arguments = parser.parse_args()
    workshop = Workshop()
    try:
        if arguments.check:
            found = "".join(changes(name, workshop) for name in arguments.pages)
            print(found, end="\n" * bool(found))
            return int(bool(found))
        for name in arguments.pages:
            page = FOLDER / name
            page.write_text(rewritten(page.read_text(encoding="utf-8"), workshop), encoding="utf-8")
        return 0
    finally:
        workshop.close()


if __name__ == "__main__":
    sys.exit(main())
