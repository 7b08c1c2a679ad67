"""The rules that a Dockerfile's text can break, with what is known of images and context besides.

``textual`` is part of reading a file and needs nothing else. ``check`` follows each stage's variables as a build would:
it wants to be told which arguments were given, what an image's environment is, and which files are ignored; where it
isn't told, it keeps silent rather than guess.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from devenv.build.dockerfile import froms, instructions, names, rules, words
from devenv.build.dockerfile.malformed import did_you_mean
from devenv.build.dockerfile.rules import Wanted

# The environment of the image that a FROM names; None where it isn't known.
Environment = Callable[[str], Mapping[str, str] | None]
Found = Iterator[instructions.Warning]

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ONCE = (instructions.Cmd, instructions.Entrypoint, instructions.Healthcheck)
_LINK = re.compile(r"(?:https?|git|ssh)://|git@", re.IGNORECASE)


def check(
    dockerfile: instructions.Dockerfile,
    *,
    arguments: Mapping[str, str | None] | None = None,
    environment: Environment | None = None,
    ignored: Callable[[str], bool] | None = None,
    wanted: Wanted | None = None,
) -> list[instructions.Warning]:
    """All that is to be told of, in the order of lines. ``ignored`` is asked for paths within the context."""
    hears = rules.of(dockerfile).and_(wanted or Wanted())
    walk = _Walk(dockerfile, arguments or {}, environment, ignored)
    read = [each for each in dockerfile.warnings if each.rule == "NoEmptyContinuation"]  # its lines are gone
    found = [*read, *textual(dockerfile), *walk.warnings(hears)]
    return sorted((each for each in found if hears.hears(each.rule)), key=lambda each: each.place.line)


def textual(dockerfile: instructions.Dockerfile) -> Found:
    """What the text alone shows, whether the file wants to hear of it or not, but for what is said above a line."""
    everything = [each for stage in dockerfile.stages for each in (stage.start, *stage.instructions)]
    yield from _casing(everything)
    yield from _stage_names(dockerfile.stages)
    yield from froms.check(dockerfile)
    for stage in dockerfile.stages:
        yield from _described("FROM", [stage.name] if stage.name else [], stage.start)
        yield from _within(dockerfile, stage)
    for each in dockerfile.arguments:
        yield from _described("ARG", [name for name, _ in each.pairs], each)


def _warning(rule: str, message: str, at: instructions.Instruction) -> Found:
    if not at.comments or rules.above(at.comments).hears(rule) or rule in rules.EXPERIMENTAL:
        yield instructions.Warning(rule, message, at.place)


def _casing(everything: Iterable[instructions.Instruction]) -> Found:
    """Against the case that most have. One in mixed case is wrong whatever the others are."""
    found = [(each, each.keyword) for each in everything]
    lower = sum(keyword.islower() for _, keyword in found)
    upper = sum(keyword.isupper() for _, keyword in found)
    for each, keyword in found:
        right = keyword.lower() if lower > upper else keyword.upper()
        if keyword != right:
            yield from _warning("ConsistentInstructionCasing", f"`{keyword}` stands among others like `{right}`", each)


def _stage_names(stages: Iterable[instructions.Stage]) -> Found:
    seen: set[str] = set()
    for stage in stages:
        if not stage.name:
            continue
        if stage.name in names.RESERVED:
            yield from _warning("ReservedStageName", f"`{stage.name}` means something else in FROM", stage.start)
        if stage.name in seen:
            yield from _warning("DuplicateStageName", f"another stage is named `{stage.name}` too", stage.start)
        seen.add(stage.name)


def _described(keyword: str, defined: list[str], at: instructions.Instruction) -> Found:
    if at.comments and defined and at.comments[-1].split(" ", 1)[0] not in defined:
        message = f"the comment above {keyword} doesn't begin with `{defined[0]}`"
        yield from _warning("InvalidDefinitionDescription", message, at)


def _within(dockerfile: instructions.Dockerfile, stage: instructions.Stage) -> Found:
    last: dict[type, instructions.Instruction] = {}
    shell = _has_shell(dockerfile, stage)
    for each in stage.instructions:
        if isinstance(each, _ONCE):
            before = last.get(type(each))
            if before is not None:
                message = f"of several {each.keyword.upper()} in a stage only the last one counts"
                yield from _warning("MultipleInstructionsDisallowed", message, before)
            last[type(each)] = each
        if isinstance(each, instructions.Cmd | instructions.Entrypoint):
            if each.words is None and not shell:
                message = f"a shell stands between signals and the program of {each.keyword.upper()}: use a JSON array"
                yield from _warning("JSONArgsRecommended", message, each)
        elif isinstance(each, instructions.Shell):
            shell = True
        elif isinstance(each, instructions.Maintainer):
            yield from _warning("MaintainerDeprecated", "MAINTAINER has given way to LABEL", each)
        elif isinstance(each, instructions.Env | instructions.Label | instructions.Arg):
            yield from _pairs(each)


def _has_shell(dockerfile: instructions.Dockerfile, stage: instructions.Stage) -> bool:
    """In the stages below."""
    below = names.base(dockerfile, stage)
    while below is not None:
        if any(isinstance(each, instructions.Shell) for each in below.instructions):
            return True
        below = names.base(dockerfile, below)
    return False


def _pairs(each: instructions.Env | instructions.Label | instructions.Arg) -> Found:
    keyword = each.keyword.upper()
    if isinstance(each, instructions.Env | instructions.Label) and each.legacy:
        message = f"`{keyword} NAME VALUE` is the old way to write `{keyword} NAME=VALUE`"
        yield from _warning("LegacyKeyValueFormat", message, each)
    if isinstance(each, instructions.Label):
        return
    if isinstance(each, instructions.Arg):
        yield from _described("ARG", [name for name, _ in each.pairs], each)
    for pair in each.pairs:
        if _SECRET.search(pair[0]) and not _NO_SECRET.search(pair[0]):
            message = (
                f"`{pair[0]}` looks like a secret, which {keyword} would show to everybody: use RUN --mount=type=secret"
            )
            yield from _warning("SecretsUsedInArgOrEnv", message, each)


def _exposed(word: str, at: instructions.Instruction) -> Found:
    """``[[ADDRESS:]HOST:]PORT[/PROTOCOL]`` is what BuildKit takes, though only the port and the protocol count."""
    before, _, port = word.rpartition(":")
    protocol = port.partition("/")[2]
    if protocol != protocol.lower():
        yield from _warning("ExposeProtoCasing", f"the protocol of `{word}` is not in lower case", at)
    if before.strip(":"):
        message = f"`{word}` names more than the container's port: what the host publishes is said when it is run"
        yield from _warning("ExposeInvalidFormat", message, at)


class _State:
    """What a stage knows, line by line."""

    def __init__(self, env: Mapping[str, str], *, known: bool) -> None:
        self.env = dict(env)
        self.declared: set[str] = set()  # by ARG, even without a value
        self.known = known  # the image's own environment is in it
        self.has_workdir = False

    def copy(self) -> _State:
        made = _State(self.env, known=self.known)
        made.declared, made.has_workdir = set(self.declared), self.has_workdir
        return made


class _Walk:
    """Through all stages, with their variables."""

    def __init__(
        self,
        dockerfile: instructions.Dockerfile,
        arguments: Mapping[str, str | None],
        environment: Environment | None,
        ignored: Callable[[str], bool] | None,
    ) -> None:
        self._dockerfile = dockerfile
        self._escape = dockerfile.directives.get("escape", "\\")
        self._given = {name: value for name, value in arguments.items() if value is not None}
        self._environment = environment
        self._ignored = ignored
        self._globals = froms.values(dockerfile, self._given)
        self._states: dict[int, _State] = {}

    def warnings(self, hears: Wanted) -> Found:
        for stage in self._dockerfile.stages:
            state = self._states[stage.number] = self._start(stage)
            for each in stage.instructions:
                kept = hears.and_(rules.above(each.comments)) if each.comments else hears
                yield from (found for found in self._look(each, state) if kept.hears(found.rule))

    def _start(self, stage: instructions.Stage) -> _State:
        try:
            image = words.expand(stage.start.image, self._globals, escape=self._escape)
        except words.WordError:
            image = stage.start.image
        below = names.base(self._dockerfile, stage, image)
        if below is not None:
            return self._states[below.number].copy()
        if image == names.SCRATCH:
            return _State({"PATH": ""}, known=True)
        found = self._environment(image) if self._environment and image else None
        return _State({"PATH": "", **(found or {})}, known=found is not None)

    def _look(self, each: instructions.Instruction, state: _State) -> Found:
        if isinstance(each, instructions.Arg):
            for name, default in each.pairs:
                yield from self._declare(name, default, each, state)
            return
        for word in _expanded(each):
            yield from self._undefined(word, each, state)
        if isinstance(each, instructions.Env):
            values = {self._value(pair.name, state): self._value(pair.value, state) for pair in each.pairs}
            state.env.update({name: value or "" for name, value in values.items() if name is not None})
        elif isinstance(each, instructions.Workdir):
            yield from self._workdir(each, state)
        elif isinstance(each, instructions.Expose):
            for port in each.ports:
                yield from self._expose(port, each, state)
        elif isinstance(each, instructions.Transfer):
            yield from self._copied(each, state)

    def _declare(self, name: str, default: str | None, at: instructions.Instruction, state: _State) -> Found:
        state.declared.add(name)
        value: str | None
        if name in self._given:
            value = self._given[name]
        elif default is not None:
            yield from self._undefined(default, at, state)
            value = self._value(default, state)
        else:
            value = self._globals.get(name)
        if value is not None:
            state.env[name] = value

    def _value(self, word: str, state: _State) -> str | None:
        """None where it can't be said: it hangs on an image that isn't known."""
        try:
            found = words.process(word, state.env, escape=self._escape)
        except words.WordError:
            return None
        return found.text if state.known or not found.undefined else None

    def _undefined(self, word: str, at: instructions.Instruction, state: _State) -> Found:
        if not state.known or "$" not in word:
            return
        try:
            found = words.process(word, state.env, escape=self._escape)
        except words.WordError:
            return
        for name in sorted(found.undefined - state.declared):
            near = did_you_mean(name, state.env)
            yield from _warning("UndefinedVar", f"`${name}` is not defined{f': {near}' if near else ''}", at)

    def _workdir(self, at: instructions.Workdir, state: _State) -> Found:
        path = self._value(at.path, state)
        if path is not None and not state.has_workdir and not path.startswith("/") and not _DRIVE.match(path):
            message = f"where `{at.path}` is hangs on the image below, which may change: begin with an absolute path"
            yield from _warning("WorkdirRelativePath", message, at)
        state.has_workdir = True

    def _expose(self, word: str, at: instructions.Expose, state: _State) -> Found:
        try:
            found = words.process(word, state.env, escape=self._escape)
        except words.WordError:
            return
        for port in found.words if state.known or not found.undefined else ():
            yield from _exposed(port, at)

    def _copied(self, at: instructions.Transfer, state: _State) -> Found:
        if self._ignored is None or (isinstance(at, instructions.Copy) and at.source):
            return
        for source in at.sources:
            path = self._value(source, state)
            if path is None or (isinstance(at, instructions.Add) and _LINK.match(path)):
                continue
            clean = posixpath.normpath(path.lstrip("/") or ".")
            if self._ignored(clean):
                message = f"`{source}` is left out by .dockerignore, so there is nothing to copy"
                yield from _warning("CopyIgnoredFile", message, at)


def _expanded(each: instructions.Instruction) -> Iterator[str]:
    """The words in which variables count, but for those of EXPOSE, of which BuildKit doesn't tell."""
    if isinstance(each, instructions.Env | instructions.Label):
        for pair in each.pairs:
            yield from pair
    elif isinstance(each, instructions.Transfer):
        yield from (*each.sources, each.target, each.chown, each.chmod)
        if isinstance(each, instructions.Add):
            yield each.checksum
    elif isinstance(each, instructions.Workdir):
        yield each.path
    elif isinstance(each, instructions.User):
        yield each.user
    elif isinstance(each, instructions.StopSignal):
        yield each.signal
    elif isinstance(each, instructions.Volume):
        yield from each.paths
    elif isinstance(each, instructions.Run):
        yield from (value for mount in each.mounts for _, value in mount.fields)
