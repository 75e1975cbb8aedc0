"""What is lost, wrong or executed when runs are killed, started at once, damaged, attacked, and the disk is full.

python examples/benchmarks/faults.py [--only KIND] [--kills N] [--flips N] [--seed N] [--into README.md]

kills: a command is ended by SIGKILL at a random moment and repeated (`run --resume NAME` where NAME.unfinished has
what it begins with, `grid --resume`, any other one as it was). full: it meets a full disk at a random moment (a tmpfs
of its own where this machine lets one be mounted, else RLIMIT_FSIZE), and is repeated when there is space. starts: runs
that begin at the same instant, without --out and with the same one. flips: single bits of each file of a run folder,
and of the checkpoints of a run that was cut off: all that `load_checkpoint` gives is compared with what was written.
hostile: files that would like to be executed. Each command runs in a fork of this process, which has imported all that
it needs, on a file system in memory if there is one; what comes of it is compared with what an undisturbed one wrote,
weights to the bit.

lost: cannot be taken up or repeated, or less than all of it stands under its name; silently wrong: ends well and
differs; untold: ends badly without one sentence that has the path and the reason; executed: anything that a file says.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import errno
import fcntl
import hashlib
import importlib
import importlib.util
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

os.environ["OMP_NUM_THREADS"] = "1"

RECBOLE = bool(importlib.util.find_spec("recbole"))
IMPORTED = (
    "torch._dynamo",
    "sklearn.linear_model",
    "cvr_plugins.cli.export",
    "cvr_plugins.grid.reports",
    "cvr_plugins.rechub.scoring",
    "cvr_plugins.objectives",
    "cvr_plugins.architectures",
    *(["cvr_plugins.recbole.running.runner", "cvr_plugins.recbole.context"] if RECBOLE else []),
)
"""What a command imports that takes long."""

LONGEST = 300
"""Seconds after which a command hangs."""


@dataclass
class Row:
    """A line of the table."""

    fault: str
    of: str
    tried: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("lost", "wrong", "untold", "executed"), 0))

    def add(self, found: str | None, told: str = "") -> None:
        self.tried += 1
        if found is not None:
            self.counts[found] += 1
            print(f"{self.fault}, {self.of}: {found.upper()}: {told}", flush=True)

    def __str__(self) -> str:
        return f"| {self.fault} | {self.of} | {self.tried} | " + " | ".join(map(str, self.counts.values())) + " |"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, minus the signal's number if that ended it, and what it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The one line of its error, the last; "" if there is a traceback or another error."""
        lines = self.err.splitlines()
        one = sum(line.startswith("Error: ") for line in lines) == 1 and "Traceback" not in self.out + self.err
        return lines[-1] if one and lines[-1].startswith("Error: ") else ""


