"""Whole or not at all: a failed writing leaves neither the new thing nor a trace, and the old thing as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cvr_plugins.files import OutputError, TargetError, check_apart, check_new, whole_file, whole_folder

unprivileged = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")


def test_a_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path):
    path = tmp_path / "deep" / "log.csv"
    for text in ("old", "new"):
        with whole_file(path) as aside:
            aside.write_text(text)
            assert path.read_text() == "old" if path.exists() else text == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_leaves_the_old_file_and_no_trace_or_folder(error: type[BaseException], tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_text("old")

    def write(opened, inside: str) -> None:
        with opened as aside:
            (aside / inside).write_text("half")
            raise error

    for opened, inside in ((whole_file(path), ""), (whole_folder(tmp_path / "run"), "half")):
        with pytest.raises(error):
            write(opened, inside)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_killed_process_leaves_nothing_under_the_name(tmp_path: Path):
    code = f"""
        import os, signal
        from pathlib import Path
        from cvr_plugins.files import whole_folder
        with whole_folder(Path({str(tmp_path)!r}) / "run") as aside:
            (aside / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    check_new(tmp_path / "run")


def test_a_folder_made_by_another_meanwhile_is_never_overwritten(tmp_path: Path):
    def write() -> None:
        with whole_folder(tmp_path / "run") as aside:
            (aside / "mine").write_text("x")
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs").write_text("x")

    with pytest.raises(OutputError, match=r"Cannot write .*run': Directory not empty"):
        write()
    assert [each.name for each in tmp_path.rglob("*")] == ["run", "theirs"]


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, message in (
        (tmp_path / "file" / "run", "file' is not a directory"),
        (tmp_path / "file" / "deep" / "run", "file' is not a directory"),
        (tmp_path / "file", "exists already"),
        (tmp_path / "dangling", "exists already"),
    ):
        with pytest.raises(TargetError, match=message):
            check_new(path)
        with pytest.raises(TargetError, match=message), whole_folder(path):
            pass
    with pytest.raises(TargetError, match="is not a directory"), whole_file(tmp_path / "file" / "log.csv"):
        pass
    with pytest.raises(TargetError, match="it is a directory"), whole_file(tmp_path):
        pass
    check_new(tmp_path / "deep" / "deeper" / "run")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("log.csv", "log.csv"),
        ("./folder/../log.csv", "log.csv"),
        ("symbolic.csv", "log.csv"),
        ("hard.csv", "log.csv"),
        ("log.csv", "symbolic.csv"),
        ("folder/new.csv", "folder"),
        ("linked/deep/new.csv", "folder"),
        ("hard-part.csv", "folder"),
    ],
)
def test_nothing_that_is_read_is_written_to(written: str, read: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for file, link in (("log.csv", "hard.csv"), ("folder/part.csv", "hard-part.csv")):
        Path(file).write_text("x")
        Path(link).hardlink_to(file)
    Path("symbolic.csv").symlink_to("log.csv")
    Path("linked").symlink_to("folder")
    for path in (Path(written), tmp_path / written):
        with pytest.raises(TargetError, match="is read"):
            check_apart(path, ["none", read])
    check_apart(Path("other.csv"), ["none", "folder", "log.csv"])


@unprivileged
def test_a_place_without_permission_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(TargetError, match="you may not write to"):
        check_new(tmp_path / "run")


def test_a_failure_of_the_system_says_where_and_is_no_mistake_in_the_command(tmp_path: Path):
    def write() -> None:
        with whole_file(tmp_path / "log.csv"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"^Cannot write .*log.csv': No space left on device\.$") as caught:
        write()
    assert not isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, OSError)
