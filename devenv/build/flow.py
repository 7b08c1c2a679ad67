"""Where a context's files come to lie in an image, and which command of the build can have read them on the way.

Pure but for looking what is a folder: it follows the graph that a build would do, by its own COPY and ADD.

    COPY package.json .        ─▶ RUN npm ci               read: what is above this file has to be made anew
    COPY . .                   ─▶ (no RUN behind it)       as it is, at its place
    COPY --from=build /app /   of what was copied there    as it is, at that place

A command may read all that lies below it and all that is mounted for it. What can't be told, as where a pattern picks
among another stage's files, counts as read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from devenv.build import archives, copying, globs, graph, ignore, placing, selection, work


class Filter(Protocol):
    """Of paths beneath a folder: what is left out."""

    def match(self, path: str) -> bool: ...

    def prune(self, folder: str) -> bool: ...


class Scope(NamedTuple):
    base: str  # the folder on this machine
    filter: Filter


class _LeftByName(ignore.Left):
    """What a source that is a pattern names goes by its own name alone."""

    def match(self, path: str) -> bool:
        return super().match(path.rpartition("/")[2])

    def prune(self, folder: str) -> bool:
        return False


class _NotWanted:
    """By ``--parents``: all but what its pattern is about."""

    def __init__(self, wanted: ignore.Inclusion) -> None:
        self._wanted = wanted

    def match(self, path: str) -> bool:
        return not self._wanted.matches(path)

    def prune(self, folder: str) -> bool:
        return not self._wanted.matches(folder) and not self._wanted.may_match(folder)


class _NotMatched:
    """By a source that is a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = globs.compiled(pattern)
        self._depth = pattern.count("/")

    def match(self, path: str) -> bool:
        return self._pattern.fullmatch(path) is None

    def prune(self, folder: str) -> bool:
        return folder.count("/") >= self._depth


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Piece:
    """What one source of a COPY or ADD names, and where it lies. Paths of this machine are absolute."""

    step: graph.Vertex
    top: str  # a file; or a folder, whose content is meant
    is_folder: bool
    flat: bool = False  # of what is in the folder each file goes into the target by its own name
    scopes: tuple[Scope, ...] = ()
    target: str = ""  # in the image: of a folder its place, of a file as COPY has it, see `placing`
    chmod: tuple[str, ...] = ()  # one after the other
    reader: graph.Vertex | None = None  # the first that makes something else of it
    why: str = ""  # what that one does with it
    lies: bool = False  # in the image at the end

    @property
    def place(self) -> str:
        """Of a folder's content, or of the file itself if nothing but the letters of its name decide."""
        if self.is_folder:
            return self.target.rstrip("/") or "/"
        return _joined(self.target, os.path.basename(self.top)) if placing.says_folder(self.target) else self.target

    def read_by(self, vertex: graph.Vertex, why: str) -> None:
        if self.reader is None:
            self.reader, self.why = vertex, why


def pieces(final: graph.Vertex) -> list[Piece]:
    """Of all that the image is made of, in the order in which they are put there: a later one lies over the others."""
    every: list[Piece] = []
    states: dict[str, list[Piece]] = {}
    for vertex in _ordered(final):
        held = list(states[vertex.inputs[0].id]) if vertex.inputs else []
        if isinstance(vertex.work, work.Run):
            for piece in held:
                piece.read_by(vertex, "can read it")
            every += _mounted(vertex, vertex.work, states)
        elif isinstance(vertex.work, copying.Transfer):
            origin = vertex.work.origin.vertex
            added = (
                _taken(vertex, vertex.work) if origin is None else _passed_on(vertex, vertex.work, states[origin.id])
            )
            held += added
            every += added
        states[vertex.id] = held
    for piece in states[final.id]:
        piece.lies = True
    return every


def _ordered(final: graph.Vertex) -> list[graph.Vertex]:
    found: dict[str, graph.Vertex] = {}

    def visit(vertex: graph.Vertex) -> None:
        if vertex.id in found:
            return
        for each in vertex.inputs:
            visit(each)
        found[vertex.id] = vertex

    visit(final)
    return list(found.values())


