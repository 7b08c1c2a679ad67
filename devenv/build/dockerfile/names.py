"""What the names in a Dockerfile mean: which stage a name or a number stands for, as seen from where it is written."""

from __future__ import annotations

from collections.abc import Iterator

from devenv import errors
from devenv.build.dockerfile import instructions
from devenv.build.dockerfile.malformed import did_you_mean

SCRATCH = "scratch"
RESERVED = frozenset({"context", SCRATCH})


def find(dockerfile: instructions.Dockerfile, target: str) -> instructions.Stage:
    """By name or number, the last one where nothing is said. Raises ``BuildError``."""
    if not target:
        return dockerfile.stages[-1]
    found = _named(dockerfile.stages, target) or _numbered(dockerfile.stages, target)
    if found is not None:
        return found
    known = [stage.name for stage in dockerfile.stages if stage.name]
    listed = f"it has {', '.join(f'`{name}`' for name in known)}" if known else None
    hint = did_you_mean(target, known) or listed
    raise errors.BuildError(f"there is no stage `{target}`", file=dockerfile.file, hint=hint)


def base(dockerfile: instructions.Dockerfile, stage: instructions.Stage, image: str = "") -> instructions.Stage | None:
    """The stage before that FROM names; ``image`` is its word expanded. A number is no stage's name here."""
    return _named(dockerfile.stages[: stage.number], image or stage.start.image)


def source(
    dockerfile: instructions.Dockerfile, stage: instructions.Stage, name: str, at: instructions.Instruction
) -> instructions.Stage | None:
    """The stage that ``--from=name`` of COPY and of a mount means; None for an image or a named context.

    Raises ``BuildError`` for a stage that isn't made yet, for a number that none has, and for a variable.
    """
    if "$" in name:
        hint = "name a stage with FROM, whose image may hold variables, and take from that"
        raise _wrong(at, f"`--from={name}` can't hold variables", hint)
    earlier = dockerfile.stages[: stage.number]
    number = isinstance(at, instructions.Copy) and name.isascii() and name.isdecimal()
    found = _numbered(earlier, name) if number else _named(earlier, name)
    if found is None and (number or _named(dockerfile.stages[stage.number :], name)):
        problem = "it has to be before the one that takes from it" if not number else "its number has to be a lower one"
        raise _wrong(at, f"there is no stage `{name}` yet", problem)
    return found


def _wrong(at: instructions.Instruction, message: str, hint: str) -> errors.BuildError:
    place = at.place
    return errors.BuildError(
        message, file=place.file, line=place.line, column=place.column, excerpt=place.excerpt, hint=hint
    )


def sources(stage: instructions.Stage) -> Iterator[tuple[str, instructions.Instruction]]:
    """What ``--from`` names in a stage, and where."""
    for each in stage.instructions:
        if isinstance(each, instructions.Copy) and each.source:
            yield each.source, each
        elif isinstance(each, instructions.Run):
            for mount in each.mounts:
                yield from ((value, each) for name, value in mount.fields if name == "from" and value)


def _named(stages: tuple[instructions.Stage, ...], name: str) -> instructions.Stage | None:
    """The last one, where several have it."""
    wanted = name.lower()
    return next((stage for stage in reversed(stages) if stage.name and stage.name == wanted), None)


def _numbered(stages: tuple[instructions.Stage, ...], number: str) -> instructions.Stage | None:
    if not (number.isascii() and number.isdecimal() and len(number) < 6):
        return None
    return stages[int(number)] if int(number) < len(stages) else None
