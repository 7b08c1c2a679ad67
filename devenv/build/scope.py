"""Which variables a word of a Dockerfile sees: ARG and ENV so far, the platform's, and what the command line gave.

before the first FROM     ARGs there, and the platform's: for FROM alone
in a stage                its own ARGs and ENV; a global ARG by declaring it again without a value
in RUN's environment      the same, and the proxies that were given, which leave no trace in image and cache
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from devenv import errors
from devenv.build import request
from devenv.image import descriptor, platform

PROXIES = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)
EPOCH = "SOURCE_DATE_EPOCH"


class Arguments:
    """What ``--build-arg`` says, for one platform."""

    def __init__(self, given: request.Request, target: descriptor.Platform, stage: str) -> None:
        self._given = {
            name: value if value is not None else given.environ.get(name) for name, value in given.arguments.items()
        }
        if EPOCH not in self._given and given.environ.get(EPOCH):
            self._given[EPOCH] = given.environ[EPOCH]
        self.automatic = {
            **_platform("BUILD", own()),
            **_platform("TARGET", target),
            "TARGETSTAGE": stage or "default",
        }
        self.proxies = {name: value for name, value in self._given.items() if name in PROXIES and value is not None}

    def find(self, name: str) -> str | None:
        return self._given.get(name)

    def unused(self, declared: set[str]) -> list[str]:
        known = declared | PROXIES | {EPOCH}
        return sorted(name for name in self._given if name not in known and not name.startswith("BUILDKIT_"))

    @property
    def epoch(self) -> int | None:
        text = self._given.get(EPOCH)
        if not text:
            return None
        if not text.isdecimal():
            raise errors.UsageError(f"{EPOCH} is `{text}`, which is no number of seconds")
        return int(text)


def own() -> descriptor.Platform:
    """This machine's."""
    name, variants = platform.architecture()
    # As everywhere: what each of them has is not said.
    variant = next(iter(variants), "") if name == "arm" else ""
    return descriptor.Platform("linux", name, variant)


def wanted(text: str) -> descriptor.Platform:
    """Raises ``ImageError`` for what no image can be made for."""
    machine = platform.machine(text)
    name, _ = platform.architecture(machine)
    words = text.lower().split("/")
    variant = words[2] if len(words) > 2 else {"arm": "v7"}.get(name, "")
    return descriptor.Platform("linux", name, "" if (name, variant) == ("arm64", "v8") else variant)


def machine(target: descriptor.Platform) -> str:
    """As uname(2) has it."""
    return os.uname().machine if target == own() else platform.machine(str(target))


def _platform(prefix: str, given: descriptor.Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": str(given),
        f"{prefix}OS": given.os,
        f"{prefix}OSVERSION": "",  # of Windows
        f"{prefix}ARCH": given.architecture,
        f"{prefix}VARIANT": given.variant,
    }


class Stage:
    """The variables of one stage, as they come. A stage made from another one goes on with that one's."""

    def __init__(
        self,
        arguments: Arguments,
        globals_: Mapping[str, str | None],
        env: Mapping[str, str],
        *,
        below: Stage | None = None,
    ) -> None:
        self._arguments = arguments
        self._globals = globals_
        self.env = dict(env)
        self.declared: dict[str, str | None] = dict(below.declared) if below else {}  # by ARG, in that order
        # Of two with one name the later wins, ENV or ARG.
        self._hidden: set[str] = set(below._hidden) if below else set()

    def wants_default(self, name: str) -> bool:
        """Whether what ARG says of ``name`` counts, and has to be expanded."""
        return self._arguments.find(name) is None

    def declare(self, name: str, default: str | None) -> str | None:
        """``default`` has been expanded."""
        given = self._arguments.find(name)
        value = given if given is not None else default
        if value is None:
            value = self._globals.get(name, self._arguments.automatic.get(name))
        self.declared[name] = value
        self._hidden.discard(name)
        return value

    def assign(self, pairs: Iterable[tuple[str, str]]) -> None:
        """By ENV."""
        for name, value in pairs:
            self.env[name] = value
            self._hidden.add(name)

    @property
    def visible(self) -> dict[str, str]:
        """For words and for RUN."""
        found = {name: value for name, value in self.declared.items() if value is not None and name not in self._hidden}
        return {**self.env, **found}

    @property
    def shown(self) -> dict[str, str]:
        """For history: every ARG with what RUN sees of it."""
        visible = self.visible
        return {name: visible.get(name, value or "") for name, value in self.declared.items()}


def global_arguments(
    arguments: Arguments, name: str, default: str | None, sofar: Mapping[str, str | None]
) -> str | None:
    given = arguments.find(name)
    if given is not None:
        return given
    return default if default is not None else sofar.get(name, arguments.automatic.get(name))
