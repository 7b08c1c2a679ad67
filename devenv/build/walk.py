"""Walking a tree: from open folder to name, never by a path that somebody may change meanwhile.

What an ignore file, ``--exclude`` and ``--parents`` leave out is pruned: a folder is only entered if something in it
may be wanted. One that is itself left out, but has something in it that isn't, is an entry that is ``implied``.
"""

from __future__ import annotations

import errno
import operator
import os
from typing import NamedTuple

from devenv.build import context, globs, ignore, inside

DEPTH = 400  # of folders in each other: a path may have 4096 bytes, and the walk is recursive

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_by_name = operator.attrgetter("name")


class Entry(NamedTuple):
    relative: str  # to what was named
    path: str  # in the tree
    status: os.stat_result
    implied: bool  # only there for what is in it: of a folder that is in the target already nothing is changed


class _States(NamedTuple):
    """How far the three filters have come in a folder."""

    hidden: ignore.State = ()
    excluded: ignore.State = ()
    included: ignore.State = ()


def entries(
    tree: context.Tree, top: str, *, exclude: ignore.Matcher | None, include: ignore.Inclusion | None
) -> list[Entry]:
    """All in the folder ``top``, a canonical path. Raises ``OSError``."""
    walker = _Walker(tree, top, exclude, include)
    walker.run()
    return walker.found


class _Walker:
    def __init__(
        self, tree: context.Tree, top: str, exclude: ignore.Matcher | None, include: ignore.Inclusion | None
    ) -> None:
        self._tree = tree
        self._top = top
        self._hide = tree.matcher if tree.matcher is not None and tree.matcher.patterns else None
        self._exclude = exclude
        self._include = include
        self._plain = self._hide is None and exclude is None and include is None
        self._implied: list[Entry] = []  # folders that become entries with the first thing that is wanted in them
        self.found: list[Entry] = []

    def run(self) -> None:
        hidden: ignore.State = self._hide.root if self._hide is not None else ()
        if self._hide is not None and self._top:
            parts = self._top.split("/")
            for length in range(1, len(parts) + 1):
                _, hidden = self._hide.step("/".join(parts[:length]), hidden)
        states = _States(
            hidden,
            self._exclude.root if self._exclude is not None else (),
            self._include.root if self._include is not None else (),
        )
        folder = inside.folder(self._tree.root, self._top)
        try:
            self._folder(folder, f"{self._top}/" if self._top else "", "", states)
        finally:
            os.close(folder)

    def _folder(self, folder: int, path: str, relative: str, states: _States) -> None:
        with os.scandir(folder) as listed:
            names = sorted(listed, key=_by_name)
        for each in names:
            name = each.name
            if self._plain:
                wanted, enter, inner = True, True, states
            else:
                wanted, enter, inner = self._judge(path + name, relative + name, states)
                if not wanted and not (enter and each.is_dir(follow_symlinks=False)):
                    continue
            try:
                entry = Entry(relative + name, path + name, each.stat(follow_symlinks=False), not wanted)
            except FileNotFoundError:
                continue  # gone since the folder was listed
            if wanted:
                self._settle()
                self.found.append(entry)
            if each.is_dir(follow_symlinks=False) and enter:
                self._enter(folder, name, entry, inner)

    def _enter(self, folder: int, name: str, entry: Entry, states: _States) -> None:
        if entry.path.count("/") > DEPTH:
            raise OSError(errno.ENAMETOOLONG, "folders are nested too deeply", f"{entry.path[:60]}…")
        try:
            child = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, entry.path) from exc
        if entry.implied:
            self._implied.append(entry)
        try:
            self._folder(child, f"{entry.path}/", f"{entry.relative}/", states)
        finally:
            os.close(child)
        if entry.implied and self._implied and self._implied[-1] is entry:
            self._implied.pop()

    def _settle(self) -> None:
        if self._implied:
            self.found += self._implied
            self._implied.clear()

    def _judge(self, path: str, relative: str, states: _States) -> tuple[bool, bool, _States]:
        """Whether it is wanted, whether to go into it if it is a folder, and the states in there."""
        hidden, excluded, included = states
        wanted = enter = True
        if self._hide is not None:
            match, hidden = self._hide.step(path, hidden)
            if match:
                wanted, enter = False, self._hide.may_except(path)
        if self._exclude is not None and enter:
            match, excluded = self._exclude.step(relative, excluded)
            if match:
                wanted, enter = False, self._exclude.may_except(relative)
        if self._include is not None and enter:
            match, included = self._include.step(relative, included)
            if not match:
                wanted, enter = False, self._include.may_match(relative)
        return wanted, enter, _States(hidden, excluded, included)


def matching(tree: context.Tree, top: str, pattern: str) -> list[str]:
    """Paths below the folder ``top`` that a pattern of ``filepath.Match`` matches, none within another."""
    whole = globs.compiled(pattern)
    found: list[str] = []

    def look(folder: int, above: str, parts: list[str]) -> None:
        with os.scandir(folder) as listed:
            names = sorted(listed, key=_by_name)
        for each in names:
            relative = f"{above}{each.name}"
            if whole.fullmatch(relative):
                if _shows(tree, f"{top}/{relative}" if top else relative):
                    found.append(relative)
            elif len(parts) > 1 and _may_lead(parts[0], each.name) and each.is_dir(follow_symlinks=False):
                child = os.open(each.name, _FOLDER, dir_fd=folder)
                try:
                    look(child, f"{relative}/", parts[1:])
                finally:
                    os.close(child)

    opened = inside.folder(tree.root, top)
    try:
        look(opened, "", pattern.split("/"))
    finally:
        os.close(opened)
    return found


def _may_lead(part: str, name: str) -> bool:
    try:
        return globs.matches(part, name)
    except globs.BadPattern:
        return True  # a class with a slash in it, which is no component's own


def _shows(tree: context.Tree, path: str) -> bool:
    try:
        tree.find(path, follow=False)
    except context.Missing:
        return False
    return True
