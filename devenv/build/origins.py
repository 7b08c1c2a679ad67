"""Where an image has the files of its context, and which steps have read them: by the text of a Dockerfile alone.

    COPY . /app              src/a.py ─▶ /app/src/a.py
    RUN npm run build        reads all that is there by then: what comes of a change only a build tells
    COPY --from=x /out /srv  what x copied and no step of it read is followed; what one read is not

So for each file of the context there is a place in the image that has its very bytes, or the first step to do again.
Where the text can't say (a pattern, a folder of the base image), it is the step itself that is to be done again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from devenv import errors
from devenv.build import globs
from devenv.build.dockerfile import instructions, names, words

_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Flow(NamedTuple):
    """What is at ``source`` in the context (``""`` is all of it), and what becomes of it."""

    source: str
    target: str  # in the image; with a slash behind it if it is a folder that a file goes into
    step: instructions.Instruction  # that takes it
    excludes: tuple[str, ...] = ()
    reader: instructions.Instruction | None = None  # the step to begin anew with; None: the bytes are in ``target``
    because: str = ""  # of a reader that reads nothing: why it can't be followed


class Found(NamedTuple):
    flows: tuple[Flow, ...]
    base: str  # the image at the bottom
    command: str  # of ENTRYPOINT and CMD, as a line; "" where the Dockerfile has none


def find(
    dockerfile: instructions.Dockerfile,
    *,
    target: str,
    arguments: Mapping[str, str | None],
    is_folder: Callable[[str], bool],
) -> Found:
    """``is_folder``: whether a path of the context is one. Raises ``BuildError`` for a target that isn't there."""
    wanted = names.find(dockerfile, target)
    known: dict[int, _Stage] = {}
    outer = _Variables(arguments, dockerfile.directives.get("escape", "\\"))
    for each in dockerfile.arguments:
        outer.declare(each)
    for stage in dockerfile.stages[: wanted.number + 1]:
        known[stage.number] = _Stage(dockerfile, stage, known, outer, is_folder)
    last = known[wanted.number]
    return Found(tuple(last.flows), last.base, " ".join(filter(None, (last.entrypoint, last.command))))


class _Variables:
    def __init__(self, given: Mapping[str, str | None], escape: str) -> None:
        self._given = given
        self._escape = escape
        self.values: dict[str, str] = {}

    def declare(self, at: instructions.Arg) -> None:
        for name, default in at.pairs:
            value = self._given.get(name)
            if value is None and default is not None:
                value = self.expand(default)
            if value is not None:
                self.values[name] = value

    def inner(self) -> _Variables:
        """Of a stage: the arguments before FROM count where the stage declares them."""
        return _Variables({**self.values, **{k: v for k, v in self._given.items() if v is not None}}, self._escape)

    def expand(self, text: str) -> str:
        return words.expand(text, self.values, escape=self._escape)


