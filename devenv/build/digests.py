"""Digests of what was selected, by content, reading no more than has to be read.

Nothing changed: the stamps of all entries together are known, and so is the digest; no file is opened. Else the
files whose stamps are known aren't read, and much data is hashed by several threads.
"""

from __future__ import annotations

import array
import concurrent.futures
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence

from devenv import errors
from devenv.build import attributes, context, inside, memory, walk

_BLOCK = 1 << 20
_MUCH = 8 << 20  # below, starting threads costs more than they save
_ATTEMPTS = 3

Roots = Sequence[tuple[str, Sequence[walk.Entry]]]


def of_inlines(files: Iterable[tuple[str, bytes]]) -> str:
    whole = hashlib.sha256(b"inline\0")
    for name, content in files:
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\0".encode("utf-8", "surrogateescape"))
    return f"sha256:{whole.hexdigest()}"


def of_roots(tree: context.Tree, roots: Roots) -> str:
    now = memory.clock()
    key = _key(tree, roots) if tree.known is not None else ""
    if tree.known is not None and (known := tree.known.selection(key)):
        return known
    digests = _contents(tree, [entry for _, entries in roots for entry in entries])
    whole = hashlib.sha256(b"tree\0")
    for name, entries in roots:
        whole.update(_combined(tree, name, entries, digests))
    found = f"sha256:{whole.hexdigest()}"
    if tree.known is not None:
        if all(memory.is_settled(entry.status, now) for _, entries in roots for entry in entries):
            tree.known.remember_selection(key, found)
        try:
            tree.known.save()
        except OSError as exc:
            raise errors.BuildError(f"what was found of the context can't be kept: {exc.strerror}") from exc
    return found


def _key(tree: context.Tree, roots: Roots) -> str:
    """One stamp for all of it."""
    whole = hashlib.sha256(b"owned" if tree.owned else b"")
    for name, entries in roots:
        names = [name, str(len(entries))]
        numbers = array.array("q")
        for relative, path, status, implied in entries:
            names += (relative, path)
            numbers.extend(
                (
                    status.st_mode << 1 | implied,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    # Unsigned, and used up to the highest bit by some filesystems.
                    status.st_ino & 0x7FFFFFFFFFFFFFFF,
                    status.st_dev & 0x7FFFFFFFFFFFFFFF,
                )
            )
        whole.update("\0".join(names).encode("utf-8", "surrogateescape"))
        whole.update(numbers.tobytes())
    return whole.hexdigest()


def _combined(tree: context.Tree, name: str, entries: Sequence[walk.Entry], digests: dict[str, str]) -> bytes:
    lines = []
    first = entries[0]
    if not stat.S_ISDIR(first.status.st_mode):
        lines.append(f"file\0{name}\0{_owner(tree, first.status)}\0{digests[first.path]}")
    else:
        # Only what is in a folder is copied, not itself.
        lines.append("folder")
        for entry in entries[1:]:
            kind = "implied" if entry.implied else ""
            lines.append(f"{entry.relative}\0{kind}\0{_owner(tree, entry.status)}\0{digests[entry.path]}")
    lines.append("\0")
    return "\0\n".join(lines).encode("utf-8", "surrogateescape")


def _owner(tree: context.Tree, status: os.stat_result) -> str:
    return f"{status.st_uid}:{status.st_gid}" if tree.owned else ""


def _contents(tree: context.Tree, entries: Sequence[walk.Entry]) -> dict[str, str]:
    by_path = {entry.path: entry.status for entry in entries}
    known: dict[str, str] = {}
    if tree.known is not None:
        known = tree.known.digests({path: memory.stamp(status) for path, status in by_path.items()})
    wanted = [(path, status) for path, status in by_path.items() if path not in known]
    if not wanted:
        return known
    made: dict[str, str] = {}
    learned: dict[str, tuple[memory.Stamp, str]] = {}
    for part_made, part_learned in _spread(tree, wanted):
        made |= part_made
        learned |= part_learned
    if tree.known is not None:
        tree.known.remember(learned)
    return known | made


_Part = tuple[dict[str, str], dict[str, tuple[memory.Stamp, str]]]


def _spread(tree: context.Tree, wanted: list[tuple[str, os.stat_result]]) -> Iterable[_Part]:
    size = sum(status.st_size for _, status in wanted)
    workers = min(8, len(os.sched_getaffinity(0)))
    if size < _MUCH or workers < 2 or len(wanted) < 2:
        return [_hashed(tree, wanted)]
    parts: list[list[tuple[str, os.stat_result]]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for each in sorted(wanted, key=lambda each: -each[1].st_size):
        least = loads.index(min(loads))
        parts[least].append(each)
        loads[least] += each[1].st_size + 4096
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda part: _hashed(tree, sorted(part, key=lambda each: each[0])), parts))


def _hashed(tree: context.Tree, wanted: list[tuple[str, os.stat_result]]) -> _Part:
    made: dict[str, str] = {}
    learned: dict[str, tuple[memory.Stamp, str]] = {}
    buffer = bytearray(_BLOCK)
    with inside.Folders(tree.root) as folders:
        for path, seen in wanted:
            for _ in range(_ATTEMPTS):
                now = memory.clock()
                digest, status = _of_one(folders, path, seen, buffer)
                if memory.stamp(status) == memory.stamp(seen):
                    break
                seen = status  # noqa: PLW2901  it changed while it was read
            else:
                raise errors.BuildError(f"`{path}` in {tree.name} does not stop changing")
            made[path] = digest
            if memory.is_settled(status, now):
                learned[path] = (memory.stamp(status), digest)
    return made, learned


def _of_one(
    folders: inside.Folders, path: str, status: os.stat_result, buffer: bytearray
) -> tuple[str, os.stat_result]:
    """Its digest, and its status after it was read."""
    parent, name = folders.parent(path)
    kind = stat.S_IFMT(status.st_mode)
    try:
        if kind in {stat.S_IFREG, stat.S_IFDIR}:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            fd = os.open(name, flags, dir_fd=parent)
            try:
                whole = _start(status, attributes.of(fd))
                if kind == stat.S_IFREG:
                    _read(fd, whole, buffer)
                return whole.hexdigest(), os.fstat(fd)
            finally:
                os.close(fd)
        whole = _start(status, attributes.of(f"/proc/self/fd/{parent}/{name}"))
        if kind == stat.S_IFLNK:
            whole.update(os.fsencode(os.readlink(name, dir_fd=parent)))
        return whole.hexdigest(), os.lstat(name, dir_fd=parent)
    except OSError as exc:
        raise errors.BuildError(f"`{path}` can't be read: {exc.strerror}") from exc


def _start(status: os.stat_result, attached: list[tuple[str, bytes]]) -> hashlib._Hash:
    mode = status.st_mode | (0o777 if stat.S_ISLNK(status.st_mode) else 0)
    device = status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    head = f"{mode:o}\0{device}\0"
    for name, value in attached:
        head += f"{name}={value.hex()}\0"
    return hashlib.sha256(head.encode("utf-8", "surrogateescape") + b"\0")


def _read(fd: int, whole: hashlib._Hash, buffer: bytearray) -> None:
    view = memoryview(buffer)
    while count := os.readv(fd, [buffer]):
        whole.update(view[:count])
