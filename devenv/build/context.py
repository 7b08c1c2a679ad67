"""A tree that files are copied from: a folder on the disk, or what an image or a stage shows.

Nothing is copied or read ahead. A folder is seen through its ignore file; its files belong to root in the image,
whoever has them here, while those of an image keep their owners. Every path is looked up beneath the tree's root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from types import TracebackType
from typing import Any

from devenv import errors
from devenv.build import ignore, inside, memory
from devenv.linux import mount
from devenv.runtime import overlay


class Missing(LookupError):
    """There is nothing at a path; the argument is the path where it ends."""


class Tree:
    """``root`` is a descriptor of its root, owned by the tree."""

    def __init__(
        self,
        root: int,
        *,
        name: str,
        owned: bool,
        matcher: ignore.Matcher | None = None,
        known: memory.Memory | None = None,
    ) -> None:
        self.root = root
        self.name = name  # for people
        self.owned = owned  # its files' owners count
        self.matcher = matcher
        self.known = known
        # What was selected of it: who asks again gets the files as they were, and a copy tells if they are no more.
        self.selections: dict[Hashable, Any] = {}

    def close(self) -> None:
        os.close(self.root)

    def forget(self, selection: Any) -> None:
        """Look anew when this is selected again, after ``Changed``."""
        for key in [key for key, found in self.selections.items() if found is selection]:
            del self.selections[key]

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def find(self, path: str, *, follow: bool) -> tuple[str, os.stat_result]:
        """The canonical path of what ``path`` names, and what it is. Raises ``Missing``."""

        def seen(link: str) -> None:
            if self.hides(link):
                raise Missing(link)

        found = inside.canonical(self.root, path, follow=follow, seen=seen)
        try:
            status = inside.status(self.root, found)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise Missing(found) from exc
        if found and self.hides(found) and not (stat.S_ISDIR(status.st_mode) and self._shows_within(found)):
            raise Missing(found)
        return found, status

    def hides(self, path: str) -> bool:
        return self.matcher is not None and self.matcher.matches(path)

    def _shows_within(self, folder: str) -> bool:
        """A folder that is left out is still there where a `!` takes back something in it."""
        assert self.matcher is not None
        if not self.matcher.may_except(folder):
            return False
        opened = inside.folder(self.root, folder)
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}"
                    if not self.matcher.matches(path):
                        return True
                    if entry.is_dir(follow_symlinks=False) and self._shows_within(path):
                        return True
        finally:
            os.close(opened)
        return False


def folder(
    path: str,
    *,
    matcher: ignore.Matcher | None = None,
    known: memory.Memory | None = None,
    owned: bool = False,
) -> Tree:
    """A folder on the disk as it is. Raises ``BuildError``."""
    try:
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise errors.BuildError(f"the context `{path}` can't be opened: {exc.strerror}") from exc
    return Tree(root, name=path, owned=owned, matcher=matcher, known=known)


def filesystem(root: int, *, name: str) -> Tree:
    """What an image or a stage shows; ``root`` is a descriptor of its merged root, and becomes the tree's."""
    return Tree(root, name=name, owned=True)


def merged(layers: tuple[str, ...], *, in_user_namespace: bool) -> int:
    """A descriptor of what unpacked layers show, the topmost first. Mounted nowhere, and gone with the descriptor.

    The caller may mount. Raises ``OSError``.
    """
    if len(layers) == 1:
        return os.open(layers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    context = mount.fsopen("overlay")
    try:
        overlay.add_layers(context, layers, in_user_namespace=in_user_namespace)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(context, mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)
