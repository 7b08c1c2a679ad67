"""A Dockerfile and a request become a graph, and the config of the image at its end.

    FROM ─▶ which stages the target needs ─▶ their bases, resolved ─▶ stage by stage, instruction by instruction:
            words expanded with the variables so far, a vertex for what makes a layer, config and history for the rest

Nothing is built here. ONBUILD's triggers of a base are read as if they stood behind its FROM.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import (
    bases,
    context,
    copying,
    graph,
    history,
    mounts,
    request,
    run,
    scope,
    sources,
    stages,
    work,
)
from devenv.build.dockerfile import instructions, malformed, names, parser, words
from devenv.build.dockerfile import mounts as mount
from devenv.image import config as image_config
from devenv.image import descriptor
from devenv.runtime import signals

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp)?)?", re.ASCII | re.IGNORECASE)
DEFAULT_SHELL = ("/bin/sh", "-c")


class Line(NamedTuple):
    """Of an image's history."""

    text: str
    vertex: graph.Vertex | None  # whose layer it is


@dataclasses.dataclass(slots=True)
class Draft:
    """An image as far as its stage has been read."""

    base: Mapping[str, Any]  # the config of the image below, whole
    vertex: graph.Vertex
    config: dict[str, Any]
    lines: list[Line]
    author: str = ""
    has_command: bool = False  # CMD was said in this stage

    @property
    def env(self) -> dict[str, str]:
        return dict(each.partition("=")[::2] for each in self.config.get("Env") or [])

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def folder(self) -> str:
        return str(self.config.get("WorkingDir") or "/")


class Converted(NamedTuple):
    draft: Draft
    platform: descriptor.Platform
    epoch: int | None


