"""Rules for a service that is built and has none: what a change to a file of the context means, by its Dockerfile.

What is in the image as it is in the context is synced to its place. What a later step has read, or nothing can be said
of, asks for a rebuild. A program that doesn't look for itself whether its files have changed is restarted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import origins
from devenv.build.dockerfile import instructions, parser
from devenv.reconcile import convert
from devenv.sync import ignore, rules

# Programs that take up changed files by themselves.
_RELOADS = re.compile(
    "|".join(
        (
            r"--(reload|watch|hot)\b",
            r"\bflask\b.*--debug\b",
            r"\brunserver\b",
            r"\b(nodemon|watchexec|reflex|entr|watchmedo|hupper|jurigged|ts-node-dev|vite|webpack-dev-server)\b",
            r"\b(hugo|jekyll)\b",
            r"\b(tsx|cargo|dotnet) watch\b",
            r"\b(next|nuxt|astro|gatsby|ng|webpack|mkdocs|quasar)\b.*\b(dev|develop|serve)\b",
            r"\breact-scripts start\b",
            r"\b(npm|yarn|pnpm|bun)\b.*\bdev\b",
            r"\brails\b.*\b(s|server)\b",
            r"\bphx\.server\b",
            r"\bphp -S\b",
            r"\bair\b",
        )
    )
)
_SERVES_FILES = re.compile(r"\b(nginx|httpd|apache2|caddy|lighttpd|php-fpm|http\.server|static-web-server)")
_STUBBORN = re.compile(r"--no-?reload\b")


class Derived(NamedTuple):
    rule: rules.Rule
    step: instructions.Instruction | None  # of the Dockerfile; None for the Dockerfile itself
    why: str


def wanted(service: convert.Service) -> bool:
    """A service that is built from a folder, says nothing of its own, and doesn't refuse."""
    if not service.get("build") or (service.get("develop") or {}).get("watch"):
        return False
    if (service.get("x-devenv") or {}).get("watch") is False:
        return False
    return os.path.isdir(str(service["build"].get("context") or ""))


def make(name: str, service: convert.Service, dockerignore: rules.Scope | None) -> list[Derived]:
    """Raises ``BuildError`` for a Dockerfile that can't be read."""
    build = service["build"]
    context = os.path.realpath(str(build["context"]))
    path = os.path.normpath(os.path.join(context, str(build.get("dockerfile") or "Dockerfile")))
    inline = build.get("dockerfile_inline")
    parsed = parser.parse(
        _read(path) if inline is None else inline, file=path if inline is None else "dockerfile_inline"
    )
    found = origins.find(
        parsed,
        target=str(build.get("target") or ""),
        arguments=_arguments(build.get("args")),
        is_folder=lambda source: os.path.isdir(f"{context}/{source}"),
    )
    own = [path, f"{path}.dockerignore", f"{context}/.dockerignore"] if inline is None else []
    return list(_Maker(name, context, dockerignore, own).derived(found, *_action(service, found)))


class _Maker:
    """Of one service's context. ``own``: files that say how the image is built."""

    def __init__(self, name: str, context: str, dockerignore: rules.Scope | None, own: list[str]) -> None:
        self._name = name
        self._context = context
        self._own = own
        self._never = [rules.Scope(context, ignore.Patterns(ignore.ALWAYS)), *([dockerignore] if dockerignore else [])]

    def derived(self, found: origins.Found, action: rules.Action, because: str) -> Iterator[Derived]:
        rebuilt = {flow.source for flow in found.flows if flow.reader is not None}
        for flow in _once(found.flows):
            if flow.reader is not None:
                why = f"{flow.because}, so a change means this step again" if flow.because else "this step reads it"
                yield Derived(self._rule(flow, rules.Action.REBUILD, ()), flow.reader, why)
            elif flow.source not in rebuilt:
                inner = [each for each in rebuilt if each and (not flow.source or rules.below(flow.source, each))]
                why = f"it is in the image as it is here, and no later step reads it; {because}"
                yield Derived(self._rule(flow, action, inner), flow.step, why)
        for path in self._own:
            made = rules.Rule(service=self._name, action=rules.Action.REBUILD, path=path)
            yield Derived(made, None, "it says how the image is built")

    def _rule(self, flow: origins.Flow, action: rules.Action, but: Iterable[str]) -> rules.Rule:
        base = f"{self._context}/{flow.source}".rstrip("/")
        files = [os.path.relpath(each, self._context) for each in self._own if rules.below(self._context, each)]
        ignored = [*self._never, rules.Scope(self._context, _Exactly(frozenset((*files, *but))))]
        if flow.excludes:
            ignored.append(rules.Scope(base, ignore.Patterns(flow.excludes)))
        return rules.Rule(
            service=self._name,
            action=action,
            path=base,
            target=flow.target if action.syncs else "",
            ignored=tuple(ignored),
        )


def _once(flows: tuple[origins.Flow, ...]) -> Iterator[origins.Flow]:
    """Stages that are built upon each other have the same ones."""
    seen = set()
    for flow in flows:
        key = (flow.source, flow.target, flow.reader and flow.reader.place)
        if key not in seen:
            seen.add(key)
            yield flow


class _Exactly:
    """These paths, and all beneath them."""

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths = paths

    def match(self, path: str) -> bool:
        return path in self._paths or any(path.startswith(f"{each}/") for each in self._paths)

    def prune(self, folder: str) -> bool:
        return self.match(folder)


def _action(service: convert.Service, found: origins.Found) -> tuple[rules.Action, str]:
    line = _line(service, found)
    if _STUBBORN.search(line):
        return rules.Action.SYNC_RESTART, f"`{line}` is told not to look for changes"
    if _RELOADS.search(line) or _debugs(service, line):
        return rules.Action.SYNC, f"`{line}` looks for changes by itself"
    served = _SERVES_FILES.search(line or found.base.rpartition("/")[2])
    if served:
        return rules.Action.SYNC, f"`{served[0]}` reads files when they are asked for"
    reads = f"`{line}` reads its files" if line else "its program may read them"
    return rules.Action.SYNC_RESTART, f"{reads} when it starts"


def _debugs(service: convert.Service, line: str) -> bool:
    given = service.get("environment") or {}
    pairs = given.items() if isinstance(given, Mapping) else (str(each).partition("=")[::2] for each in given)
    return "flask" in line and str(dict(pairs).get("FLASK_DEBUG") or "").lower() in {"1", "true"}


def _line(service: convert.Service, found: origins.Found) -> str:
    entrypoint, command = service.get("entrypoint"), service.get("command")
    if entrypoint is None and command is None:
        return found.command
    return " ".join(map(str, [*(entrypoint or ()), *(command or ())]))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise errors.BuildError(f"`{path}` can't be read: {exc.strerror}") from exc


def _arguments(given: Any) -> dict[str, str | None]:
    if isinstance(given, Mapping):
        return {str(key): None if value is None else str(value) for key, value in given.items()}
    return {name: value if sign else None for name, sign, value in (str(each).partition("=") for each in given or ())}
