"""COPY and ADD as a step of the graph: which files, by their content, and how they come to lie in the image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from devenv import errors
from devenv.build import context, graph, layers, selection, transfer
from devenv.build.dockerfile import instructions, words
from devenv.util import fs, paths

if TYPE_CHECKING:
    from devenv.build import adding, fetch, git


class Fetching(NamedTuple):
    """What takes files from elsewhere."""

    fetcher: fetch.Fetcher
    repositories: git.Repositories


Remote = Callable[[], Fetching]


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
    words: tuple[str, ...]  # as they are in the history
    sources: tuple[str, ...]  # those in the origin
    remote: tuple[adding.Source, ...]
    documents: tuple[tuple[str, str], ...]  # heredocs: name, content
    target: str
    folder: str  # that the target is relative to
    chown: str
    chmod: str
    excludes: tuple[str, ...]
    parents: bool
    link: bool
    unpack: bool  # archives are unpacked
    unpack_remote: bool
    found: list[selection.Selection] = dataclasses.field(default_factory=list)  # in a folder, when its digest was made

    def describe(self) -> Any:
        return ["transfer", self.origin.describe(), self._own()]

    def _own(self) -> dict[str, Any]:
        return {
            "kind": "copy" if self.is_copy else "add",
            "sources": list(self.words),
            "documents": [list(each) for each in self.documents],
            "target": self.target,
            "working directory": self.folder,
            "owner": self.chown,
            "mode": self.chmod,
            "excludes": list(self.excludes),
            "parents": self.parents,
            "link": self.link,
            "unpack": [self.unpack, self.unpack_remote],
        }

    def parts(self, tools: layers.Tools, inputs: graph.Inputs) -> graph.Parts:
        state = inputs[1] if self.origin.vertex else None
        return {**self._own(), "files": self._digest(state, tools), "fetched": [each.key() for each in self.remote]}

    def _digest(self, state: layers.State | None, tools: layers.Tools) -> str:
        if not self.sources:
            return ""
        if self.origin.tree is not None:
            self.found[:] = [self._select(self.origin.tree)]
            return self.found[-1].digest()
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
            if self.sources:
                tree = held.enter_context(opened(self.origin, state, room.tools))
                try:
                    # What the step's key was made of, and nothing newer.
                    chosen = self.found[-1] if self.found else self._select(tree)
                    self._put(chosen, image, passwd, unpack=self.unpack)
                except transfer.Changed:
                    tree.forget(chosen)
                    raise
            for each in self.remote:
                fetched = each.selection(excludes=self.excludes)
                if fetched.tree is not None:
                    held.enter_context(fetched.tree)
                self._put(fetched, image, passwd, unpack=self.unpack_remote)
            if self.documents:
                self._put(selection.inline(self.documents), image, passwd, unpack=False)

    def _put(self, chosen: selection.Selection, image: int, passwd: int | None, *, unpack: bool) -> None:
        transfer.copy(
            chosen,
            image,
            self.target,
            cwd=self.folder,
            chown=self.chown,
            chmod=self.chmod,
            passwd=passwd,
            unpack=unpack,
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
    remote: Remote,
) -> Transfer:
    given = tuple(map(expand, at.sources))
    local, fetched = _added(at, given, expand, remote)
    return Transfer(
        origin=origin,
        is_copy=isinstance(at, instructions.Copy),
        words=given,
        sources=local,
        remote=fetched,
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
        unpack_remote=isinstance(at, instructions.Add) and at.unpack is True,
    )


def _added(
    at: instructions.Transfer, given: tuple[str, ...], expand: Callable[[str], str], remote: Remote
) -> tuple[tuple[str, ...], tuple[adding.Source, ...]]:
    """Those in the context, and those that are fetched."""
    if not isinstance(at, instructions.Add):
        return given, ()
    # HTTP and git cost 25 ms that an ADD of the context's files shall not pay.
    if not at.checksum and not any(":" in word for word in given):
        return given, ()
    from devenv.build import adding

    tools = remote()
    return adding.sources(
        given,
        fetcher=tools.fetcher,
        repositories=tools.repositories,
        checksum=expand(at.checksum),
        keep_git_dir=at.keep_git_dir,
    )


def _remembered(where: paths.Paths, key: str) -> str | None:
    value = fs.read_json(f"{where.data}/build/selections/{key}.json")
    return str(value["digest"]) if isinstance(value, dict) and "digest" in value else None


def _remember(where: paths.Paths, key: str, digest: str) -> None:
    os.makedirs(f"{where.data}/build/selections", mode=0o700, exist_ok=True)
    fs.write_json(f"{where.data}/build/selections/{key}.json", {"digest": digest})