class Converter:
    """For one request and one platform."""

    def __init__(
        self,
        given: request.Request,
        dockerfile: instructions.Dockerfile,
        *,
        target: descriptor.Platform,
        found: bases.Bases,
        source: sources.Sources,
        machine: run.Machine,
        prefix: str = "",
    ) -> None:
        """``prefix``: what tells this one's steps from those of other platforms."""
        self._request = given
        self._dockerfile = dockerfile
        self._platform = target
        self._bases = found
        self._sources = source
        self.machine = machine
        self._prefix = prefix
        self._escape = dockerfile.directives.get("escape", "\\")
        self._target = names.find(dockerfile, given.target)
        name = self._target.name or ("default" if not given.target else str(self._target.number))
        self._arguments = scope.Arguments(given, target, name)
        self._globals: dict[str, str | None] = {}
        self._drafts: dict[int, Draft] = {}
        self._scopes: dict[int, scope.Stage] = {}
        self.epoch = self._arguments.epoch

    def convert(self) -> Converted:
        """Raises ``BuildError`` with the line to blame, ``ImageError``."""
        self._read_globals()
        needed = stages.needed(self._dockerfile, self._target, base=self._below, source=self._taken_from)
        for stage in needed:
            self._drafts[stage.number] = self._convert(stage)
        return Converted(self._drafts[self._target.number], self._platform, self.epoch)

    def _read_globals(self) -> None:
        for arg in self._dockerfile.arguments:
            for name, default in arg.pairs:
                seen = {**self._arguments.automatic, **_there(self._globals)}
                wanted = default is not None and self._arguments.find(name) is None
                value = self.expand(default or "", seen, arg) if wanted else None
                self._globals[name] = scope.global_arguments(self._arguments, name, value, self._globals)

    def _below(self, stage: instructions.Stage) -> instructions.Stage | None:
        """The one that FROM names, if a named context doesn't stand in its place."""
        image = self.base_name(stage)
        return None if image in self._request.contexts else names.base(self._dockerfile, stage, image)

    def _taken_from(
        self, stage: instructions.Stage, name: str, at: instructions.Instruction
    ) -> instructions.Stage | None:
        return None if name in self._request.contexts else names.source(self._dockerfile, stage, name, at)

    def expand(self, word: str, variables: Mapping[str, str], at: instructions.Instruction) -> str:
        try:
            return words.expand(word, variables, escape=self._escape)
        except words.WordError as exc:
            raise wrong(at, str(exc)) from exc

    def expand_words(self, word: str, variables: Mapping[str, str], at: instructions.Instruction) -> list[str]:
        try:
            return words.expand_words(word, variables, escape=self._escape)
        except words.WordError as exc:
            raise wrong(at, str(exc)) from exc

    # -- one stage --------------------------------------------------------------------------------------------------

    def _convert(self, stage: instructions.Stage) -> Draft:
        draft, triggers = self._start(stage)
        draft.config.pop("OnBuild", None)
        platform = self.platform_of(stage)
        below = self._below(stage)
        variables = self._scopes[stage.number] = scope.Stage(
            self._arguments, self._globals, draft.env, below=self._scopes[below.number] if below else None
        )
        every = [*triggers, *stage.instructions]
        steps = 1 + sum(_makes_step(each) for each in every)
        reading = Reading(self, stage, draft, variables, steps=steps, platform=platform)
        for each in every:
            reading.read(each)
        return draft

    def _start(self, stage: instructions.Stage) -> tuple[Draft, list[instructions.Instruction]]:
        image = self.base_name(stage)
        below = self._below(stage)
        if below is not None:
            draft = self._drafts[below.number]
            config = {key: _copied(value) for key, value in draft.config.items()}
            made = Draft(draft.base, draft.vertex, config, list(draft.lines), draft.author)
        else:
            made = self._from_image(stage, image)
        if not made.env.get("PATH") and "PATH" not in made.env:
            made.config["Env"] = [image_config.DEFAULT_PATH, *(made.config.get("Env") or [])]
        return made, self._triggers(made, stage, image)

    def base_name(self, stage: instructions.Stage) -> str:
        seen = {**self._arguments.automatic, **_there(self._globals)}
        image = self.expand(stage.start.image, seen, stage.start)
        if not image:
            raise wrong(stage.start, f"`FROM {stage.start.image}` names no image: a variable in it is empty")
        return image

    def _from_image(self, stage: instructions.Stage, image: str) -> Draft:
        platform = self.platform_of(stage)
        try:
            base = self._bases.resolve(image, scope.machine(platform))
        except errors.DevenvError as exc:
            raise wrong(stage.start, exc.message, hint=exc.hint, note=exc.note) from exc
        vertex = _source(base, image, stage.start)
        config = {key: _copied(value) for key, value in (base.config.get("config") or {}).items() if value is not None}
        return Draft(base.config, vertex, config, [], str(base.config.get("author") or ""))

    def platform_of(self, stage: instructions.Stage) -> descriptor.Platform:
        if not stage.start.platform:
            return self._platform
        seen = {**self._arguments.automatic, **_there(self._globals)}
        try:
            return scope.wanted(self.expand(stage.start.platform, seen, stage.start))
        except errors.ImageError as exc:
            raise wrong(stage.start, exc.message, hint=exc.hint) from exc

    def _triggers(self, draft: Draft, stage: instructions.Stage, image: str) -> list[instructions.Instruction]:
        texts = [str(each) for each in draft.config.get("OnBuild") or []]
        if not texts:
            return []
        found = [parser.parse_instruction(text, file=f"ONBUILD of {image}") for text in texts]
        # What is wrong with one is told where the image is named.
        return [dataclasses.replace(each, place=stage.start.place) for each in found]

    # -- what readings ask --------------------------------------------------------------------------------------------

    def step_name(self, stage: instructions.Stage, number: int, count: int, text: str) -> str:
        multiple = len(self._dockerfile.stages) > 1
        label = stage.name or f"stage-{stage.number}" if multiple or stage.name else ""
        words_ = [each for each in (self._prefix, label, f"{number}/{count}") if each]
        return f"[{' '.join(words_)}] {text}"

    def is_fresh(self, stage: instructions.Stage) -> bool:
        if self._request.no_cache:
            return True
        return bool(self._request.no_cache_stages & {stage.name, str(stage.number)} - {""})

    @property
    def request(self) -> request.Request:
        return self._request

    @property
    def arguments(self) -> scope.Arguments:
        return self._arguments

    def source(self, stage: instructions.Stage, name: str, at: instructions.Instruction) -> copying.Origin:
        """What ``--from`` means: a stage before, an image, or a folder under that name."""
        found = self._taken_from(stage, name, at)
        if found is not None and found.number in self._drafts:
            return copying.Origin(name, vertex=self._drafts[found.number].vertex)
        if name in self._request.contexts and not bases.is_image(self._request.contexts[name]):
            return self._of_tree(name, self._sources.named(name))
        try:
            base = self._bases.resolve(name, scope.machine(self.platform_of(stage)))
        except errors.DevenvError as exc:
            raise wrong(at, exc.message, hint=exc.hint, note=exc.note) from exc
        return copying.Origin(name, vertex=_source(base, name, at))

    def own_context(self) -> copying.Origin:
        return self._of_tree("", self._sources.main())

    def remote(self) -> copying.Fetching:
        return self._sources.fetching()

    def _of_tree(self, name: str, tree: context.Tree) -> copying.Origin:
        return copying.Origin(name, tree=tree, identity=self._sources.identity(tree))


