"""How far the code walks: from the command line to the first batch, and from a method's name to its class.

python examples/benchmarks/walk.py [--only WORD] [--into README.md]

Counted are the calls of the package's own Python functions (comprehensions included), the files that they enter and how
often one call is made in another file than the call before it. Of data: how often a table file is opened, a header
alone or all of it, and how many schemas are made. All modules are loaded, by the same command (and for names by another
method's name) before. A command is stopped when it hands over its first batch of training. `log.csv` is read anew;
`ml-100k-funnel` is simulated anew, its atomic files for RecBole lie in the cache. With --into the table replaces what
stands between the lines `<!-- walk: ... -->` and `<!-- end -->` of a file.
"""

import argparse
import contextlib
import datetime
import importlib
import io
import os
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.csv
import pyarrow.parquet
from readme_table import replaced

import cvr_plugins

PACKAGE = str(Path(cvr_plugins.__file__).parent) + os.sep
FIRST_BATCH = "train_batch"
COMMANDS = {
    "`run -m ESMM -d log.csv`": ("-d", "log.csv"),
    "`run -m ESMM -d ml-100k-funnel`": ("-d", "ml-100k-funnel"),
    "`run -m ESMM -d ml-100k-funnel --framework recbole`": ("-d", "ml-100k-funnel", "--framework", "recbole"),
}
NAMES = {f"`cvr_plugins.{side}.ESMM`": f"cvr_plugins.{side}" for side in ("rechub", "recbole")}


class FirstBatch(BaseException):
    """The walk has arrived."""


class Walk:
    """The calls of the package's functions while something is done, by file, and what is opened and made of data."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.arrived = False
        self.files: list[str] = []
        self.counts: Counter[str] = Counter()
        with self._counted(pyarrow.csv, "open_csv"), self._counted(pyarrow.parquet, "read_schema"):
            sys.setprofile(self._see)
            # A command says of whatever ends it that it failed.
            with contextlib.suppress(FirstBatch):
                do()
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        self.files.append(code.co_filename)
        if code.co_name == "__post_init__" and type(frame.f_locals["self"]).__name__ == "Schema":
            self.counts["schemas"] += 1
        if code.co_name == FIRST_BATCH:
            sys.setprofile(None)
            self.arrived = True
            raise FirstBatch

    @contextlib.contextmanager
    def _counted(self, module: Any, name: str) -> Iterator[None]:
        original = getattr(module, name)

        def counting(*args: Any, **options: Any) -> Any:
            self.counts["opened"] += 1
            return original(*args, **options)

        setattr(module, name, counting)
        try:
            yield
        finally:
            setattr(module, name, original)

    def row(self, name: str) -> str:
        changes = sum(one != other for one, other in zip(self.files, self.files[1:], strict=False))
        counts = (len(set(self.files)), changes, len(self.files), self.counts["opened"], self.counts["schemas"])
        return f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |"


def to_first_batch(arguments: tuple[str, ...]) -> Walk:
    from cvr_plugins.cli._group import run

    def command() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            run(["run", "-m", "ESMM", *arguments])

    said = io.StringIO()
    for _ in range(2):
        walk = Walk(command)
        if not walk.arrived:
            raise SystemExit(f"cvr-plugins run {' '.join(arguments)} made no batch:\n{said.getvalue()}")
    return walk


def to_class(package: str) -> Walk:
    module = importlib.import_module(package)
    _ = module.NISE
    return Walk(lambda: module.ESMM)


def write_log(path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 11},{i % 5},{i % 2},{int(i % 6 == 1)}\n" for i in range(600))
    path.write_text("user_id,item_id,hour,click,conversion\n" + rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure only walks whose name holds this word")
    parser.add_argument("--into", type=Path, help="file to put the table into")
    given = parser.parse_args()
    home = Path.cwd()
    lines = [
        "| walk | files entered | changes of file | calls | tables opened | schemas made |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    walks: dict[str, Callable[[], Walk]] = {name: partial(to_class, package) for name, package in NAMES.items()}
    walks |= {name: partial(to_first_batch, arguments) for name, arguments in COMMANDS.items()}
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["XDG_CACHE_HOME"] = temporary
        write_log(Path("log.csv"))
        for name, measure in walks.items():
            if given.only in name:
                lines.append(measure().row(name))
                print(lines[-1], flush=True)
        os.chdir(home)
    command = shlex.join(["python", "examples/benchmarks/walk.py", *sys.argv[1:]])
    about = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, `{command}`."
    print(f"\n{about}")
    if given.into is not None:
        text = replaced(given.into.read_text(encoding="utf-8"), "\n".join([*lines, "", about, ""]), place="walk")
        given.into.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
