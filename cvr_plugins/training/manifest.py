"""The hashes of a run folder's files, by which what was damaged or changed is told from what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvr_plugins.files import whole_file

NAME = "manifest.json"
FORMAT = 1


class RunFolderError(ValueError):
    """A folder is not a run folder, not one that this version can read, or not as it was written."""


def seal(folder: Path) -> int:
    """Write `manifest.json`, the SHA-256 of each other file of a folder; return how many there are.

    Parameters
    ----------
    folder
        The folder; what was in its manifest before is replaced. Hidden files and folders are left out.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name[0] != "." and file.name != NAME]
    hashes = {file.name: _sha256(file) for file in files}
    with whole_file(folder / NAME) as aside:
        aside.write_text(json.dumps({"format": FORMAT, "sha256": hashes}, indent=2) + "\n", encoding="utf-8")
    return len(hashes)


def check(file: Path) -> None:
    """See that a file is as it was when its folder was sealed.

    Parameters
    ----------
    file
        The file.

    Raises
    ------
    RunFolderError
        If it is not, or its folder has no manifest that says so.
    """
    hashes = _hashes(file.parent)
    try:
        found = _sha256(file)
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read: {error.strerror or error}. The run folder is damaged.") from error
    if file.name not in hashes:
        raise RunFolderError(f"{file} is not in {NAME}: it was added or damaged. {_remedy(file.parent)}")
    if found != hashes[file.name]:
        raise RunFolderError(f"{file} is not what was written: it was damaged or edited. {_remedy(file.parent)}")


def check_all(folder: Path) -> None:
    """See that every file is as it was when its folder was sealed.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    RunFolderError
        As `check`, of the first that is not.
    """
    for name in _hashes(folder):
        check(folder / name)


def _hashes(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if found["format"] == FORMAT and isinstance(found["sha256"], dict):
            return found["sha256"]
    except FileNotFoundError:
        raise RunFolderError(f"{folder} has no {NAME}, by which its files are checked. {_remedy(folder)}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise RunFolderError(f"{folder / NAME} is damaged. {_remedy(folder)}")


def _remedy(folder: Path) -> str:
    return f"If it was changed on purpose, 'cvr-plugins reseal {folder}' takes it as it is."


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(2**20):
            digest.update(block)
        return digest.hexdigest()
