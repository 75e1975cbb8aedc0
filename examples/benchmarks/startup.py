"""What installed plugins cost commands that need none of them: start-up with none and with twenty.

python examples/benchmarks/startup.py [--rounds N] [--plugins N] [--only NAME ...] [--into README.md]

The plugins are made by `cvr-plugins new`, four of each kind unless another number is asked for, and installed by pip.
Times are medians of new processes, with none and with all in turns, in seconds of the processor on one thread: the time
that passes where nothing else runs, and hardly another where something does. "imported": how many of them the command
imports; to tell whose a method is, it must ask them all. With --into the table replaces what stands between the lines
`<!-- startup: ... -->` and `<!-- end -->` of a file.
"""

import argparse
import datetime
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from readme_table import replaced

from cvr_plugins.scaffold import KINDS, write_distribution

COMMANDS = (
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["keys"],
    ["configs"],
    ["show", "ESMM"],
    ["run", "-m", "Naive", "-d", "log.csv", "epochs=1"],
)
PROGRAM = "from cvr_plugins.cli import main\nmain()"
COUNTED = """
import sys
from cvr_plugins.cli._group import run
run(sys.argv[1:])
print(len({name.partition(".")[0] for name in sys.modules if name.startswith("acme_")}), file=sys.stderr)
"""
PIP = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation"]


def install(count: int, sources: Path, target: Path) -> None:
    kinds = list(KINDS)
    for i in range(count):
        write_distribution(f"acme-{i}", kind=kinds[i % len(kinds)], folder=sources / f"acme-{i}")
    trees = [str(each) for each in sources.iterdir()]
    subprocess.run([sys.executable, "-m", "pip", "install", *PIP, "--target", str(target), *trees], check=True)


def write_log(path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 11},{i % 2},{int(i % 6 == 1)}\n" for i in range(600))
    path.write_text("user_id,item_id,click,conversion\n" + rows)


def run(code: str, arguments: list[str], path: Path) -> tuple[float, str]:
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        cwd=path.parent,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"cvr-plugins {' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plugins", type=int, default=20)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands to time, by their first word")
    parser.add_argument("--into", type=Path, help="file to put the table into")
    given = parser.parse_args()
    lines = [
        f"| command | none | {given.plugins} plugins | difference | imported |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as temporary:
        none, all_ = Path(temporary) / "none", Path(temporary) / "all"
        none.mkdir()
        install(given.plugins, Path(temporary) / "sources", all_)
        write_log(Path(temporary) / "log.csv")
        for arguments in (each for each in COMMANDS if given.only is None or each[0] in given.only):
            imported = run(COUNTED, arguments, all_)[1].split()[-1]
            times: dict[Path, list[float]] = {none: [], all_: []}
            for turn in range(given.rounds):
                # In turns who goes first, too.
                for path in (none, all_) if turn % 2 else (all_, none):
                    times[path].append(run(PROGRAM, arguments, path)[0])
            before, after = (statistics.median(found) for found in times.values())
            name = " ".join(["cvr-plugins", *arguments])
            lines.append(f"| `{name}` | {before:.3f} s | {after:.3f} s | {after - before:+.3f} s | {imported} |")
            print(lines[-1], flush=True)
    command = shlex.join(["python", "examples/benchmarks/startup.py", *sys.argv[1:]])
    about = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, `{command}`, medians of {given.rounds} rounds."
    print(f"\n{about}")
    if given.into is not None:
        text = replaced(given.into.read_text(encoding="utf-8"), "\n".join([*lines, "", about, ""]), place="startup")
        given.into.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
