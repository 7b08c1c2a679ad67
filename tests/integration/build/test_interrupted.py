"""Builds that end before their end: nothing runs on, nothing half made is believed, the next build is right."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from devenv import errors
from devenv.build import progress, upkeep
from devenv.image import buildcache, gc
from devenv.linux import mount
from tests.support import building, machine, polling

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

DOCKERFILE = """\
FROM busybox
COPY src /src
RUN echo one > /one
RUN --mount=type=cache,target=/c echo two > /two; echo $$ > /c/pid; echo here; if [ -e /src/wait ]; then sleep 1000; fi
"""

# A builder of its own, so that it can be killed. It says what it is told, a line each.
PROGRAM = """
import json, sys
from devenv.build import request, solver
from devenv.image import store
from devenv.util import paths
where = paths.Paths(*sys.argv[1:3])
given = json.loads(sys.argv[3])
def tell(step):
    print(step.state, step.name, step.text, flush=True)
held = store.ImageStore(where)
solver.solve([request.Request(**given)], where=where, store=held, tell=tell)
"""


class Other:
    """The build in a process, and a process group, of its own."""

    def __init__(self, builder: building.Builder) -> None:
        given = builder.request(DOCKERFILE)
        plain: dict[str, Any] = {"context": given.context, "tags": list(given.tags)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *builder.where, json.dumps(plain)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=pathlib.Path(__file__).parents[3],
        )

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"it ended before it said {text!r}")

    def end(self) -> None:
        assert self.process.stdout is not None
        self.process.wait()
        self.process.stdout.close()

    def children(self) -> list[int]:
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = pathlib.Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(fields[3]) == self.process.pid:  # its session
                    found.append(int(name))
        return found


def _sleeps(builder: building.Builder) -> list[str]:
    """Processes whose root is a step's."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                mounts = pathlib.Path(f"/proc/{name}/mountinfo").read_text()
            except (OSError, ProcessLookupError):
                continue
            if f"{builder.where.data}/build/steps/" in mounts:
                found.append(name)
    return found


def _next_build_is_right(builder: building.Builder) -> None:
    (builder.context / "src/wait").unlink()
    built = builder.build(DOCKERFILE)
    assert (built.read("/one"), built.read("/two")) == ("one\n", "two\n")
    assert builder.leftovers == []
    assert _sleeps(builder) == []


def test_killed_anywhere_nothing_that_is_wrong_is_kept(builder: building.Builder) -> None:
    """After each thing that it says: between a step's end and the next one's beginning lies the commit of its layer."""
    builder.write({"src/a": "1"})
    for count in range(1, 8):
        other = Other(builder)
        assert other.process.stdout is not None
        try:
            for _ in range(count):
                other.process.stdout.readline()
        finally:
            for pid in other.children():
                os.kill(pid, signal.SIGKILL)
            other.end()
    built = builder.build(DOCKERFILE)

    assert (built.read("/src/a"), built.read("/one"), built.read("/two")) == ("1", "one\n", "two\n")
    assert builder.leftovers == []
    assert not _sleeps(builder)
    for entry in buildcache.everything(builder.where):
        path = f"{builder.where.data}/blobs/sha256/{entry.entry.blob.hex}"
        assert hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() == entry.entry.blob.hex


@pytest.fixture
def other(builder: building.Builder) -> Iterator[Other]:
    builder.write({"src/wait": ""})
    found = Other(builder)
    try:
        found.wait_for("here")
        yield found
    finally:
        found.process.kill()
        found.end()


def test_a_builder_that_is_killed_takes_its_step_along(builder: building.Builder, other: Other) -> None:
    other.process.kill()
    other.end()

    polling.eventually(lambda: not _sleeps(builder), 10.0)
    _next_build_is_right(builder)


def test_killed_with_all_that_it_started_it_is_cleared_up_after_by_the_next_build(
    builder: building.Builder, other: Other
) -> None:
    for pid in other.children():
        os.kill(pid, signal.SIGKILL)
    other.end()

    _next_build_is_right(builder)


def test_or_by_who_prunes(builder: building.Builder, other: Other) -> None:
    for pid in other.children():
        os.kill(pid, signal.SIGKILL)
    other.end()

    upkeep.sweep(builder.where)
    gc.collect(builder.where)

    polling.eventually(lambda: not _sleeps(builder), 10.0)
    assert builder.leftovers == []
    _next_build_is_right(builder)


def _cgroups() -> set[str]:
    found = pathlib.Path("/sys/fs/cgroup").glob("**/devenv-build/*/cgroup.procs")
    return {path.parent.name for path in found}


def test_a_killed_runner_fails_the_build(builder: building.Builder, other: Other) -> None:
    step = {name for name in os.listdir(f"{builder.where.data}/build/steps") if len(name) == 64}
    runners = [pid for pid in other.children() if pid != other.process.pid]
    for pid in runners:
        if b"runner.main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)

    other.wait_for("failed")
    other.end()

    assert other.process.returncode == 1
    assert builder.leftovers == []
    assert not _cgroups() & step
    _next_build_is_right(builder)


def test_ctrl_c_leaves_nothing_running_and_nothing_half_made(builder: building.Builder, other: Other) -> None:
    os.killpg(other.process.pid, signal.SIGINT)
    other.end()

    assert _sleeps(builder) == []
    assert builder.leftovers == []
    _next_build_is_right(builder)


def test_the_collector_spares_what_builds_keep(builder: building.Builder) -> None:
    builder.write({"src/x": ""})
    first = builder.build(DOCKERFILE)
    builder.build("FROM busybox\nRUN true\n")

    gc.collect(builder.where)

    assert builder.build(DOCKERFILE).target == first.target
    assert builder.said(progress.State.STARTED) == []


def test_all_that_builds_keep_can_be_had_back(builder: building.Builder) -> None:
    builder.write({"src/x": ""})
    builder.build(DOCKERFILE)

    upkeep.clear(builder.where)
    gc.collect(builder.where)

    assert upkeep.measure(builder.where) == upkeep.Usage(0, 0, 0)
    assert builder.build(DOCKERFILE).result.cached == 0


def test_a_full_disk_is_said_and_nothing_of_it_is_believed(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN echo one > /one\nCOPY big /big\nCOPY small /small\n"
    builder.write({"big": b"x" * (20 << 20), "small": "x"})
    mount.mount("tmpfs", builder.where.data, "tmpfs", 0, "size=16m,mode=700")
    try:
        with pytest.raises(errors.DevenvError) as caught:
            builder.build(dockerfile)
        assert "No space left on device" in caught.value.message
        assert builder.leftovers == []

        builder.write({"big": "not any more"})
        built = builder.build(dockerfile)
        assert (built.read("/one"), built.read("/big")) == ("one\n", "not any more")
        assert builder.said(progress.State.CACHED) == ["RUN echo one > /one"]
    finally:
        mount.umount2(builder.where.data, mount.MNT_DETACH)