class Command:
    """A command line at work in a fork of this process.

    arguments: after `cvr-plugins`; folder: where it works; before: called in the fork first; gate: a pipe it waits at.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        before: Callable[[], None] = lambda: None,
        gate: tuple[int, int] | None = None,
    ) -> None:
        pipes = [os.pipe() for _ in range(2)]
        self._read = [read for read, _ in pipes]
        sys.stdout.flush()
        self._start = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                self._work(arguments, folder, before, gate, [write for _, write in pipes])
            os._exit(70)
        for read, write in pipes:
            os.close(write)
            os.set_blocking(read, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 2**20)

    @staticmethod
    def _work(arguments, folder, before, gate, writes) -> None:
        os.chdir(folder)
        for number, write in enumerate(writes, 1):
            os.dup2(write, number)
        for number, name in ((1, "stdout"), (2, "stderr")):
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", write_through=True))
        # Cells of a grid are forks, too: none imports torch anew, and no pipe of theirs stays open elsewhere for long.
        context = multiprocessing.get_context
        multiprocessing.get_context = lambda *_: context("fork")
        importlib.import_module("cvr_plugins.grid._pool")._PATIENCE = 0.2
        before()
        if gate is not None:
            os.close(gate[1])
            os.read(gate[0], 1)
        code = importlib.import_module("cvr_plugins.cli._group").run(list(arguments))
        os._exit(code)

    def end(self, kill_after: float | None = None) -> Ended:
        """Wait for its end; kill it after so many seconds."""
        deadline = self._start + (LONGEST if kill_after is None else kill_after)
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() >= deadline:
                os.kill(self.pid, signal.SIGKILL)
                found = os.waitpid(self.pid, 0)
                break
            time.sleep(0.001)
        seconds = time.monotonic() - self._start
        said = []
        for read in self._read:
            parts = []
            with contextlib.suppress(BlockingIOError):
                while part := os.read(read, 2**16):
                    parts.append(part)
            os.close(read)
            said.append(b"".join(parts).decode("utf-8", "replace"))
        return Ended(os.waitstatus_to_exitcode(found[1]), said[0], said[1], seconds)


@dataclass(frozen=True)
class Job:
    """A command that makes something: its arguments, the path of that, and what else it takes to go on."""

    of: str
    arguments: tuple[str, ...]
    made: str
    resumed: tuple[str, ...] = ()

    def again(self, folder: Path) -> Ended:
        """Repeat it in the folder where it was cut off."""
        arguments = (*self.arguments, *self.resumed)
        if self.arguments[0] == "run" and (folder / f"{self.made}.unfinished" / "config.yaml").exists():
            arguments = ("run", "--resume", self.made)
        until = time.monotonic() + 10
        while True:
            ended = Command(arguments, folder).end()
            # What the killed process has forked may live a moment longer.
            if "at work in" not in ended.err or time.monotonic() > until:
                return ended
            time.sleep(0.05)


QUICK = ("epochs=3", "embedding_size=4", "train_batch_size=64", "checkpoint_minutes=0.0001", "show_progress=false")
CVR = (*QUICK, "dims=[4]", "metrics=[auc,log_loss]")


def jobs() -> dict[str, Job]:
    """Return what is disturbed, by name; all of it reads what `Bench` makes in `inputs`."""
    on = ("-d", "../inputs/log.csv")
    found = [Job("`run`, torch-rechub", ("run", "-m", "ESMM", *on, "--out", "run", *CVR), "run")]
    if RECBOLE:
        side = ("-d", "../inputs/atomic/log", "--framework", "recbole", "--out", "run")
        found.append(Job("`run`, RecBole, CVR", ("run", "-m", "ESMM", *side, *CVR), "run"))
        found.append(Job("`run`, RecBole, BPR", ("run", "-m", "BPR", *side, *QUICK), "run"))
    grid = ("grid", "-c", "../inputs/grid.yaml", "--out", "results")
    found.append(Job("`grid`", grid, "results", ("--resume", "--retry-failed")))
    found.append(Job("`predict`", ("predict", "../inputs/run", "../inputs/long.csv", "scores.csv"), "scores.csv"))
    found.append(Job("`export`", ("export", "../inputs/long.csv", "copy.parquet"), "copy.parquet"))
    found.append(Job("`export`, atomic", ("export", "../inputs/long.csv", "atomic"), "atomic"))
    found.append(Job("`report`", ("report", "../inputs/results", "--out", "tables", "-f", "md", "-f", "tex"), "tables"))
    return {job.of: job for job in found}


def contents(path: Path) -> dict[str, object]:
    """Return what must be the same, to the bit, of what a command made: name -> what the file holds."""
    left_out = {"manifest.json", "cell.json", "run.log", "grid.json"}
    files = [path] if path.is_file() else []
    for folder, inside, names in os.walk(path):
        # Where the workers of a killed grid may be at work a moment longer.
        inside[:] = [name for name in inside if name != "unfinished"]
        files += [Path(folder, name) for name in names if name not in left_out and name[0] != "."]
    return {str(file.relative_to(path)): _held(file) for file in files}


def _held(file: Path) -> object:
    if file.suffix in (".pt", ".pth"):
        from cvr_plugins.training.checkpoint import load_checkpoint

        weights = load_checkpoint(file)["state_dict"]
        return {name: hashlib.sha256(each.numpy().tobytes()).hexdigest() for name, each in weights.items()}
    if file.name == "results.csv":
        with file.open(newline="") as opened:
            rows = [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(opened)]
        return sorted(rows, key=lambda row: row["cell"])
    return file.read_bytes()


def log_rows(rows: int) -> str:
    drawn = random.Random(0)
    lines = ["user_id,item_id,hour,click,conversion"]
    for _ in range(rows):
        user, item = drawn.randrange(40), drawn.randrange(30)
        click = int(drawn.random() < 0.3 + 0.3 * (user % 2))
        lines.append(
            f"{user},{item},{drawn.randrange(24)},{click},{int(click and drawn.random() < 0.3 + item % 2 / 2)}"
        )
    return "\n".join(lines) + "\n"


class Bench:
    """The data, what undisturbed commands make of them, and how many seconds each takes."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.draw, self._count = place, random.Random(seed), 0
        inputs = place / "inputs"
        inputs.mkdir()
        (inputs / "log.csv").write_text(log_rows(400))
        (inputs / "long.csv").write_text(log_rows(4000))
        keys = {key: value for key, _, value in (pair.partition("=") for pair in CVR)}
        keys |= {"dataset": "../inputs/log.csv", "epochs": 2, "grid": "{model: [Naive, ESMM], seed: [1, 2]}"}
        (inputs / "grid.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
        self._whole: dict[str, tuple[dict[str, object], float]] = {}
        self.jobs = jobs()
        self._done(("export", "log.csv", "atomic"), inputs)
        for name in ("`run`, torch-rechub", "`grid`"):
            self.whole(name)

    def whole(self, name: str) -> tuple[dict[str, object], float]:
        """Return what an undisturbed command makes, and in how many seconds."""
        if name not in self._whole:
            job, folder = self.jobs[name], self.folder()
            seconds = self._done(job.arguments, folder).seconds
            self._whole[name] = contents(folder / job.made), seconds
            if not (self.place / "inputs" / job.made).exists() and job.made in ("run", "results"):
                shutil.copytree(folder / job.made, self.place / "inputs" / job.made)
            print(f"{name}: {seconds:.2f} s undisturbed", flush=True)
        return self._whole[name]

    def folder(self) -> Path:
        """Make a new working folder beside the inputs."""
        self._count += 1
        path = self.place / str(self._count)
        path.mkdir()
        return path

    def _done(self, arguments: tuple[str, ...], folder: Path) -> Ended:
        ended = Command(arguments, folder).end()
        if ended.code:
            raise SystemExit(f"cvr-plugins {' '.join(arguments)} ended with {ended.code}:\n{ended.out}\n{ended.err}")
        return ended

    def repeated(self, row: Row, job: Job, folder: Path) -> None:
        """Repeat a command that was cut off in a folder, and count what comes of it."""
        whole, _ = self.whole(job.of)
        # The table of a grid grows by rows.
        halves = {} if not (folder / job.made).exists() else contents(folder / job.made)
        half = next((n for n, value in halves.items() if n != "results.csv" and value != whole.get(n, value)), None)
        if half is not None:
            row.add("lost", f"{half} stands half written in {folder}")
            return
        # What was killed with all its work done is not repeated: a folder that stands is not written over.
        ended = None if halves == whole else job.again(folder)
        if ended is not None and ended.code:
            row.add("lost", f"{folder}: {ended.code} {ended.err.strip()[-2000:]}")
            return
        now = contents(folder / job.made)
        differ = sorted(name for name in {*whole, *now} if whole.get(name) != now.get(name))
        row.add("wrong" if differ else None, f"{folder}: {', '.join(differ)}")
        if not differ:
            shutil.rmtree(folder, ignore_errors=True)


def kills(bench: Bench, number: int) -> list[Row]:
    """End commands by SIGKILL at random moments."""
    rows = [Row("kill -9", name) for name in bench.jobs]
    for i in range(number):
        row = rows[i % len(rows)]
        job, (_, within) = bench.jobs[row.of], bench.whole(row.of)
        while True:
            folder = bench.folder()
            ended = Command(job.arguments, folder).end(bench.draw.uniform(0, within))
            if ended.code == -signal.SIGKILL:
                break
            within *= 0.9
        bench.repeated(row, job, folder)
        if (i + 1) % 20 == 0:
            print(f"{i + 1} kills", flush=True)
    return rows


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[bool]:
    """Mount a file system of 16 MB at a folder, where this machine lets one be mounted."""
    done = False
    if os.geteuid() == 0 and shutil.which("mount"):
        command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(place)], check=True)


