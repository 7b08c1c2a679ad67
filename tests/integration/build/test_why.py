"""What broke the cache, told of the image."""

from __future__ import annotations

import pytest

from devenv.build import why
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

DOCKERFILE = "FROM busybox\nARG A=1\nCOPY a /a\nRUN echo $A > /b\nRUN cat /b > /c\n"


def _reasons(builder: building.Builder) -> list[tuple[str, tuple[str, ...]]]:
    found = why.find(builder.where, building.TAG)
    assert found is not None
    return [(each.name.partition("] ")[2], each.reasons) for each in found.steps]


def test_it_is_the_file_the_argument_or_what_was_asked(builder: building.Builder) -> None:
    builder.write({"a": "1"})
    builder.build(DOCKERFILE)
    assert _reasons(builder)[0] == ("COPY a /a", ("it was not built before",))

    builder.build(DOCKERFILE)
    assert [reasons for _, reasons in _reasons(builder)] == [(), (), ()]

    builder.build(DOCKERFILE, arguments={"A": "2"})
    assert _reasons(builder) == [
        ("COPY a /a", ()),
        ("RUN echo $A > /b", ("environment changed `A`",)),
        ("RUN cat /b > /c", ("environment changed `A`", "what lies below it changed, by `[3/4] RUN echo $A > /b`")),
    ]

    builder.write({"a": "2"})
    builder.build(DOCKERFILE, arguments={"A": "2"})
    assert _reasons(builder)[0] == ("COPY a /a", ("files changed",))

    builder.build(DOCKERFILE, arguments={"A": "2"}, no_cache=True)
    assert _reasons(builder)[0] == ("COPY a /a", ("it was asked to be done anew",))


def test_no_image_no_reasons(builder: building.Builder) -> None:
    assert why.find(builder.where, "docker.io/library/nothing:latest") is None
