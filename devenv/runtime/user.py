"""Users and groups by the container's own ``/etc/passwd`` and ``/etc/group``, read by us with host rights.

So the files are opened beneath the container's root, must be regular, and no more than a mebibyte of each is read
(CVE-2026-47262: a huge group file took the daemon's memory). Nothing is asked of NSS, which would load code.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import openat2

LIMIT = 1 << 20
HIGHEST = (1 << 31) - 1  # uid_t is 32 bits wide, and -1 has a meaning of its own


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(root: int, text: str, additional: Iterable[str] = ()) -> User:
    """``[user][:group]``, each a name or a number. ``root`` is a descriptor of the container's root.

    A number is itself even where a user of that name exists (CVE-2016-3697). Raises ``ContainerError``.
    """
    return _resolve(text, additional, passwd=_read(root, "/etc/passwd"), group_file=_read(root, "/etc/group"))


def of_image(layers: Sequence[str], text: str) -> User:
    """The same, before there is a root: by the topmost of an image's ``layers`` that has each of the two files."""
    return _resolve(text, (), passwd=_topmost(layers, "/etc/passwd"), group_file=_topmost(layers, "/etc/group"))


def _topmost(layers: Sequence[str], path: str) -> bytes:
    for layer in layers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A whiteout is there, too, and no regular file.
            os.close(openat2.in_root(root, path, os.O_PATH | os.O_NOFOLLOW))
            return _read(root, path)
        except OSError:
            continue
        finally:
            os.close(root)
    return b""


def _resolve(text: str, additional: Iterable[str], *, passwd: bytes, group_file: bytes) -> User:
    name, colon, group = text.partition(":")
    users = list(_lines(passwd, 7))
    groups = list(_lines(group_file, 4))
    uid, entry = _user(name or "0", users)
    gid = _group(group, groups) if colon and group else (_number(entry[3]) or 0) if entry else 0
    extra: list[int] = []
    if entry and not (colon and group):
        extra = [found for line in groups if entry[0] in line[3].split(",") and (found := _number(line[2])) is not None]
    for other in additional:
        extra.append(_group(other, groups))
    home = entry[5] if entry else ""
    return User(uid, gid, tuple(sorted({gid, *extra})), home or ("/root" if uid == 0 else "/"))


def exactly(root: int, described: dict[str, Any]) -> User:
    """The specification's ``user``: numbers, and no group that isn't named. Of the image only the home is asked."""
    uid, gid = described.get("uid") or 0, described.get("gid") or 0
    entry = next((line for line in _lines(_read(root, "/etc/passwd"), 7) if _number(line[2]) == uid), None)
    home = entry[5] if entry else ""
    return User(uid, gid, tuple(described.get("additionalGids") or ()), home or ("/root" if uid == 0 else "/"))


def _user(name: str, users: list[list[str]]) -> tuple[int, list[str] | None]:
    if _is_number(name):
        uid = _checked(name, "user")
        return uid, next((line for line in users if _number(line[2]) == uid), None)
    for line in users:
        if line[0] == name and (found := _number(line[2])) is not None:
            return found, line
    raise errors.ContainerError(
        f"there is no user `{name}` in the image's `/etc/passwd`", hint="use a number, or a user that the image has"
    )


def _group(name: str, groups: list[list[str]]) -> int:
    if _is_number(name):
        return _checked(name, "group")
    for line in groups:
        if line[0] == name and (found := _number(line[2])) is not None:
            return found
    raise errors.ContainerError(
        f"there is no group `{name}` in the image's `/etc/group`", hint="use a number, or a group that the image has"
    )


def _is_number(text: str) -> bool:
    return text.lstrip("+-").isdecimal() and text.isascii()


def _checked(text: str, what: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST:
        raise errors.ContainerError(f"`{text}` is no {what} id", hint=f"ids go from 0 to {HIGHEST}")
    return int(text)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= HIGHEST else None


def _lines(data: bytes, width: int) -> Iterator[list[str]]:
    for line in data.split(b"\n"):
        fields = line.decode("utf-8", "surrogateescape").split(":")
        if len(fields) >= width:
            yield fields


def _read(root: int, path: str) -> bytes:
    try:
        # O_NONBLOCK: a fifo in its place must not hold us.
        descriptor = openat2.in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, LIMIT)
    finally:
        os.close(descriptor)