def full(bench: Bench, number: int) -> list[Row]:
    """Let commands meet a full disk at random moments."""
    rows = []
    for i in range(number):
        job = list(bench.jobs.values())[i % len(bench.jobs)]
        folder = bench.folder()
        with mounted(folder) as real:
            fault = "full file system" if real else "RLIMIT_FSIZE"
            if i < len(bench.jobs):
                rows.append(Row(fault, job.of))
            _full(bench, rows[i % len(bench.jobs)], job, folder, real)
    return rows


def _full(bench: Bench, row: Row, job: Job, folder: Path, real: bool) -> None:
    whole, _ = bench.whole(job.of)
    space = 2 * sum(len(value) if isinstance(value, bytes) else 20_000 for value in whole.values())
    filler = folder / ".filler"
    while True:
        space = int(space * bench.draw.random())
        if real:
            state = os.statvfs(folder)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - space))
            ended = Command(job.arguments, folder).end()
            filler.unlink()
        else:
            limit = (space // 2, space // 2)
            ended = Command(job.arguments, folder, partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit)).end()
        if ended.code:
            break
        if contents(folder / job.made) != whole:
            return row.add("wrong", f"{folder}, {space} bytes: it ended well")
        # There was space enough.
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    reasons = [os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG)]
    told = job.made in ended.sentence and any(reason in ended.sentence for reason in reasons)
    # A cell that fails is a row of its grid's table.
    if told or (job.arguments[0] == "grid" and "FAILED" in ended.out):
        return bench.repeated(row, job, folder)
    return row.add("untold", f"{folder}, {space} bytes: {ended.code} {ended.err.strip()[-3000:]}")


