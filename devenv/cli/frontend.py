"""``--check``, ``--call=outline`` and ``--call=targets``: what a Dockerfile says, without building it. As buildx
prints them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from devenv import errors
from devenv.build import request, stages
from devenv.build.dockerfile import instructions, names
from devenv.cli import imaging, table, terminal

CALLS = ("build", "check", "lint", "outline", "targets")


def call(method: str, asked: Sequence[request.Request], *, as_json: bool = False) -> int:
    """Prints to stdout. 1 if there are warnings to be told."""
    from devenv.reconcile import dockerfiles

    found: list[tuple[request.Request, instructions.Dockerfile]] = []
    for each in asked:
        dockerfile = dockerfiles.read(each)
        if dockerfile is None:
            raise errors.UsageError(f"the Dockerfile of `{each.context}` is not on this machine: it can only be built")
        found.append((each, dockerfile))
    if method == "check":
        return _checked(found, as_json=as_json)
    show: Callable[..., int] = {"outline": _outline, "targets": _targets}[method]
    return max((show(one, given, as_json=as_json) for given, one in found), default=0)


def parse(text: str) -> tuple[str, bool]:
    """``--call``'s METHOD or METHOD,format=json."""
    method, _, rest = text.partition(",")
    if method not in CALLS or rest not in {"", "format=json", "format=text"}:
        raise errors.UsageError(f"`--call {text}` is not understood; it is {', '.join(CALLS)}")
    return "check" if method == "lint" else method, rest == "format=json"


def _checked(found: Sequence[tuple[request.Request, instructions.Dockerfile]], *, as_json: bool) -> int:
    from devenv.reconcile import linting

    images = imaging.Images.open()
    try:
        warnings = [linting.check(dockerfile, asked, images.store) for asked, dockerfile in found]
    finally:
        images.store.close()
    return max((_check(each, as_json=as_json) for each in warnings), default=0)


def _check(warnings: Sequence[instructions.Warning], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"warnings": [_fields(each) for each in warnings]}, indent=2))
        return int(bool(warnings))
    if not warnings:
        print("Check complete, no warnings found.")
        return 0
    plural = "warning has" if len(warnings) == 1 else "warnings have"
    print(f"Check complete, {len(warnings)} {plural} been found!\n")
    for each in warnings:
        print(terminal.visible(warning(each), keep_newlines=True))
    return 1


def warning(each: instructions.Warning) -> str:
    place = each.place
    number = str(place.line)
    rule = "-" * 20
    return "\n".join(
        (
            f"WARNING: {each.rule}",
            each.message,
            f"{place.file}:{place.line}",
            rule,
            f" {number} | >>> {place.excerpt}",
            rule,
            "",
        )
    )


def _fields(each: instructions.Warning) -> dict[str, Any]:
    return {
        "ruleName": each.rule,
        "detail": each.message,
        "location": {"file": each.place.file, "start": each.place.line, "end": each.place.last},
    }


def _targets(dockerfile: instructions.Dockerfile, asked: request.Request, *, as_json: bool) -> int:
    every = dockerfile.stages
    rows = [(stage.name or str(stage.number), _described(stage.start.comments, stage.name)) for stage in every]
    if as_json:
        targets = [
            {"name": name, **({"description": about} if about else {}), "default": stage is every[-1]}
            for (name, about), stage in zip(rows, every, strict=True)
        ]
        print(json.dumps({"targets": targets}, indent=2))
        return 0
    marked = [
        (f"{name} (default)" if stage is every[-1] else name, about)
        for (name, about), stage in zip(rows, every, strict=True)
    ]
    print(table.render(("TARGET", "DESCRIPTION"), marked), end="")
    return 0


def _described(comments: tuple[str, ...], name: str) -> str:
    """The comment above that begins with the name, without it."""
    for comment in comments:
        first, _, rest = comment.partition(" ")
        if first.lower() == name.lower() and rest:
            return rest.strip()
    return ""


def _outline(dockerfile: instructions.Dockerfile, asked: request.Request, *, as_json: bool) -> int:
    stage = names.find(dockerfile, asked.target)
    needed = _reached(dockerfile, stage)
    arguments = list(_arguments(dockerfile, needed, asked))
    secrets, agents = _mounted(needed)
    if as_json:
        shown = {
            "name": stage.name or str(stage.number),
            "args": [{"name": name, "value": value, "description": about} for name, value, about in arguments],
            "secrets": [{"name": name, "required": required} for name, required in secrets],
            "ssh": [{"name": name, "required": required} for name, required in agents],
        }
        print(json.dumps(shown, indent=2))
        return 0
    print(f"TARGET: {terminal.visible(stage.name or str(stage.number))}\n")
    print(table.render(("BUILD ARG", "VALUE", "DESCRIPTION"), arguments))
    for heading, rows in (("SECRET", secrets), ("SSH", agents)):
        if rows:
            print(table.render((heading, "REQUIRED"), [(name, str(required).lower()) for name, required in rows]))
    return 0


def _reached(dockerfile: instructions.Dockerfile, stage: instructions.Stage) -> list[instructions.Stage]:
    """The stage and those it is made from."""

    def base(seen: instructions.Stage) -> instructions.Stage | None:
        return names.base(dockerfile, seen)

    def source(seen: instructions.Stage, name: str, at: instructions.Instruction) -> instructions.Stage | None:
        return names.source(dockerfile, seen, name, at)

    return stages.needed(dockerfile, stage, base=base, source=source)


def _arguments(
    dockerfile: instructions.Dockerfile, reached: Sequence[instructions.Stage], asked: request.Request
) -> list[tuple[str, str, str]]:
    every = [*dockerfile.arguments, *(each for stage in reached for each in stage.instructions)]
    found: dict[str, tuple[str, str, str]] = {}
    for each in every:
        if isinstance(each, instructions.Arg):
            for name, default in each.pairs:
                value = asked.arguments.get(name) or default or found.get(name, ("", "", ""))[1]
                found[name] = (name, value, _described(each.comments, name) or found.get(name, ("", "", ""))[2])
    return list(found.values())


def _mounted(reached: Sequence[instructions.Stage]) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """The secrets and the agents that steps ask for, and whether they can't do without."""
    found: dict[str, dict[str, bool]] = {"secret": {}, "ssh": {}}
    for stage in reached:
        for each in stage.instructions:
            for mount in each.mounts if isinstance(each, instructions.Run) else ():
                if mount.kind in found:
                    fields = dict(mount.fields)
                    name = fields.get("id") or fields.get("target", "").rpartition("/")[2] or "default"
                    required = "required" in fields and fields["required"].lower() in {"", "true", "1"}
                    known = found[mount.kind]
                    known[name] = known.get(name, False) or required
    return list(found["secret"].items()), list(found["ssh"].items())