class Reading:
    """The instructions of one stage, one after the other."""

    def __init__(
        self,
        converter: Converter,
        stage: instructions.Stage,
        draft: Draft,
        variables: scope.Stage,
        *,
        steps: int,
        platform: descriptor.Platform,
    ) -> None:
        self._converter = converter
        self._stage = stage
        self._draft = draft
        self._scope = variables
        self._steps = steps
        self._platform = platform
        self._done = 1

    def read(self, each: instructions.Instruction) -> None:
        _READERS[type(each)](self, each)

    def _expand(self, word: str, at: instructions.Instruction) -> str:
        return self._converter.expand(word, self._scope.visible, at)

    def _line(self, text: str, vertex: graph.Vertex | None = None) -> None:
        self._draft.lines.append(Line(text, vertex))

    def _vertex(
        self,
        at: instructions.Instruction,
        made: graph.Work,
        *,
        others: Sequence[graph.Vertex] = (),
        alone: bool = False,
    ) -> graph.Vertex:
        self._done += 1
        below = self._draft.vertex
        fresh = self._converter.is_fresh(self._stage)
        vertex = graph.Vertex(
            id=graph.identity(below.id, [each.id for each in others], made.describe(), fresh, self._converter.epoch),
            name=self._converter.step_name(self._stage, self._done, self._steps, at.text),
            service=self._converter.request.service,
            place=at.place,
            inputs=(below, *others),
            work=made,
            fresh=fresh,
            alone=alone,
            epoch=self._converter.epoch,
        )
        self._draft.vertex = vertex
        return vertex

    # -- what makes layers

    def _run(self, at: instructions.Run) -> None:
        if at.devices:
            raise wrong(at, "`RUN --device` is not there yet", hint="docs/limits.md says what else is not")
        args, script = self._arguments(at)
        command = work.command(
            self._converter.request,
            args=args,
            env={**self._converter.arguments.proxies, **self._scope.visible},
            cwd=self._draft.folder,
            user=str(self._draft.config.get("User") or ""),
            at=at,
        )
        found = tuple(self._mount(each, at) for each in at.mounts)
        others = tuple(each.origin.vertex for each in found if each.origin and each.origin.vertex)
        made = work.Run(
            command=command,
            hidden=frozenset(self._converter.arguments.proxies) - set(self._scope.visible),
            mounts=found,
            script=script,
            request=self._converter.request,
            platform=self._platform,
            machine=self._converter.machine,
        )
        vertex = self._vertex(at, made, others=others)
        self._line(history.run(args, self._scope.shown), vertex)

    def _arguments(self, at: instructions.Run) -> tuple[tuple[str, ...], work.Script | None]:
        """What is executed; a heredoc alone is the script itself, by its own interpreter if it names one."""
        if at.words is not None:
            if not at.words or not at.words[0]:
                raise wrong(at, "`RUN` names no program")
            return at.words, None
        program = at.program
        if program is not None:
            return (f"{work.SCRIPTS}/{program.name}",), work.Script(program.name, program.content)
        return (*self._draft.shell, at.script), None

    def _command(self, at: instructions.Command) -> tuple[str, ...]:
        return at.words if at.words is not None else (*self._draft.shell, at.shell)

    def _mount(self, given: instructions.Mount, at: instructions.Instruction) -> mounts.Mount:
        try:
            found = mount.settle(given, lambda value: self._expand(value, at))
        except malformed.Malformed as exc:
            raise wrong(at, str(exc), hint=exc.hint) from exc
        origin = None
        if found.kind in {"bind", "cache"} and found.origin:
            origin = self._converter.source(self._stage, found.origin, at)
        elif found.kind == "bind":
            origin = self._converter.own_context()
        return mounts.read(found, origin, at, folder=self._draft.folder)

    def _transfer(self, at: instructions.Transfer) -> None:
        named = at.source if isinstance(at, instructions.Copy) else ""
        origin = self._converter.source(self._stage, self._expand(named, at), at) if named else None
        try:
            made = copying.read(
                at,
                lambda word: self._expand(word, at),
                self._scope.visible,
                origin or self._converter.own_context(),
                folder=self._draft.folder,
                remote=self._converter.remote,
            )
        except errors.BuildError as exc:
            raise exc if exc.line is not None else wrong(at, exc.message, hint=exc.hint) from exc
        others = (made.origin.vertex,) if made.origin.vertex else ()
        vertex = self._vertex(at, made, others=others, alone=at.link)
        text = history.transfer(
            "COPY" if made.is_copy else "ADD",
            made.words,
            made.target,
            heredocs=[each.name for each in at.heredocs],
            chown=made.chown,
            chmod=made.chmod,
            parents=made.parents,
        )
        self._line(text, vertex)

    def _workdir(self, at: instructions.Workdir) -> None:
        path = posixpath.normpath(posixpath.join("/", self._draft.folder, self._expand(at.path, at)))
        path = f"/{path.lstrip('/')}"
        self._draft.config["WorkingDir"] = path
        vertex = None
        if path != "/":
            vertex = self._vertex(at, work.Workdir(path=path, user=str(self._draft.config.get("User") or "")))
        self._line(f"WORKDIR {path}", vertex)

    # -- what makes none --------------------------------------------------------------------------------------

    def _arg(self, at: instructions.Arg) -> None:
        found = []
        for name, default in at.pairs:
            wanted = default is not None and self._scope.wants_default(name)
            value = self._expand(default or "", at) if wanted else None
            found.append((name, self._scope.declare(name, value)))
        self._line(history.pairs("ARG", found))

    def _env(self, at: instructions.Env) -> None:
        found = [(self._expand(each.name, at), self._expand(each.value, at)) for each in at.pairs]
        self._scope.assign(found)
        self._draft.config["Env"] = [f"{name}={value}" for name, value in self._scope.env.items()]
        self._line(history.pairs("ENV", found))

    def _label(self, at: instructions.Label) -> None:
        found = [(self._expand(each.name, at), self._expand(each.value, at)) for each in at.pairs]
        self._draft.config["Labels"] = {**(self._draft.config.get("Labels") or {}), **dict(found)}
        self._line(history.pairs("LABEL", found))

    def _cmd(self, at: instructions.Cmd) -> None:
        args = self._command(at)
        self._draft.config["Cmd"] = list(args)
        self._draft.config["ArgsEscaped"] = True
        self._draft.has_command = True
        self._line(history.exec_form("CMD", args))

    def _entrypoint(self, at: instructions.Entrypoint) -> None:
        args = self._command(at)
        self._draft.config["Entrypoint"] = list(args)
        if not self._draft.has_command:
            # The base's command was meant for the base's entrypoint.
            self._draft.config.pop("Cmd", None)
        self._line(history.exec_form("ENTRYPOINT", args))

    def _user(self, at: instructions.User) -> None:
        self._draft.config["User"] = self._expand(at.user, at)
        self._line(f"USER {self._draft.config['User']}")

    def _expose(self, at: instructions.Expose) -> None:
        given = [word for each in at.ports for word in self._converter.expand_words(each, self._scope.visible, at)]
        ports = [port for each in given for port in _ports(each, at)]
        self._draft.config["ExposedPorts"] = {
            **(self._draft.config.get("ExposedPorts") or {}),
            **{port: {} for port in ports},
        }
        self._line(history.expose(ports))

    def _volume(self, at: instructions.Volume) -> None:
        paths = [self._expand(each, at) for each in at.paths]
        if not all(paths):
            raise wrong(at, "`VOLUME` has a path that is empty")
        self._draft.config["Volumes"] = {**(self._draft.config.get("Volumes") or {}), **{path: {} for path in paths}}
        self._line(history.listed("VOLUME", paths))

    def _stop_signal(self, at: instructions.StopSignal) -> None:
        name = self._expand(at.signal, at)
        try:
            signals.parse(name)
        except errors.DevenvError as exc:
            raise wrong(at, f"there is no signal `{name}`", hint="write `SIGQUIT`, `QUIT` or `3`") from exc
        self._draft.config["StopSignal"] = name
        self._line(f"STOPSIGNAL {name}")

    def _shell(self, at: instructions.Shell) -> None:
        self._draft.config["Shell"] = list(at.words)
        self._line(history.listed("SHELL", at.words))

    def _healthcheck(self, at: instructions.Healthcheck) -> None:
        found: dict[str, Any] = {"Test": ["NONE"]}
        if at.test is not None:
            shell = ["CMD-SHELL", at.test.shell]
            found = {"Test": shell if at.test.words is None else ["CMD", *at.test.words]}
        for name, seconds in (
            ("Interval", at.interval),
            ("Timeout", at.timeout),
            ("StartPeriod", at.start_period),
            ("StartInterval", at.start_interval),
        ):
            if seconds:
                found[name] = round(seconds * 10**9)
        if at.retries:
            found["Retries"] = at.retries
        self._draft.config["Healthcheck"] = found
        self._line(history.healthcheck(found))

    def _maintainer(self, at: instructions.Maintainer) -> None:
        self._draft.author = at.name
        self._line(f"MAINTAINER {at.name}")

    def _onbuild(self, at: instructions.Onbuild) -> None:
        self._draft.config["OnBuild"] = [*(self._draft.config.get("OnBuild") or []), at.expression]


