"""Builds by the command line, as root and as ordinary users: the same image, with what a user has."""

from __future__ import annotations

import json
import pathlib

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner

pytestmark = machine.needs_binary("busybox")

DOCKERFILE = """\
FROM oci:{base} AS one
WORKDIR /app
COPY src/ ./
RUN --mount=type=cache,target=/c --mount=type=bind,target=/ctx \\
    id -u > who && ls /ctx > /seen && touch /c/x && rm /etc/passwd && mkdir /etc/new
RUN mkdir /tmp/a && echo a > /tmp/a/b
RUN rm -r /tmp/a && mkdir /tmp/a && echo c > /tmp/a/d
FROM oci:{base}
COPY --from=one /app /app
COPY --from=one /tmp/a /a
RUN --mount=from=one,target=/one cat /one/app/name > /copied && ls /one/tmp/a >> /copied
CMD ["cat", "/copied"]
"""


@pytest.fixture
def base(short_path: pathlib.Path) -> pathlib.Path:
    ocilayout.busybox_layout(short_path / "busybox")
    return short_path / "busybox"


def test_an_image_is_built_and_run(anyone: runner.Devenv, project: projects.Project, base: pathlib.Path) -> None:
    project.write({"Dockerfile": DOCKERFILE.format(base=base), "src/name": "world\n"})
    project.write({"compose.yaml": "services: {one: {image: built}}\n"})

    anyone("image", "build", "-t", "built", ".")
    again = anyone("image", "build", "-t", "built", ".")

    assert "CACHED" in again.stderr or "cached" in again.stderr
    assert anyone("run", "--rm", "one").stdout == "world\nd\n"
    anyone("down")
    assert "COPY --from=one /app /app: from the cache" in anyone("why", "built").stdout
    shown = json.loads(anyone("image", "inspect", "built").stdout)
    assert shown[0]["Config"]["Cmd"] == ["cat", "/copied"]


def test_a_step_runs_as_its_user(anyone: runner.Devenv, project: projects.Project, base: pathlib.Path) -> None:
    project.write(
        {"Dockerfile": f"FROM oci:{base}\nUSER 1000:1001\nWORKDIR /mine\nRUN echo $(id -u):$(stat -c %u .)\n"}
    )

    alone = anyone.user is not None and not anyone.user.ranges
    done = anyone("--progress", "plain", "image", "build", "--no-cache", ".", code=5 if alone else 0)

    assert ("does not exist in this user namespace" if alone else "1000:1000") in done.stderr