def starts(bench: Bench, at_once: int, rounds: int) -> list[Row]:
    """Start runs at the same instant, without --out and with the same one."""
    rows = []
    for job in (job for job in bench.jobs.values() if job.arguments[0] == "run"):
        without = (each for each in job.arguments if each not in ("--out", "run"))
        for named, arguments in ((True, job.arguments), (False, ("run", *without, "checkpoint_dir=made"))):
            row = Row(f"{at_once} starts at once, {'the same' if named else 'no'} --out", job.of)
            rows.append(row)
            for _ in range(rounds):
                folder = bench.folder()
                gate = os.pipe()
                at_work = [Command(arguments, folder, gate=gate) for _ in range(at_once)]
                time.sleep(0.2)
                os.close(gate[0])
                os.close(gate[1])
                ended = [each.end() for each in at_work]
                _started(row, bench.whole(job.of)[0], ended, folder, named)
    return rows


def _started(row: Row, whole: dict[str, object], ended: list[Ended], folder: Path, named: bool) -> None:
    found = [folder / "run"] if named else sorted((folder / "made").iterdir())
    trained = [each for each in ended if not each.code]
    refused = [each for each in ended if each.code]
    for each in refused:
        early = "epoch" not in each.out and named
        row.add(None if early and each.sentence else "untold" if early else "lost", each.err.strip()[-2000:])
    if not trained or len(found) != len(trained):
        row.add("lost", f"{len(trained)} ended well, and {len(found)} folders are in {folder}")
    for run in found:
        now = contents(run)
        # Where it was made is all that may be another.
        same = all(now.get(name) == whole[name] for name in whole if name != "config.yaml")
        row.add(None if same and now.keys() == whole.keys() else "wrong", str(run))


def flips(bench: Bench, number: int) -> list[Row]:
    """Flip single bits of each file of run folders and of the checkpoints of runs cut off, and read it."""
    from cvr_plugins.training.working import left_of

    rows = []
    for job in (job for job in bench.jobs.values() if job.arguments[0] == "run"):
        bench._done(job.arguments, folder := bench.folder())
        # Of a finished run RecBole's side goes on, too.
        readers = [_finished, lambda file: left_of(file.parent)] if "RecBole" in job.of else [_finished]
        rows += [_flipped(bench, file, number, job.of, readers) for file in sorted((folder / "run").iterdir())]
        rows += [_flipped(bench, file, number, f"{job.of}, cut off", [_stored]) for file in _cut_off(bench, job)]
    return rows


def _finished(file: Path) -> None:
    from cvr_plugins.rechub import TrainedRun
    from cvr_plugins.training.run_folder import RunFolder

    if RunFolder.open(file.parent).about["framework"] == "torch-rechub":
        TrainedRun.load(file.parent)
    for each in file.parent.iterdir() if file.name == "manifest.json" else [file]:
        if each.name != "manifest.json":
            RunFolder.open(file.parent).file(each.name)


def _stored(checkpoint: Path) -> bytes:
    import torch

    from cvr_plugins.training.checkpoint import load_checkpoint

    torch.save(load_checkpoint(checkpoint), held := io.BytesIO())
    return held.getvalue()


def _cut_off(bench: Bench, job: Job) -> list[Path]:
    """Return the checkpoints of a run that was killed when it had all that there may be."""
    _, within = bench.whole(job.of)
    while True:
        folder = bench.folder()
        Command(job.arguments, folder).end(bench.draw.uniform(within / 2, 3 * within))
        found = sorted((folder / "run.unfinished").glob("[a-z]*.pt*"))
        if len(found) == (2 if "RecBole" in job.of else 1):
            return found


