"""What COPY and ADD take from a tree: their sources, looked up, and a digest of what they hold.

A source is a file or a folder, whose content is meant and not itself. Each becomes a ``Root`` with the entries that are
copied: sorted, a folder before what is in it. Nothing is read before the digest is asked for or the copy is made.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.build import context, digests, globs, ignore, walk

Entry = walk.Entry


class Root(NamedTuple):
    """One thing that was named, or that a pattern matched."""

    name: str  # what it is called where it is put into a folder
    path: str  # in the tree, canonical; "" is the tree's root
    entries: tuple[Entry, ...]  # the first is itself, called ""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.entries[0].status.st_mode)


class Inline(NamedTuple):
    """A file whose content stands in the Dockerfile."""

    name: str
    content: bytes


class Selection:
    """Of one tree; or of inline files, which come of none."""

    def __init__(self, tree: context.Tree | None, roots: Sequence[Root], inlines: Sequence[Inline] = ()) -> None:
        self.tree = tree
        self.roots = tuple(roots)
        self.inlines = tuple(inlines)

    @property
    def count(self) -> int:
        return sum(len(root.entries) for root in self.roots) + len(self.inlines)

    def digest(self) -> str:
        """By content: names, kinds, modes, links, attributes and bytes, owners unless it is a context; no times.

        Raises ``BuildError``.
        """
        if self.tree is None:
            return digests.of_inlines((each.name, each.content) for each in self.inlines)
        return digests.of_roots(self.tree, [(root.name, root.entries) for root in self.roots])


def inline(files: Iterable[tuple[str, str]]) -> Selection:
    """Heredocs: names and texts."""
    return Selection(None, (), [Inline(name, text.encode("utf-8", "surrogateescape")) for name, text in files])


def select(
    tree: context.Tree,
    sources: Sequence[str],
    *,
    excludes: Sequence[str] = (),
    parents: bool = False,
) -> Selection:
    """What ``sources`` name, words that are expanded. A pattern may match nothing; a plain name has to be there.

    ``excludes`` are relative to each source that is a folder. ``parents``: names are kept below the tree's root, or
    below `/./` in the source. The same selection of a tree is the same object. Raises ``BuildError``.
    """
    key = (tuple(sources), tuple(excludes), parents)
    found = tree.selections.get(key)
    if found is None:
        # Where two threads ask at once both get what one of them found.
        found = tree.selections.setdefault(key, _selected(tree, sources, excludes, parents=parents))
    assert isinstance(found, Selection)
    return found


def _selected(tree: context.Tree, sources: Sequence[str], excludes: Sequence[str], *, parents: bool) -> Selection:
    exclude = ignore.Matcher(ignore.of(excludes, what="--exclude")) if excludes else None
    roots: list[Root] = []
    for source in sources:
        try:
            roots += _with_parents(tree, source, exclude) if parents else _plain(tree, source, exclude)
        except context.Missing as exc:
            raise _missing(tree, source, str(exc)) from exc
        except globs.BadPattern as exc:
            raise errors.BuildError(f"`{source}` is no pattern", hint="a `[` needs its `]`") from exc
        except OSError as exc:
            raise errors.BuildError(f"`{exc.filename or source}` in {tree.name} can't be read: {exc.strerror}") from exc
    return Selection(tree, roots)


def literal(tree: context.Tree, path: str) -> Selection:
    """What is at a path of a tree that is known to have it, whatever signs its name has. Raises ``BuildError``."""
    try:
        return Selection(tree, [_root(tree, path, path.rpartition("/")[2], exclude=None)])
    except context.Missing as exc:
        raise _missing(tree, path, str(exc)) from exc
    except OSError as exc:
        raise errors.BuildError(f"`{path}` in {tree.name} can't be read: {exc.strerror}") from exc


class Named(NamedTuple):
    """What a source is about, whether or not it is there now."""

    path: str  # in the tree, canonical
    pattern: str  # of what is in the folder ``path``; "" for itself


def named(tree: context.Tree, source: str, *, parents: bool = False) -> list[Named]:
    """The same words as in ``select``. A folder that a pattern matches is there by itself: its content is meant."""
    top, pivot, pattern = source.partition("/./") if parents else (source, "", "")
    if parents and not pivot:
        top, pattern = "/", source
    if parents:
        pattern = globs.clean(f"/{pattern}").removeprefix("/")
        return [Named(_canonical(tree, path), pattern) for path in _matched(tree, top)]
    before, pattern = globs.split(f"/{source}")
    found = [Named(_canonical(tree, before.removeprefix("/")), pattern)]
    if pattern:
        matched = _matched(tree, source)
        found += [Named(_canonical(tree, path), "") for path in matched if _is_folder(tree, path)]
    return found


def _canonical(tree: context.Tree, path: str) -> str:
    try:
        return tree.find(path, follow=True)[0]
    except context.Missing:
        return path


def _plain(tree: context.Tree, source: str, exclude: ignore.Matcher | None) -> Iterator[Root]:
    for path in _matched(tree, source):
        name = path.rpartition("/")[2]
        if exclude is not None and name and globs.has_wildcards(source) and exclude.matches(name):
            continue  # what a pattern names may be excluded by its own name
        yield _root(tree, path, name, exclude=exclude)


def _with_parents(tree: context.Tree, source: str, exclude: ignore.Matcher | None) -> Iterator[Root]:
    top, pivot, pattern = source.partition("/./")
    if not pivot:
        top, pattern = "/", source
    pattern = globs.clean(f"/{pattern}").removeprefix("/")
    if not pattern:
        yield from (_root(tree, path, "", exclude=exclude) for path in _matched(tree, top))
        return
    include = ignore.Inclusion(ignore.of([pattern], what="--parents"))
    folders = _matched(tree, top)
    if globs.has_wildcards(top):
        folders = [path for path in folders if _is_folder(tree, path)]
    found = [_root(tree, path, "", exclude=exclude, include=include) for path in folders]
    wanted = not globs.has_wildcards(source)
    if wanted and not any(entry.relative == pattern for root in found for entry in root.entries):
        raise context.Missing(globs.clean(f"/{top}/{pattern}").removeprefix("/"))
    yield from found


def _matched(tree: context.Tree, source: str) -> list[str]:
    """Paths within the tree, whose last component may be a link. One that is no pattern is given back unseen."""
    before, pattern = globs.split(f"/{source}")
    before = before.removeprefix("/")
    if not pattern:
        return [before]
    try:
        top, status = tree.find(before, follow=True)
    except context.Missing:
        return []
    if not stat.S_ISDIR(status.st_mode):
        return []
    found = walk.matching(tree, top, pattern)
    return [f"{top}/{each}" if top else each for each in found]


def _root(
    tree: context.Tree,
    path: str,
    name: str,
    *,
    exclude: ignore.Matcher | None,
    include: ignore.Inclusion | None = None,
) -> Root:
    found, status = tree.find(path, follow=True)
    top = walk.Entry("", found, status, False)
    if not stat.S_ISDIR(status.st_mode):
        return Root(name, found, (top,))
    entries = walk.entries(tree, found, exclude=exclude, include=include)
    return Root(name, found, (top, *entries))


def _is_folder(tree: context.Tree, path: str) -> bool:
    try:
        return stat.S_ISDIR(tree.find(path, follow=True)[1].st_mode)
    except context.Missing:
        return False


def _missing(tree: context.Tree, source: str, path: str) -> errors.BuildError:
    where = f"in {tree.name}" if not os.path.isabs(tree.name) else f"in `{tree.name}`"
    culprit = tree.matcher.culprit(path) if tree.matcher is not None and path else None
    if culprit is None:
        return errors.BuildError(f"`{source}` is not {where}", hint="paths are relative to the context's folder")
    return errors.BuildError(
        f"`{source}` is not {where}: `{culprit.text}` in `{os.path.basename(culprit.file)}` leaves `{path}` out",
        hint=f"add a line `!{path}` to {culprit.file}, or take out line {culprit.line}",
    )
