"""What a name in a Dockerfile means, as seen from where it is written."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.build.dockerfile import instructions, names, parser

FILE = parser.parse(
    """\
FROM debian AS One
FROM alpine
COPY --from=ONE a b
RUN --mount=from=one,target=/a --mount=type=cache,target=/b c
FROM one AS two
FROM busybox AS one
COPY --from=1 a b
COPY --from=nginx:1 a b
COPY --from=two a b
FROM ONE AS last
COPY --from=9 a b
FROM 0 AS number
FROM x AS early
COPY --from=late a b
RUN --mount=from=late,target=/a b
FROM x AS late
""",
    file="Dockerfile",
)


def numbers(stage: int) -> list[int | None]:
    seen = FILE.stages[stage]
    found = [names.source(FILE, seen, name, at) for name, at in names.sources(seen)]
    return [each.number if each else None for each in found]


@pytest.mark.parametrize(("target", "number"), [("", 7), ("ONE", 3), ("two", 2), ("1", 1), ("0", 0)])
def test_a_target_is_a_name_or_a_number(target: str, number: int) -> None:
    assert names.find(FILE, target).number == number


@pytest.mark.parametrize(
    ("target", "hint"), [("tow", "did you mean `two`?"), ("99", "it has `one`, `two`"), ("²", "it")]
)
def test_a_target_that_is_none(target: str, hint: str) -> None:
    with pytest.raises(errors.BuildError, match="no stage") as caught:
        names.find(FILE, target)
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(("stage", "base"), [(0, None), (2, 0), (3, None), (4, 3), (5, None)])
def test_from_means_the_last_stage_before_that_has_the_name(stage: int, base: int | None) -> None:
    found = names.base(FILE, FILE.stages[stage])
    assert (found.number if found else None) == base


def test_copy_and_mounts_take_from_stages_before_or_from_images() -> None:
    assert numbers(1) == [0, 0]
    assert numbers(3) == [1, None, 2]


@pytest.mark.parametrize(("stage", "name"), [(4, "9"), (6, "late")])
def test_what_is_not_made_yet_can_not_be_taken_from(stage: int, name: str) -> None:
    seen = FILE.stages[stage]
    for given, at in names.sources(seen):
        with pytest.raises(errors.BuildError, match=f"no stage `{name}` yet") as caught:
            names.source(FILE, seen, given, at)
        assert caught.value.line == at.place.line


def test_what_is_taken_from_is_no_variable() -> None:
    seen = parser.parse("FROM a\nCOPY --from=$x b c\n", file="f").stages[0]
    with pytest.raises(errors.BuildError, match="can't hold variables"):
        names.source(FILE, FILE.stages[4], *next(names.sources(seen)))


def test_a_mount_takes_no_number() -> None:
    seen = FILE.stages[4]
    run = parser.parse("FROM a\nRUN --mount=from=0,target=/a b\n", file="f").stages[0].instructions[0]
    assert isinstance(run, instructions.Run)
    assert names.source(FILE, seen, "0", run) is None
