"""Copying between a container and this machine, as ``docker cp`` and ``docker compose cp`` have it.

    source         target                        result
    a file         is not there                  it is called that; with a slash at its end an error
    a file         a file                        replaced
    a file         a folder                      in there, under its own name
    a folder       is not there                  made, with what is in the source
    a folder       a folder                      in there, under its own name; for `SOURCE/.` what is in it
    a folder       a file                        an error

One process packs and another unpacks, with a pipe between them: neither sees the other's side.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from devenv import errors
from devenv.cli import terminal
from devenv.runtime import packing, unpacking, view


class Wishes(NamedTuple):
    archive: bool = False  # -a: owners stay what they are
    follow: bool = False  # -L


class Place(NamedTuple):
    """Where things go: into ``folder``, where the first part of their names becomes ``name``."""

    folder: str
    name: str


def out_of(container: view.View, source: str, target: str, wishes: Wishes, *, name: str) -> None:
    """To a path of this machine, or to stdout for `-`."""
    source = _absolute(source)
    try:
        found = packing.find(container.root, source, follow=wishes.follow)
    except OSError as exc:
        raise _failed(f"`{name}:{source}`", exc) from exc
    os.close(found.parent)
    first = _basename(source)
    if target == "-":
        if terminal.is_terminal(sys.stdout):
            raise errors.UsageError(
                "a tar stream is nothing for a terminal", hint="use a pipe, or a path in place of `-`"
            )
        sys.stdout.flush()
        work = container.work(lambda root: _pack(root, source, first or ".", wishes, 1))
        work.wait()
        return
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place = _place(root, os.path.abspath(target) + ("/" if target.endswith("/") else ""), found, source, shown=target)
    # What comes out of a container can't leave the folder that it is put into.
    folder = os.open(place.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    work = container.work(lambda root: _pack(root, source, "x", wishes, writer), close=(reader,))
    os.close(writer)
    policy = unpacking.Policy(owners=wishes.archive)
    try:
        with open(reader, "rb") as stream:
            _unpack(folder, "", stream, policy, place.name)
    finally:
        os.close(folder)
        os.close(root)
        work.wait()


def into(container: view.View, source: str, target: str, wishes: Wishes, *, name: str) -> None:
    """From a path of this machine, or a tar stream on stdin for `-`."""
    target = _absolute(target)
    shown = f"{name}:{target}"
    policy = unpacking.Policy(owners=True) if wishes.archive else unpacking.Policy(owners=False, owner=(0, 0))
    if source == "-":
        if terminal.is_terminal(sys.stdin):
            raise errors.UsageError("there is nothing on stdin but a terminal", hint="pipe a tar archive into it")
        try:
            found = packing.find(container.root, target, follow=True)
        except OSError as exc:
            raise _failed(f"`{shown}`", exc) from exc
        os.close(found.parent)
        if not found.is_folder:
            raise errors.ContainerError(f"`{shown}` is not a folder", hint="a tar stream is unpacked into a folder")
        as_given = unpacking.Policy(owners=True)
        container.work(lambda root: _unpack(root, target, sys.stdin.buffer, as_given, None)).wait()
        return
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    path = os.path.abspath(source) + ("/." if source.endswith(("/.", "/")) else "")
    try:
        found = packing.find(root, path, follow=wishes.follow)
    except OSError as exc:
        raise _failed(f"`{source}`", exc) from exc
    os.close(found.parent)
    place = _place(container.root, target, found, source, shown=shown)
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def receive(inside: int) -> None:
        with open(reader, "rb") as stream:
            _unpack(inside, place.folder, stream, policy, place.name)

    work = container.work(receive, close=(writer,))
    os.close(reader)
    try:
        _pack(root, path, "x", wishes, writer)
    except BrokenPipeError:
        pass  # the other side says why
    except OSError as exc:
        raise _failed(f"`{source}`", exc) from exc
    finally:
        os.close(root)
        work.wait()


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _basename(path: str) -> str:
    """ "" for the root, and for what is in a folder."""
    last = os.path.basename(path.rstrip("/"))
    return "" if last in {".", ".."} else last


def _place(root: int, target: str, found: packing.Found, source: str, *, shown: str) -> Place:
    """By the table above. Raises ``ContainerError``."""
    contents = found.is_folder and source.endswith("/.")
    try:
        there = packing.find(root, target, follow=True)
    except FileNotFoundError:
        return _new(root, target, is_folder=found.is_folder, shown=shown)
    except OSError as exc:
        raise _failed(f"`{shown}`", exc) from exc
    os.close(there.parent)
    if not there.is_folder:
        if found.is_folder:
            raise errors.ContainerError(f"`{shown}` is a file: a folder can't be copied to it")
        # Through a link, to what it leads to.
        end = packing.resolved(root, target)
        return Place(os.path.dirname(end) or "/", os.path.basename(end))
    name = "" if contents else _basename(source) if _basename(source) else ""
    return Place(target.rstrip("/") or "/", name)


def _new(root: int, target: str, *, is_folder: bool, shown: str) -> Place:
    if target.endswith("/") and not is_folder:
        raise errors.ContainerError(f"there is no folder `{shown}`")
    try:
        end = packing.resolved(root, target.rstrip("/"))
        parent = os.path.dirname(end) or "/"
        above = packing.find(root, parent, follow=True)
    except OSError as exc:
        raise errors.ContainerError(f"there is no folder for `{shown}`", hint="make it first") from exc
    os.close(above.parent)
    if not above.is_folder:
        raise errors.ContainerError(f"`{shown}` is below something that is no folder")
    return Place(parent, os.path.basename(end))


def _pack(root: int, path: str, name: str, wishes: Wishes, out: int) -> None:
    found = packing.find(root, path, follow=wishes.follow)
    with open(os.dup(out), "wb", buffering=1 << 16) as file:
        packer = packing.Packer(file, xattrs=wishes.archive)
        packer.tree(found, name)
        packer.close()
    os.close(out)


def _unpack(root: int, folder: str, stream: BinaryIO, policy: unpacking.Policy, name: str | None) -> None:
    """``name``: what stands for the first part of each name; None to keep it."""
    unpacker = unpacking.Unpacker(root, folder, policy, rename=_renaming(name))
    try:
        unpacker.run(stream)
    except OSError as exc:
        raise _failed(f"`{exc.filename or folder}`", exc) from exc
    for note in list(dict.fromkeys(unpacker.notes))[:5]:
        terminal.warn(note)


def _renaming(name: str | None) -> Callable[[str], str]:
    def rename(given: str) -> str:
        if name is None:
            return given
        _, _, rest = given.partition("/")
        return "/".join(part for part in (name, rest) if part)

    return rename


def _failed(what: str, exc: OSError) -> errors.ContainerError:
    return errors.ContainerError(f"{what}: {exc.strerror}")
