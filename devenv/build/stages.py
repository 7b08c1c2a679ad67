"""Which stages of a Dockerfile a target needs, and in which order they can be read."""

from __future__ import annotations

from collections.abc import Callable

from devenv.build.dockerfile import instructions, names

# The stage that FROM names, and the one that ``--from`` means, or None for an image or a named context.
Base = Callable[[instructions.Stage], instructions.Stage | None]
Source = Callable[[instructions.Stage, str, instructions.Instruction], instructions.Stage | None]


def needed(
    dockerfile: instructions.Dockerfile, target: instructions.Stage, *, base: Base, source: Source
) -> list[instructions.Stage]:
    """In the order they were written: a stage can only name earlier ones."""
    wanted, pending = {target.number}, [target]
    while pending:
        stage = pending.pop()
        for found in (base(stage), *(source(stage, name, at) for name, at in names.sources(stage))):
            if found is not None and found.number not in wanted:
                wanted.add(found.number)
                pending.append(found)
    return [stage for stage in dockerfile.stages if stage.number in wanted]
