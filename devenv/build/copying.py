"""COPY and ADD as a step of the graph: which files, by their content, and how they come to lie in the image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import context, graph, layers, selection, transfer
from devenv.build.dockerfile import instructions, words
from devenv.util import fs, paths

ATTEMPTS = 3  # at files that somebody writes meanwhile


class Origin(NamedTuple):
    """What files are taken from: a stage's or an image's root filesystem, or a folder on this machine."""

    name: str  # "" for the request's own context
    vertex: graph.Vertex | None = None
    tree: context.Tree | None = None
    identity: str = ""  # of the tree

    def describe(self) -> str:
        return self.vertex.id if self.vertex else self.identity


@contextlib.contextmanager
def opened(origin: Origin, state: layers.State | None, tools: layers.Tools) -> Iterator[context.Tree]:
    if origin.tree is not None:
        yield origin.tree
        return
    assert state is not None
    with context.filesystem(layers.shown(tools, state), name=f"`{origin.name}`") as tree:
        yield tree


def digest(
    origin: Origin,
    sources: Sequence[str],
    state: layers.State | None,
    tools: layers.Tools,
    *,
    excludes: Sequence[str] = (),
    parents: bool = False,
) -> str:
    """Of what is selected. What a root filesystem shows never changes, so what was found of it counts for ever."""
    known = graph.identity(layers.chain_id(state), sources, excludes, parents) if state is not None else ""
    found = _remembered(tools.where, known) if known else None
    if found is None:
        with opened(origin, state, tools) as tree:
            found = selection.select(tree, sources, excludes=excludes, parents=parents).digest()
        if known:
            _remember(tools.where, known, found)
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    origin: Origin
    is_copy: bool
    sources: tuple[str, ...]
    documents: tuple[tuple[str, str], ...]  # heredocs: name, content
    target: str
    folder: str  # that the target is relative to
    chown: str
    chmod: str
    excludes: tuple[str, ...]
    parents: bool
    link: bool
    unpack: bool  # archives are unpacked

    def describe(self) -> Any:
        return ["transfer", self.origin.describe(), self._own()]

    def _own(self) -> dict[str, Any]:
        return {
            "kind": "copy" if self.is_copy else "add",
            "sources": list(self.sources),
            "documents": [list(each) for each in self.documents],
            "target": self.target,
            "working directory": self.folder,
            "owner": self.chown,
            "mode": self.chmod,
            "excludes": list(self.excludes),
            "parents": self.parents,
            "link": self.link,
            "unpack": self.unpack,
        }

    def parts(self, tools: layers.Tools, inputs: graph.Inputs) -> graph.Parts:
        state = inputs[1] if self.origin.vertex else None
        return {**self._own(), "files": self._digest(state, tools)}

    def _digest(self, state: layers.State | None, tools: layers.Tools) -> str:
        if not self.sources:
            return ""
        return digest(self.origin, self.sources, state, tools, excludes=self.excludes, parents=self.parents)

    def _select(self, tree: context.Tree) -> selection.Selection:
        return selection.select(tree, self.sources, excludes=self.excludes, parents=self.parents)

    def perform(self, room: graph.Room, inputs: graph.Inputs, lower: tuple[str, ...]) -> None:
        state = inputs[1] if self.origin.vertex else None
        with contextlib.ExitStack() as held:
            image = layers.writable(room.folder.path, lower)
            held.callback(os.close, image)
            # A linked layer is the same whatever lies below it, but for the names that an owner is looked up by.
            passwd = None
            if self.link:
                passwd = layers.shown(room.tools, inputs[0])
                held.callback(os.close, passwd)
            for chosen in self._chosen(held, room.tools, state):
                self._put(chosen, image, passwd)

    def _chosen(
        self, held: contextlib.ExitStack, tools: layers.Tools, state: layers.State | None
    ) -> Iterator[selection.Selection]:
        if self.sources:
            tree = held.enter_context(opened(self.origin, state, tools))
            yield self._select(tree)
        if self.documents:
            yield selection.inline(self.documents)

    def _put(self, chosen: selection.Selection, image: int, passwd: int | None) -> None:
        transfer.copy(
            chosen,
            image,
            self.target,
            cwd=self.folder,
            chown=self.chown,
            chmod=self.chmod,
            passwd=passwd,
            unpack=self.unpack,
        )


def _document(given: instructions.Heredoc, variables: dict[str, str], at: instructions.Transfer) -> str:
    try:
        return words.expand_document(given.content, variables)
    except words.WordError as exc:
        place = at.place
        raise errors.BuildError(
            f"in `{given.name}`: {exc}",
            file=place.file,
            line=place.line,
            column=place.column,
            excerpt=place.excerpt,
            hint=f"write <<'{given.name}' to keep its text as it is",
        ) from exc


def read(
    at: instructions.Transfer,
    expand: Callable[[str], str],
    variables: dict[str, str],
    origin: Origin,
    *,
    folder: str,
) -> Transfer:
    return Transfer(
        origin=origin,
        is_copy=isinstance(at, instructions.Copy),
        sources=tuple(map(expand, at.sources)),
        documents=tuple(
            (each.name, _document(each, variables, at) if each.expand else each.content) for each in at.heredocs
        ),
        target=expand(at.target),
        folder=folder,
        chown=expand(at.chown),
        chmod=expand(at.chmod),
        excludes=tuple(map(expand, at.excludes)),
        parents=isinstance(at, instructions.Copy) and at.parents,
        link=at.link,
        unpack=isinstance(at, instructions.Add) and at.unpack is not False,
    )


def _remembered(where: paths.Paths, key: str) -> str | None:
    value = fs.read_json(f"{where.data}/build/selections/{key}.json")
    return str(value["digest"]) if isinstance(value, dict) and "digest" in value else None


def _remember(where: paths.Paths, key: str, digest: str) -> None:
    os.makedirs(f"{where.data}/build/selections", mode=0o700, exist_ok=True)
    fs.write_json(f"{where.data}/build/selections/{key}.json", {"digest": digest})
