"""An ordinary user's cgroups, from a real systemd of the user's on a real bus."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.support import engine, isolation, machine, projects, runner, usersession

pytestmark = [pytest.mark.root, machine.needs_root]

SPEC = """
    name: shop
    services:
      one: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
"""


@pytest.fixture
def session(surroundings: isolation.Session, short_path: pathlib.Path, no_leaks: set[str]) -> Iterator[runner.Devenv]:
    if usersession.lack():
        pytest.skip(usersession.lack())
    user = surroundings.users["dvrange"]
    os.chown(short_path, user.uid, user.uid)
    with usersession.running(user, isolation.install(surroundings), short_path) as program:
        devenv = runner.Devenv(str(short_path), program)
        devenv.cwd = os.fspath(projects.Project(short_path / "p", uid=user.uid).write(SPEC))
        yield devenv
        devenv.close()
        no_leaks.update(devenv.ids)


def unified(pid: int | None) -> str:
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def test_a_project_gets_a_scope_of_systemds(session: runner.Devenv) -> None:
    assert "limits" not in session("up", "-d").stderr
    supervisor = unified(engine.find(session, "supervisor"))
    scope = next(part for part in supervisor.split("/") if part.startswith("devenv-shop"))
    assert "/manager/" in supervisor
    assert scope.endswith(".scope")
    assert supervisor.endswith(f"{scope}/devenv.engine")
    state = session.ps()["shop-one-1"]
    assert state["State"] == "running"
    # What no cgroup of v1 lets an ordinary user do.
    session("pause")
    assert session.ps()["shop-one-1"]["State"] == "paused"
    # The next engine joins the scope that is there: the container is beneath it.
    engine.kill(*(engine.find(session, role) for role in ("zygote", "supervisor", "monitor")))
    session("up", "-d")
    assert unified(engine.find(session, "supervisor")) == supervisor
    session("unpause")
    assert session.inside("one", "cat /proc/1/comm") == "sleep"
    session("down", "-t", "0")
