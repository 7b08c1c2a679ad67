"""A Dockerfile as data: stages of typed instructions, in the order they were written.

Words are as written, quotes, escapes and variables included: what they expand to depends on the instructions before
and on the image below, so ``convert`` expands them with ``words``. What no variable can be in (flags' names, JSON
arrays, the kinds of mounts) is read here. The reference is docs.docker.com/reference/dockerfile.

Each build pays for making these classes, so they have no methods that nobody calls: one is equal to itself alone.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Place(NamedTuple):
    """Of the first character, counted from 1; ``last`` is the last line that belongs to it."""

    file: str
    line: int
    column: int
    last: int
    excerpt: str  # the line as written


class Heredoc(NamedTuple):
    name: str  # the delimiter; the file's name with COPY and ADD
    content: str  # tabs stripped already with <<-
    expand: bool  # its delimiter was not quoted
    descriptor: int  # 0 but for `3<<EOF` in a shell's line


class Flag(NamedTuple):
    name: str  # without the dashes
    value: str  # as written; "" where none was given, which `given` tells from an empty one
    given: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Instruction:
    place: Place
    text: str  # as written, with its continuations joined: for history and progress
    flags: tuple[Flag, ...] = ()
    comments: tuple[str, ...] = ()  # directly above, without the #

    @property
    def keyword(self) -> str:
        """As written, in whatever case."""
        return self.text.split(maxsplit=1)[0]


class Pair(NamedTuple):
    name: str  # as written
    value: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Command(Instruction):
    """RUN, CMD, ENTRYPOINT: ``words`` of the exec form, else ``shell``, the line; a shell is given the ``script``."""

    words: tuple[str, ...] | None = None
    shell: str = ""
    heredocs: tuple[Heredoc, ...] = ()
    document: bool = False  # the line is one `<<EOF` and nothing else

    @property
    def program(self) -> Heredoc | None:
        """A document that names its interpreter: a file to be run, not a script for the shell."""
        return self.heredocs[0] if self.document and self.heredocs[0].content.startswith("#!") else None

    @property
    def script(self) -> str:
        """With the heredocs behind it, which the shell is to take from there."""
        if self.document:
            return self.heredocs[0].content
        return "\n".join([self.shell, *(f"{each.content}{each.name}" for each in self.heredocs)])


class Mount(NamedTuple):
    """``--mount=type=…``: values as written, names the longest (``source`` for ``src``); ``ro`` alone has "true".

    ``mounts.settle`` says what they come to.
    """

    kind: str  # bind, cache, tmpfs, secret, ssh
    fields: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Run(Command):
    mounts: tuple[Mount, ...] = ()
    network: str = ""  # default, none, host
    security: str = ""  # sandbox, insecure
    devices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Cmd(Command):
    pass


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Entrypoint(Command):
    pass


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Transfer(Instruction):
    """What COPY and ADD share. Flags' values as written, "" or empty where they were not given."""

    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()  # as further sources, after ``sources``
    target: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Copy(Transfer):
    source: str = ""  # --from: a stage's name or number, an image or a named context
    parents: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Add(Transfer):
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None  # None where nothing was said: local archives are, remote ones are not


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Arg(Instruction):
    pairs: tuple[tuple[str, str | None], ...]  # name, default


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Env(Instruction):
    pairs: tuple[Pair, ...]
    legacy: bool = False  # `NAME VALUE`, without `=`


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Label(Instruction):
    pairs: tuple[Pair, ...]
    legacy: bool = False  # `NAME VALUE`, without `=`


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Workdir(Instruction):
    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class User(Instruction):
    user: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Volume(Instruction):
    paths: tuple[str, ...]
    exact: bool  # in JSON, whose strings have no quotes and escapes of their own left


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StopSignal(Instruction):
    signal: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Shell(Instruction):
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Healthcheck(Instruction):
    """Durations in seconds; None where not given. ``test`` None is HEALTHCHECK NONE."""

    test: Command | None
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    start_interval: float | None = None
    retries: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Maintainer(Instruction):
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Onbuild(Instruction):
    """``trigger`` has been read like any other, so what is wrong shows now; the image keeps the ``expression``."""

    trigger: Instruction
    expression: str  # its text, with its heredocs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class From(Instruction):
    image: str  # as written
    platform: str = ""
    name: str = ""  # AS, in lower case


class Stage(NamedTuple):
    number: int
    start: From
    instructions: tuple[Instruction, ...]  # without the FROM

    @property
    def name(self) -> str:
        return self.start.name


class Warning(NamedTuple):
    """One of the frontend's lint rules, broken."""

    rule: str  # JSONArgsRecommended
    message: str
    place: Place


class Dockerfile(NamedTuple):
    file: str  # as in messages
    directives: dict[str, str]  # syntax, escape, check
    arguments: tuple[Arg, ...]  # before the first FROM
    stages: tuple[Stage, ...]
    warnings: tuple[Warning, ...] = ()  # those that the text alone shows
