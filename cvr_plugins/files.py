"""Writing whole or not at all, aside and renamed into place at the end; and where a file is no text."""

from __future__ import annotations

import codecs
import gzip
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvr_plugins.wording import flat

try:
    import fcntl
except ImportError:  # pragma: no cover - on Windows what a killed process left stays
    fcntl = None  # type: ignore[assignment]


class OutputError(OSError):
    """Writing failed underway, the disk being full for example; nothing is left of what was written."""


class TargetError(OutputError, ValueError):
    """A place that nothing can be written to; found before anything is written."""


def undecodable(path: str | Path, encoding: str) -> str:
    """Say in a sentence where a text file is not in its encoding, and in which it may be; "" if it cannot be said."""
    opened = gzip.open if str(path).lower().endswith(".gz") else open
    line = 1
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        with opened(path, "rb") as file:
            while block := file.read(1 << 20):
                decoder.decode(block)
                line += block.count(b"\n")
        decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        held, at = error.object, error.start
        if held[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and line == 1:
            return f"{str(path)!r} is not {encoding} text: it begins as utf-16 does."
        line += held[:at].count(b"\n")
        shown = flat(held[max(0, at - 12) : at + 12].decode("cp1252", "replace"))
        found = f"line {line} holds the byte 0x{held[at]:02x}, in what cp1252 reads as {shown!r}"
        return f"{str(path)!r} is not {encoding} text: {found}."
    except UnicodeError as error:
        return f"{str(path)!r} is not {encoding} text: {error}."
    except (OSError, EOFError):
        pass
    return ""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` if the block ends well and vanishes if it does not.

    Raises TargetError if `path` is a directory or its directory cannot be made or written to, OutputError if the block
    raises an OSError.
    """
    if path.is_dir():
        raise TargetError(f"Cannot write the file {str(path)!r}: it is a directory; name a file.")
    aside, held = _begun(path, Path.touch)
    try:
        with writing(path):
            yield aside
            put_in_place(aside, path)
    finally:
        _let_go(held)
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to write into; it becomes `path` if the block ends well and vanishes if it does not.

    Raises TargetError if `path` exists already (nothing of the user's is overwritten) or cannot be made, OutputError if
    the block raises an OSError.
    """
    check_new(path)
    aside, held = _begun(path, Path.mkdir)
    try:
        with writing(path):
            yield aside
            put_in_place(aside, path)
    finally:
        _let_go(held)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write `path`, or something in it, in the block: an OSError of that becomes OutputError, which names it."""
    try:
        yield
    except OutputError:
        # What another part of ours has said already is passed on as it is.
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def put_in_place(aside: Path, path: Path) -> None:
    """Rename a file or a folder to `path` once all of it is on the disk, so that a lost power supply cuts nothing off.

    Parameters
    ----------
    aside
        What was written, on the same file system. A file may replace another one, a folder none.
    path
        What it becomes.

    Raises
    ------
    OSError
        If the disk or the system refuses.
    """
    inside = sorted(aside.rglob("*"), reverse=True) if aside.is_dir() else []
    for each in (*inside, aside):
        _sync(each)
    if aside.is_dir():
        os.rename(aside, path)
    else:
        os.replace(aside, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # pragma: no cover - Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new(path: Path) -> None:
    """See before long work that `path` can be made when it is done; raises TargetError if it exists or cannot be."""
    taken = True
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        taken = False
    except (OSError, ValueError) as error:
        # A name that is too long, or text that is no name.
        raise TargetError(f"Cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}.") from error
    if taken:
        raise TargetError(f"{str(path)!r} exists already; remove it or name another place.")
    _check_parent(path)


def check_apart(path: Path, read: Iterable[str | Path]) -> None:
    """See that writing a file or a folder changes nothing that is read, whatever the paths are called.

    Parameters
    ----------
    path
        What is to be written.
    read
        Files, and folders of which all files are read, those added to them as well; what is not there is passed over.

    Raises
    ------
    TargetError
        If it is one of them, under this name or another one, or lies within one of the folders.
    """
    above = [place for place in Path(os.path.realpath(path)).parents if place.exists()]
    for source in map(Path, filter(os.path.exists, read)):
        if any(place.samefile(source) for place in above):
            raise TargetError(f"{str(path)!r} lies within {str(source)!r}, which is read; name another place.")
        files = source.rglob("*") if source.is_dir() else [source]
        if path.exists() and any(each.exists() and path.samefile(each) for each in files):
            raise TargetError(f"{str(path)!r} is read itself, being of {str(source)!r}; name another file.")


def _check_parent(path: Path) -> None:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise TargetError(f"Cannot write {str(path)!r}: {str(above)!r} is not a directory.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise TargetError(f"Cannot write {str(path)!r}: you may not write to {str(above)!r}.")


def _begun(path: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Make a file or folder to write into beside `path`; return it and the lock by which it is seen to be in use."""
    _check_parent(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"Cannot make the directory {str(path.parent)!r}: {error.strerror or error}.") from error
    remove_left(path)
    while True:
        # Not tempfile: its folders are private to the user, and the name must keep the suffix that writers go by.
        aside = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
        with writing(path):
            make(aside)
            held = _hold(aside)
        # Between the two, another process may have taken it for left over.
        if (held is not None or fcntl is None) and aside.exists():
            return aside, held


def remove_left(path: Path) -> None:
    """Remove what processes that were killed left of writing `path`; what a living one writes stays."""
    left = re.compile(rf"\.[0-9a-f]{{32}}\.{re.escape(path.name)}")
    with suppress(OSError):
        for each in filter(lambda found: left.fullmatch(found.name), list(path.parent.iterdir())):
            held = _hold(each)
            if held is not None:
                shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
            _let_go(held)


def _hold(path: Path) -> int | None:
    """Lock a file or a folder for as long as this process lives; None if another one holds it."""
    if fcntl is None:  # pragma: no cover
        return None  # type: ignore[unreachable]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _let_go(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