def _mounted(vertex: graph.Vertex, run: work.Run, states: dict[str, list[Piece]]) -> Iterator[Piece]:
    for mount in run.mounts:
        if mount.origin is None:
            continue
        if mount.origin.vertex is not None:
            for piece in states[mount.origin.vertex.id]:
                piece.read_by(vertex, "has it mounted")
        elif mount.origin.tree is not None:
            for piece in _named(vertex, mount.origin, mount.source):
                piece.read_by(vertex, "has it mounted")
                yield piece


def _taken(vertex: graph.Vertex, made: copying.Transfer) -> list[Piece]:
    """From a folder of this machine."""
    target = placing.destination(made.target, made.folder)
    excludes = ignore.Matcher(ignore.of(made.excludes, what="--exclude")) if made.excludes else None
    # With several sources the target has to be a folder, and says so.
    found = [piece for source in made.sources for piece in _named(vertex, made.origin, source, parents=made.parents)]
    for piece in found:
        piece.target = target
        piece.chmod = (made.chmod,) if made.chmod else ()
        if excludes is not None and (piece.is_folder or piece.flat):
            left = _LeftByName(excludes) if piece.flat else ignore.Left(excludes)
            piece.scopes = (*piece.scopes, Scope(piece.top, left))
        if piece.flat and not placing.says_folder(target):
            piece.read_by(vertex, "decides by what its pattern matches where it goes")
        elif made.unpack and (piece.flat or (not piece.is_folder and _is_archive(piece.top))):
            piece.read_by(vertex, "unpacks archives")
    return found


def _named(vertex: graph.Vertex, origin: copying.Origin, source: str, *, parents: bool = False) -> Iterator[Piece]:
    tree = origin.tree
    if tree is None or not os.path.isdir(tree.name):
        return
    root = os.path.realpath(tree.name)
    scopes = (Scope(root, ignore.Left(tree.matcher)),) if tree.matcher is not None else ()
    for each in selection.named(tree, source, parents=parents):
        top = _joined(root, each.path) if each.path else root
        if not each.pattern:
            yield Piece(step=vertex, top=top, is_folder=os.path.isdir(top), scopes=scopes)
        elif parents:
            wanted = ignore.Inclusion(ignore.of([each.pattern], what="--parents"))
            yield Piece(step=vertex, top=top, is_folder=True, scopes=(*scopes, Scope(top, _NotWanted(wanted))))
        else:
            inner = (*scopes, Scope(top, _NotMatched(each.pattern)))
            yield Piece(step=vertex, top=top, is_folder=True, flat=True, scopes=inner)


def _passed_on(vertex: graph.Vertex, made: copying.Transfer, held: Sequence[Piece]) -> list[Piece]:
    """What another stage or image has, as it was put there."""
    target = placing.destination(made.target, made.folder)
    found = []
    for source in made.sources:
        plain = not (globs.has_wildcards(source) or made.parents or made.excludes)
        path = globs.clean(f"/{source}")
        for piece in held:
            if not plain:
                piece.read_by(vertex, "picks among what it is copied with")
                continue
            moved = _moved(piece, path, target, several=len(made.sources) > 1)
            if moved is not None:
                moved.step = piece.step
                moved.chmod = (*piece.chmod, made.chmod) if made.chmod else piece.chmod
                found.append(moved)
    return found


def _moved(piece: Piece, path: str, target: str, *, several: bool) -> Piece | None:
    """``piece`` where COPY puts it that takes ``path`` to ``target``; None where it takes none of it."""
    place = piece.place
    within = below(path, place)
    if within is not None:
        if within:
            return dataclasses.replace(piece, target=_joined(target.removesuffix("."), within), reader=None, why="")
        if not piece.is_folder and several:
            target = f"{target.rstrip('/')}/"
        return dataclasses.replace(piece, target=target, reader=None, why="")
    inner = below(place, path)
    if inner is None or not piece.is_folder:
        return None
    top = _joined(piece.top, inner)
    narrower = dataclasses.replace(piece, top=top, is_folder=os.path.isdir(top), flat=False, target=target)
    narrower.reader, narrower.why = None, ""
    return narrower


def below(base: str, path: str) -> str | None:
    """``path`` relative to ``base``, "" for ``base`` itself, None if it isn't in there."""
    if path == base:
        return ""
    prefix = f"{base.rstrip('/')}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def _joined(folder: str, name: str) -> str:
    return f"{folder.removesuffix('.').rstrip('/')}/{name}"


def _is_archive(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return archives.is_archive(file.fileno())
    except OSError:
        return False
