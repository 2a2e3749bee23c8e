"""Files that are there in full or not at all, and what identifies their content.

A file is written under a temporary name in its own folder, flushed to disk and renamed: whenever a process is killed,
readers find the old content or the new one.
"""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..keywords import unique_keys


WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


def content_hash(value: object) -> str:
    """16 hexadecimal digits for JSON types or bytes; equal values have equal hashes."""
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives the path of a temporary file, which becomes `path` when the block ends well and goes away when not.

    Raises:
        OSError: if the folder cannot be written; the message names it and says what to do.
    """
    unfinished = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        raise OSError(
            error.errno,
            f"{path.parent} cannot be written ({error.strerror or error}): free space or choose another folder, and "
            "run again: what is finished is kept",
        ) from error
    finally:
        if unfinished.exists():
            unfinished.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file that is there in full or not at all."""
    with atomic_write(Path(path)) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file, indented, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file, with or without a byte order mark. Raises ValueError, naming it, if it is none, or a
    key occurs twice."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except ValueError as error:  # of JSON or UTF-8
        raise ValueError(f"{path} is no JSON file in UTF-8: {error}.") from error


def write_json_lines(path: str | os.PathLike, rows: Iterable[Any]) -> None:
    """Writes a JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json_lines(path: str | os.PathLike) -> Iterator[Any]:
    """What each line of a JSON Lines file holds. Texts may have line ends of Unicode, which end no line here."""
    with open(path, encoding="utf-8", newline="\n") as file:
        yield from map(json.loads, file)


def remove_unfinished(folder: Path) -> None:
    """What killed processes of this machine left. Others may be at work in the same folder."""
    for path in folder.glob(f".*.{socket.gethostname()}-*.unfinished"):
        if not _is_running(int(path.stem.rpartition("-")[2])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def files_in(folder: str | os.PathLike) -> Iterator[Path]:
    """The files and dangling links in a folder, but for hidden ones, in any order; the folders in it are entered once,
    though links may form a circle."""
    entered = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # which of two ways to a folder is taken does not depend on the file system
        for name in folders.copy():
            if (target := os.path.realpath(os.path.join(parent, name))) in entered:
                folders.remove(name)
            entered.add(target)
        files = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.is_file() or not file.exists())