class _Stage:
    """One stage, read to its end."""

    def __init__(
        self,
        dockerfile: instructions.Dockerfile,
        stage: instructions.Stage,
        known: Mapping[int, _Stage],
        outer: _Variables,
        is_folder: Callable[[str], bool],
    ) -> None:
        self._dockerfile = dockerfile
        self._stage = stage
        self._known = known
        self._is_folder = is_folder
        image = _tried(outer.expand, stage.start.image)
        below = names.base(dockerfile, stage, image)
        under = known[below.number] if below is not None else None
        self._variables = outer.inner()
        self._variables.values = dict(under._variables.values) if under else {}
        self.flows: list[Flow] = list(under.flows) if under else []
        self.base: str = under.base if under else image
        self.command: str = under.command if under else ""
        self.entrypoint: str = under.entrypoint if under else ""
        # Of an image from elsewhere nobody knows it here.
        self._folder: str | None = under._folder if under else "/" if image == names.SCRATCH else None
        for each in stage.instructions:
            self._read(each)

    def _read(self, at: instructions.Instruction) -> None:
        match at:
            case instructions.Arg():
                self._variables.declare(at)
            case instructions.Env():
                for name, value in at.pairs:
                    self._variables.values[_tried(self._variables.expand, name)] = _tried(self._variables.expand, value)
            case instructions.Workdir():
                path = _tried(self._variables.expand, at.path)
                self._folder = self._absolute(path)
            case instructions.Cmd():
                self.command = _line(at)
            case instructions.Entrypoint():
                self.entrypoint, self.command = _line(at), ""
            case instructions.Run():
                self._run(at)
            case instructions.Copy() if at.source:
                self._copy_from(at)
            case instructions.Transfer():
                self._copy(at)

    def _absolute(self, path: str) -> str | None:
        if path.startswith("/"):
            return posixpath.normpath(path)
        return None if self._folder is None else posixpath.normpath(f"{self._folder}/{path}")

    def _run(self, at: instructions.Run) -> None:
        self.flows = [each if each.reader else each._replace(reader=at) for each in self.flows]
        for each in at.mounts:
            fields = dict(each.fields)
            if each.kind != "bind":
                continue
            source = _tried(self._variables.expand, fields.get("source") or "").strip("/")
            if not fields.get("from"):
                self.flows.append(Flow(source, "", at, reader=at))
                continue
            other = self._other(fields["from"], at)
            self.flows += [flow._replace(reader=flow.reader or at) for flow in (other.flows if other else ())]

    def _other(self, name: str, at: instructions.Instruction) -> _Stage | None:
        try:
            found = names.source(self._dockerfile, self._stage, name, at)
        except errors.BuildError:
            return None
        return self._known[found.number] if found is not None else None

    # -- copies

    def _copy(self, at: instructions.Transfer) -> None:
        try:
            sources = [self._variables.expand(each) for each in at.sources]
            target = self._variables.expand(at.target)
            excludes = tuple(map(self._variables.expand, at.excludes))
        except words.WordError:
            self.flows.append(Flow("", "", at, reader=at, because="its words can't be read"))
            return
        place = self._absolute(target)
        for source in sources:
            if "://" in source or source.startswith("git@"):
                continue
            path = _normal(source)
            because = self._unfollowed(at, source, place)
            if because:
                self.flows.append(Flow(_fixed(path), "", at, reader=at, because=because))
                continue
            assert place is not None
            folder = target.endswith(("/", "/.")) or target in {"", "."} or len(sources) > 1
            self.flows.append(Flow(path, self._place(path, place, folder=folder), at, excludes))

    def _place(self, path: str, place: str, *, folder: bool) -> str:
        if self._is_folder(path):
            return place
        return f"{place.rstrip('/')}/{posixpath.basename(path)}" if folder or place == self._folder else place

    def _unfollowed(self, at: instructions.Transfer, source: str, place: str | None) -> str:
        if place is None:
            return "its folder is one of the base image's"
        if globs.has_wildcards(source):
            return "it takes what a pattern matches"
        if at.chmod or (isinstance(at, instructions.Copy) and at.parents):
            return f"`{'--chmod' if at.chmod else '--parents'}` changes what it takes"
        if isinstance(at, instructions.Add) and source.endswith(_ARCHIVES):
            return "an archive is unpacked"
        return ""

    def _copy_from(self, at: instructions.Copy) -> None:
        other = self._other(at.source, at)
        if other is None:
            return
        try:
            sources = [f"/{self._variables.expand(each).strip('/')}" for each in at.sources]
            target = self._variables.expand(at.target)
        except words.WordError:
            sources, target = [], ""
        place = self._absolute(target)
        followed = place is not None and sources and not any(map(globs.has_wildcards, sources))
        for flow in other.flows:
            if flow.reader or not followed or place is None:
                self.flows.append(flow._replace(reader=flow.reader or at))
                continue
            folder = target.endswith("/") or len(sources) > 1
            self.flows += self._carried(flow, sources, place, at, folder=folder)

    def _carried(
        self, flow: Flow, sources: Iterable[str], place: str, at: instructions.Copy, *, folder: bool
    ) -> Iterable[Flow]:
        """What is copied on of something that another stage has."""
        for source in sources:
            inner = _below(source, flow.target)
            if inner is not None:
                # The whole of it, in what is taken.
                lands = f"{place.rstrip('/')}/{inner}" if inner else place
                if not inner and not self._is_folder(flow.source):
                    lands = self._place(flow.source, place, folder=folder)
                yield flow._replace(target=posixpath.normpath(lands), step=at)
                continue
            part = _below(flow.target, source)
            if part and self._is_folder(flow.source):
                taken = f"{flow.source}/{part}".strip("/")
                yield flow._replace(source=taken, target=self._place(taken, place, folder=folder), step=at)


def _below(base: str, path: str) -> str | None:
    base = posixpath.normpath(base)
    if base == path:
        return ""
    prefix = base if base.endswith("/") else f"{base}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def _normal(source: str) -> str:
    path = posixpath.normpath(f"/{source}").strip("/")
    return "" if path == "." else path


def _fixed(pattern: str) -> str:
    """The folder above the first part with a wildcard in it."""
    parts = pattern.split("/")
    kept = next((number for number, part in enumerate(parts) if globs.has_wildcards(part)), len(parts))
    return "/".join(parts[:kept])


def _line(at: instructions.Command) -> str:
    return " ".join(at.words) if at.words is not None else at.shell


def _tried(expand: Callable[[str], str], text: str) -> str:
    try:
        return expand(text)
    except words.WordError:
        return text