def _flipped(bench: Bench, file: Path, number: int, of: str, readers: list[Callable[[Path], object]]) -> Row:
    whole, row, unread = file.read_bytes(), Row("flip of a bit", f"`{file.name}` of {of}"), 0
    before = [read(file) for read in readers]

    def of_one(at: int, read: Callable[[Path], object], held: object) -> tuple[str | None, str]:
        try:
            now = read(file)
        except ValueError as error:
            # Of a hash it cannot be told whether it is damaged or the file that it is of.
            named = file.name in str(error) or (file.name == "manifest.json" and "damaged" in str(error))
            return None if named else "untold", f"bit {at}: {error}"
        same = isinstance(held, bytes) and now == held
        return "not read" if same else "wrong", f"bit {at} was believed"

    for _ in range(number):
        changed, at = bytearray(whole), bench.draw.randrange(8 * len(whole))
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        found = [of_one(at, read, held) for read, held in zip(readers, before, strict=True)]
        worst = max(found, key=lambda each: each[0] or "")
        unread += worst[0] == "not read"
        row.add(*((None, "") if worst[0] == "not read" else worst))
    file.write_bytes(whole)
    for read in readers:
        read(file)
    row.of += f", {unread} where nothing is read" * bool(unread)
    return row


def tests_of(file: str) -> ModuleType:
    """Return a module of the tests, whose tables of attacks are used here."""
    name = Path(file).stem
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[2] / "tests" / file)
    assert spec is not None
    assert spec.loader is not None
    # By its name it is found again by what is pickled there.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def corpus(bench: Bench, cases: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Yield what is attacked, a working folder with hostile files, and a command that reads them."""
    import pyarrow
    import pyarrow.parquet
    import torch

    general = tests_of("test_hostile.py")
    run, quick = bench.place / "inputs/run", ("-d", "../inputs/log.csv", "--out", "made", *CVR[:3], "epochs=1")
    for text, _ in general.YAML.values():
        for arguments in (("run", "-m", "ESMM"), ("grid",), ("run", "-m", "BPR", "--framework", "recbole")):
            (folder := bench.folder()).joinpath("keys.yaml").write_text(text)
            more = ("--out", "made") if arguments == ("grid",) else quick
            yield "configuration", folder, (*arguments, "-c", "keys.yaml", *more)
    for text in general.HOSTILE:
        for key in (
            "model",
            "dataset",
            "learner",
            "inputs",
            "device",
            "metrics",
            "eval_args",
            "scheduler",
            "weighting",
        ):
            yield "value of a key", bench.folder(), ("run", "-m", "ESMM", *quick, f"{key}={text}")
    for name, to in (("checkpoint.pt", "predict"), ("vocabulary.json", "predict"), ("training.pt", "resume")):
        folder = bench.folder()
        place = Path(shutil.copytree(run, folder / ("run.unfinished" if to == "resume" else "run")))
        torch.save({"format": 1, "config": {}, "state_dict": general.Evil()}, place / name)
        if to == "resume":
            (place / "run.json").unlink()
            yield "run folder", folder, ("run", "--resume", "run")
        else:
            importlib.import_module("cvr_plugins.training.manifest").seal(place)
            yield "run folder", folder, ("predict", "run", "../inputs/log.csv", "scores.csv")
    evil = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(general.Evil())}
    schema = pyarrow.schema([pyarrow.field("user_id", pyarrow.int64(), metadata=evil)])
    folder = bench.folder()
    pyarrow.parquet.write_table(pyarrow.table({"user_id": [1]}, schema=schema), folder / "evil.parquet")
    yield "log", folder, ("export", "evil.parquet", "copy.csv")
    rows = "".join(f"{i % 9},{i % 7},{general.HOSTILE[i % 16]!r},{i % 2},{int(i % 6 == 1)}\n" for i in range(300))
    (folder := bench.folder()).joinpath("log.csv").write_text("user_id,item_id,{0.x},click,conversion\n" + rows)
    yield "log", folder, ("run", "-m", "ESMM", "-d", "log.csv", *quick[2:])
    if RECBOLE:
        yield from _of_recbole(bench)
    if cases.is_file():
        made = bench.folder()
        subprocess.run([sys.executable, str(cases), str(made)], check=True, stdout=subprocess.DEVNULL)
        for file in sorted(made.iterdir()):
            if file.suffix == ".yaml":
                yield "cases", made, ("run", "-m", "ESMM", "-c", file.name, "--out", f"made-{file.stem}")
            yield "cases", made, ("export", file.name, f"copy-{file.stem}.parquet")


