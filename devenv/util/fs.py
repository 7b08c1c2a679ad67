"""Files written whole or not at all, and names that are safe in a path."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any


def write_whole(path: str, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace ``path`` in one step: readers see the old content or the new one.

    ``durable`` also survives a power cut, and costs an fsync of the file and of its folder.
    """
    # Threads write too, and one killed earlier may have had our pid.
    temporary = f"{path}.tmp.{os.urandom(6).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_temporaries(path: str) -> None:
    """What a killed ``write_whole`` of this file left. For the one who alone writes it."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for other in names:
        if other.startswith(f"{name}.tmp."):
            remove(f"{folder}/{other}")


def write_json(path: str, value: Any, *, durable: bool = False) -> None:
    write_whole(path, json.dumps(value, separators=(",", ":")).encode(), durable=durable)


def read_json(path: str) -> Any:
    """The value in ``path``, or None when there is no such file or it is not whole JSON."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def unique() -> str:
    """A name that nothing else has."""
    return os.urandom(8).hex()


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_folder(path: str) -> None:
    """Remove a folder if it is there and empty."""
    with contextlib.suppress(OSError):
        os.rmdir(path)