_READERS: dict[type, Callable[[Reading, Any], None]] = {
    instructions.Run: Reading._run,
    instructions.Copy: Reading._transfer,
    instructions.Add: Reading._transfer,
    instructions.Workdir: Reading._workdir,
    instructions.Arg: Reading._arg,
    instructions.Env: Reading._env,
    instructions.Label: Reading._label,
    instructions.Cmd: Reading._cmd,
    instructions.Entrypoint: Reading._entrypoint,
    instructions.User: Reading._user,
    instructions.Expose: Reading._expose,
    instructions.Volume: Reading._volume,
    instructions.StopSignal: Reading._stop_signal,
    instructions.Shell: Reading._shell,
    instructions.Healthcheck: Reading._healthcheck,
    instructions.Maintainer: Reading._maintainer,
    instructions.Onbuild: Reading._onbuild,
}


def _source(base: bases.Base, name: str, at: instructions.Instruction) -> graph.Vertex:
    identity = graph.identity("source", [each.diff_id for each in base.state])
    return graph.Vertex(id=identity, name=f"FROM {name}", place=at.place, source=base.state)


def _ports(text: str, at: instructions.Instruction) -> list[str]:
    # An address and the host's ports may stand before it, as BuildKit has it, and say nothing.
    match = _PORT.fullmatch(text.rpartition(":")[2])
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if match is None or not first <= last <= 65535:
        raise wrong(at, f"`{text}` is no port to expose", hint="write `80`, `80/udp` or `8000-8010`")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]


def _makes_step(each: instructions.Instruction) -> bool:
    if isinstance(each, instructions.Workdir):
        return each.path != "/"
    return isinstance(each, instructions.Run | instructions.Transfer)


def _there(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, Mapping) else value


def wrong(
    at: instructions.Instruction, message: str, *, hint: str | None = None, note: str | None = None
) -> errors.BuildError:
    place = at.place
    return errors.BuildError(
        message, file=place.file, line=place.line, column=place.column, excerpt=place.excerpt, hint=hint, note=note
    )
