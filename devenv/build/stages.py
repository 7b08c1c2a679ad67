"""Which stages of a Dockerfile a target needs, and in which order they can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from devenv import errors
from devenv.build.dockerfile import instructions

# The stage that a name means as seen from another one, or None for an image or a named context.
Find = Callable[[instructions.Stage, str], instructions.Stage | None]


def find(dockerfile: instructions.Dockerfile, target: str) -> instructions.Stage:
    """By name or number; the last one where nothing is said. Raises ``BuildError``."""
    if not dockerfile.stages:
        raise errors.BuildError("there is no `FROM` in it", file=dockerfile.file, line=1)
    if not target:
        return dockerfile.stages[-1]
    for stage in dockerfile.stages:
        if stage.name == target.lower():
            return stage
    if target.isdecimal() and int(target) < len(dockerfile.stages):
        return dockerfile.stages[int(target)]
    names = [f"`{stage.name}`" for stage in dockerfile.stages if stage.name]
    raise errors.BuildError(
        f"there is no stage `{target}`", file=dockerfile.file, hint=f"it has {', '.join(names)}" if names else None
    )


def before(dockerfile: instructions.Dockerfile, stage: instructions.Stage, name: str) -> instructions.Stage | None:
    """The last one before ``stage`` with that name, or with that number."""
    earlier = dockerfile.stages[: stage.number]
    for each in reversed(earlier):
        if each.name and each.name == name.lower():
            return each
    if name.isdecimal() and int(name) < len(earlier):
        return earlier[int(name)]
    return None


def needed(
    dockerfile: instructions.Dockerfile,
    target: instructions.Stage,
    find_stage: Find,
    base_of: Callable[[instructions.Stage], str],
) -> list[instructions.Stage]:
    """In the order they were written: a stage can only name earlier ones. ``base_of`` says what FROM names."""
    wanted, pending = {target.number}, [target]
    while pending:
        stage = pending.pop()
        for name in (base_of(stage), *_named(stage)):
            found = find_stage(stage, name)
            if found is not None and found.number not in wanted:
                wanted.add(found.number)
                pending.append(found)
    return [stage for stage in dockerfile.stages if stage.number in wanted]


def _named(stage: instructions.Stage) -> Iterator[str]:
    for each in stage.instructions:
        if isinstance(each, instructions.Copy) and each.source:
            yield each.source
        elif isinstance(each, instructions.Run):
            yield from (value for mount in each.mounts for name, value in mount.fields if name == "from" and value)
