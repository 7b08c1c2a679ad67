"""Where an image has the files of its context, by the Dockerfile's text."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.build import origins
from devenv.build.dockerfile import parser

FOLDERS = {"", "src", "front", "static", "src/pkg"}


def flows(text: str, *, target: str = "", **arguments: str) -> dict[str, str]:
    """Source -> place in the image, or `!` and the line to begin anew with. Of several, the last."""
    found = origins.find(
        parser.parse(text, file="Dockerfile"), target=target, arguments=arguments, is_folder=FOLDERS.__contains__
    )
    return {each.source: f"!{each.reader.place.line}" if each.reader else each.target for each in found.flows}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nCOPY . /app\n", {"": "/app"}),
        ("FROM x\nWORKDIR /app\nCOPY . .\n", {"": "/app"}),
        (
            "FROM x\nWORKDIR /app\nWORKDIR sub\nCOPY src main.py ./\n",
            {"src": "/app/sub", "main.py": "/app/sub/main.py"},
        ),
        ("FROM x\nCOPY main.py /app/\n", {"main.py": "/app/main.py"}),
        ("FROM x\nCOPY main.py /app/other.py\n", {"main.py": "/app/other.py"}),
        ("FROM x\nCOPY src/pkg /app/\n", {"src/pkg": "/app"}),
        ('FROM x\nCOPY ["src", "/a b/"]\n', {"src": "/a b"}),
        ("FROM scratch\nCOPY main.py .\n", {"main.py": "/main.py"}),
        # The folder of a base image isn't known here.
        ("FROM x\nCOPY main.py .\n", {"main.py": "!2"}),
        # A step that comes later reads all that is there.
        ("FROM x\nCOPY . /app\nRUN make\nCOPY src /src\n", {"": "!3", "src": "/src"}),
        ("FROM x\nENV HOME=/root\nCOPY src $HOME/src\n", {"src": "/root/src"}),
        ("ARG D=/d\nFROM x\nARG D\nCOPY src $D\n", {"src": "/d"}),
        ("FROM x\nARG D=/d\nCOPY src $D\n", {"src": "/d"}),
        ("FROM x\nADD src /src\nADD a.tar.gz /x\nADD https://x/y /y\n", {"src": "/src", "a.tar.gz": "!3"}),
        ("FROM x\nCOPY *.py /app/\n", {"": "!2"}),
        ("FROM x\nCOPY src/*.py /app/\n", {"src": "!2"}),
        ("FROM x\nCOPY --chmod=755 src /src\n", {"src": "!2"}),
        ("FROM x\nRUN --mount=type=bind,source=src,target=/s make\n", {"src": "!2"}),
        ("FROM x\nCOPY <<EOF /f\nhello\nEOF\n", {}),
        # Through stages.
        ("FROM x AS a\nCOPY src /out\nFROM y\nCOPY --from=a /out /srv\n", {"src": "/srv"}),
        ("FROM x AS a\nCOPY src /out/src\nFROM y\nCOPY --from=a /out /srv\n", {"src": "/srv/src"}),
        ("FROM x AS a\nCOPY src /out\nFROM y\nCOPY --from=a /out/pkg /srv\n", {"src/pkg": "/srv"}),
        ("FROM x AS a\nCOPY main.py /out/\nFROM y\nCOPY --from=0 /out/main.py /srv/\n", {"main.py": "/srv/main.py"}),
        ("FROM x AS a\nCOPY src /out\nRUN make\nFROM y\nCOPY --from=a /bin/x /bin/\n", {"src": "!3"}),
        ("FROM x AS a\nCOPY src /out\nFROM y\nCOPY --from=a /elsewhere /srv\n", {}),
        ("FROM x AS a\nCOPY src /out\nFROM a\nCOPY main.py /m.py\n", {"src": "/out", "main.py": "/m.py"}),
        ("FROM x AS a\nCOPY src /out\nFROM a AS b\nRUN make\nFROM a\n", {"src": "/out"}),
        ("FROM x AS a\nCOPY src /out\nFROM y\nRUN --mount=type=bind,from=a,target=/a make\n", {"src": "!4"}),
        ("FROM x AS a\nCOPY src /out\nFROM y\nCOPY --from=image /x /y\n", {}),
    ],
)
def test_each_file_is_followed_to_its_place_or_to_the_step_that_reads_it(text: str, expected: dict[str, str]) -> None:
    assert flows(text) == expected


def test_targets_and_arguments_count() -> None:
    text = "FROM x AS dev\nARG D=/one\nCOPY src $D\nFROM dev AS prod\nRUN make\n"
    assert flows(text, target="dev") == {"src": "/one"}
    assert flows(text, target="dev", D="/two") == {"src": "/two"}
    assert flows(text) == {"src": "!5"}
    with pytest.raises(errors.BuildError, match="no stage `nope`"):
        flows(text, target="nope")


def test_the_command_and_the_image_at_the_bottom() -> None:
    text = 'FROM python:3 AS a\nCMD ["x"]\nFROM a\nENTRYPOINT ["python", "-m"]\nCMD main --debug\n'
    found = origins.find(parser.parse(text, file="D"), target="", arguments={}, is_folder=FOLDERS.__contains__)
    assert (found.base, found.command) == ("python:3", "python -m main --debug")