def _of_recbole(bench: Bench) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    rows = "".join(f"{i % 20}\t{i * 7 % 41}\t{1 + i % 5}\t{i}\n" for i in range(400))
    items = "".join(f"{i}\tc{i % 4}\n" for i in range(41))
    for model, keys, write, *_ in tests_of("recbole/compat/test_guards.py").ATTACKS.values():
        folder = bench.folder()
        (folder / "toy").mkdir()
        (folder / "toy/toy.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
        (folder / "toy/toy.item").write_text("item_id:token\tclass:token_seq\n" + items)
        if write is not None:
            os.chdir(folder)
            write(folder)
            os.chdir(bench.place)
        named = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "threshold": {"rating": 3}}
        (folder / "keys.yaml").write_text(
            json.dumps({**named, "dataset": "toy", "data_path": ".", "epochs": 1, **keys})
        )
        yield "RecBole's own models", folder, ("run", "-m", model, "-c", "keys.yaml", "--out", "made")
    for more in ("epochs=1", "benchmark_filename=[a,b,c]", "data_path=http://localhost/data"):
        yield "data set to be fetched", bench.folder(), ("run", "-m", "BPR", "-d", "anime", "--out", "made", more)


EXECUTING = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "urllib.Request",
    "webbrowser",
)


def _watched() -> None:
    """Leave the mark of an attack where anything is started or fetched."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

    def hook(event: str, told: tuple[object, ...]) -> None:
        if event.startswith(EXECUTING):
            Path("executed").touch()
            print(f"{event} {told}", file=sys.stderr)

    sys.addaudithook(hook)


def hostile(bench: Bench, cases: Path) -> list[Row]:
    """Give commands files that would like to be executed."""
    rows: dict[str, Row] = {}
    for of, folder, arguments in corpus(bench, cases):
        row = rows.setdefault(of, Row("hostile files", of))
        ended = Command(arguments, folder, _watched).end()
        told = f"{folder} {arguments}: {ended.code} {ended.err.strip()[-2000:]}"
        marks = [file for file in bench.place.rglob("*") if file.name in ("executed", "Y_was_here")]
        for mark in marks:
            mark.unlink()
        silent = ended.code and not ended.sentence
        row.add("executed" if marks else "lost" if ended.code < 0 else "untold" if silent else None, told)
    return list(rows.values())


KINDS = ("kills", "full", "starts", "flips", "hostile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=KINDS, help="this kind alone; repeatable")
    parser.add_argument("--kills", type=int, default=100, help="how many commands are killed")
    parser.add_argument("--full", type=int, default=24, help="how many meet a full disk")
    parser.add_argument("--starts", type=int, default=8, help="runs at once")
    parser.add_argument("--rounds", type=int, default=3, help="how often they start at once")
    parser.add_argument("--flips", type=int, default=200, help="bits of each file")
    parser.add_argument("--cases", type=Path, default=Path("../shared/cases/make_cases.py"), help="more hostile files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help="file to put the table into")
    given = parser.parse_args()
    made: dict[str, Callable[[Bench], list[Row]]] = {
        "kills": lambda bench: kills(bench, given.kills),
        "full": lambda bench: full(bench, given.full),
        "starts": lambda bench: starts(bench, given.starts, given.rounds),
        "hostile": lambda bench: hostile(bench, given.cases.resolve()),
        "flips": lambda bench: flips(bench, given.flips),
    }
    for name in IMPORTED:
        importlib.import_module(name)
    lines = [
        "| fault | of | tried | lost | silently wrong | untold | executed |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows: list[Row] = []
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as temporary:
        os.environ["XDG_CACHE_HOME"] = temporary
        bench = Bench(Path(temporary), given.seed)
        for kind, measure in made.items():
            if given.only is None or kind in given.only:
                start = time.monotonic()
                rows += (new := measure(bench))
                print(f"\n{kind}, {time.monotonic() - start:.0f} s", *lines, *new, "", sep="\n", flush=True)
    command = shlex.join(["python", "examples/benchmarks/faults.py", *sys.argv[1:]])
    about = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, `{command}`."
    print(about)
    if given.into is not None:
        from readme_table import replaced

        table = "\n".join([*lines, *map(str, rows), "", about, ""])
        given.into.write_text(replaced(given.into.read_text(encoding="utf-8"), table, place="faults"), encoding="utf-8")
    sys.exit(int(any(any(row.counts.values()) for row in rows)))


if __name__ == "__main__":
    main()
