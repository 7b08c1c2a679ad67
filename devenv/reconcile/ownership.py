"""Whose the files of a bind mount are: the project's folder belongs to a person, and so does what services make in it.

As root a bind mount is idmapped (mount_setattr(2)): the container's user is shown as the owner of the person's files,
and what it makes is the person's on disk. By itself for what lies in the project's folder and belongs to its owner;
`bind: {x-idmap: …}` says no, yes, or which of the container's users it is about. A project of root's own is left as
it is: its files are root's already, and an unprivileged user of a container shall not make files of root's.

As an ordinary user the container's root is the person, by the engine's user namespace, and others are ids of
/etc/subuid: only who has CAP_SYS_ADMIN where the filesystem was mounted can map it, so that is said and left so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import image as image_module
from devenv.linux import namespace
from devenv.runtime import bundle, idmap, user
from devenv.volume import bind

KEY = "x-idmap"


class Who(NamedTuple):
    """Who runs, and where the project is."""

    text: str  # as `user:` has it
    layers: tuple[str, ...]  # of the image, to look names up in
    directory: str
    runtime: str = ""  # another one than devenv's own


class Choice(NamedTuple):
    owner: bundle.Owner | None = None  # None: files keep the ids that they have
    option: str = ""  # of the mount: idmap, or ridmap with all that is mounted beneath
    note: str = ""  # what the person should know


def who(service: Mapping[str, Any], image: image_module.Image, directory: str) -> Who:
    text = str(service.get("user") or image.config.user or "")
    return Who(text, image.lower, directory, str(service.get("runtime") or ""))


def choose(entry: Mapping[str, Any], source: str, by: Who) -> Choice:
    """``source`` is the real path; if it is still missing, what its folder's owner will own."""
    options = entry.get("bind") or {}
    wish = options.get(KEY)
    there = os.stat(_existing(source))
    if wish is False or (wish is None and not _is_the_projects(source, there, by)):
        return Choice()
    try:
        inside = user.of_image(by.layers, by.text if wish in {None, True} else str(wish))
    except errors.ContainerError:
        if wish not in {None, True}:
            raise
        return Choice()  # the start will say that there is no such user
    owner = bundle.Owner((there.st_uid, there.st_gid), (inside.uid, inside.gid))
    if owner.outside == owner.inside:
        return Choice()
    if not namespace.in_initial_user_namespace():
        return Choice(note="" if entry.get("read_only") else _without_root(entry, inside.uid))
    option, reason = idmap.possible(source, recursive=options.get("recursive") != "disabled")
    if not option:
        return Choice(note=f"the files in `{entry['source']}` keep the ids that they have: {reason}")
    return Choice(owner, option)


def notes(service: Mapping[str, Any], image: image_module.Image, directory: str) -> Iterator[str]:
    """What can't be had for a service's bind mounts on this machine."""
    by = who(service, image, directory)
    for entry in service.get("volumes") or []:
        if entry.get("type") == "bind":
            note = choose(entry, bind.real_path(entry["source"], base=directory), by).note
            if note:
                yield note


def _is_the_projects(source: str, there: os.stat_result, by: Who) -> bool:
    if by.runtime:
        return False  # it may know nothing of mappings
    folder = os.path.realpath(by.directory)
    owner = os.stat(folder).st_uid
    own = owner == 0 and namespace.in_initial_user_namespace()
    return os.path.commonpath([folder, source]) == folder and there.st_uid == owner and not own


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _without_root(entry: Mapping[str, Any], uid: int) -> str:
    try:
        outside = idmap.outside(idmap.current("/proc/self/uid_map"), uid)
    except OSError:
        return ""  # there is no such user where a single id is mapped: the start says so
    return (
        f"in `{entry['source']}` what its user {uid} makes belongs to {outside} on this machine, and what is yours "
        "it can't write: without root the ids of a mount can't be mapped, and only the service's root is you "
        "(`user: root`)"
    )
