"""``linux.seccomp`` of somebody else's bundle: on its first process, on what joins later, and told to an agent."""

from __future__ import annotations

import errno
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import machine, oci, polling, seccomp_agent

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

REFUSED = "File exists"


def policy(action: str, **fields: Any) -> dict[str, Any]:
    rule = {"names": ["sethostname"], "action": action, **fields}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


@pytest.fixture
def agent(short_path: pathlib.Path) -> Iterator[seccomp_agent.Agent]:
    made = seccomp_agent.Agent(f"{short_path}/agent", errno.EXDEV)
    yield made
    made.close()


@pytest.fixture
def named(bundle: oci.Bundle) -> oci.Bundle:
    """With a hostname program, and the right to use it."""
    (bundle.rootfs / "bin" / "hostname").symlink_to("busybox")
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name].append("CAP_SYS_ADMIN")
    return bundle


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_refused_call(named: oci.Bundle, *, no_new_privileges: bool) -> None:
    named.process["noNewPrivileges"] = no_new_privileges
    assert named.sh("hostname there; hostname") == "there\n"
    named.linux["seccomp"] = policy("SCMP_ACT_ERRNO", errnoRet=errno.EEXIST)
    done = named.run("sh", "-c", "hostname there; grep Seccomp: /proc/self/status", check=False)
    assert REFUSED in done.stderr
    assert done.stdout == "Seccomp:\t2\n"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_what_stays_of_the_capabilities(named: oci.Bundle, *, no_new_privileges: bool) -> None:
    """Loading a filter without noNewPrivileges takes one that is not to be there afterwards."""
    named.process["noNewPrivileges"] = no_new_privileges
    named.process["user"] = {"uid": 1000, "gid": 1000}
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    named.process["capabilities"] = {each: ["CAP_NET_RAW"] for each in sets}
    named.linux["seccomp"] = policy("SCMP_ACT_ERRNO")
    lines = named.sh("grep ^Cap /proc/self/status").split()
    assert lines[1::2] == [f"{1 << 13:016x}"] * 5


def test_what_joins_later(named: oci.Bundle) -> None:
    named.linux["seccomp"] = policy("SCMP_ACT_ERRNO", errnoRet=errno.EEXIST)
    name = named.started()
    assert REFUSED in named.oci("exec", name, "hostname", "there", check=False).stderr


def test_an_impossible_policy(named: oci.Bundle) -> None:
    named.linux["seccomp"] = policy("SCMP_ACT_SLEEP")
    assert "linux.seccomp.syscalls[0].action" in named.refused()
    assert named.left() == []


def test_an_agent_that_will_never_be_asked(named: oci.Bundle, agent: seccomp_agent.Agent) -> None:
    """It is told all the same, so that it doesn't wait; and that there is none is no error."""
    named.linux["seccomp"] = {**policy("SCMP_ACT_ERRNO", errnoRet=errno.EEXIST), "listenerPath": agent.path}
    assert REFUSED in named.run("hostname", "there", check=False).stderr
    polling.eventually(lambda: len(agent.states) == 1)
    named.linux["seccomp"]["listenerPath"] = f"{agent.path}-elsewhere"
    assert REFUSED in named.run("hostname", "there", check=False).stderr


def test_an_agent_is_told(named: oci.Bundle, agent: seccomp_agent.Agent) -> None:
    named.linux["seccomp"] = {**policy("SCMP_ACT_NOTIFY"), "listenerPath": agent.path, "listenerMetadata": "ours"}
    name = named.started()
    assert "cross-device" in named.oci("exec", name, "hostname", "there", check=False).stderr.lower()
    first, second = agent.states
    assert first["state"]["id"] == second["state"]["id"] == name
    assert first["state"]["bundle"] == str(named.folder)
    assert first["pid"] == first["state"]["pid"] == second["state"]["pid"] == named.state(name)["pid"]
    assert second["pid"] != first["pid"]
    assert first["metadata"] == "ours"
    assert len(agent.calls) == 1


def test_an_agent_that_is_not_there(named: oci.Bundle) -> None:
    named.linux["seccomp"] = {**policy("SCMP_ACT_NOTIFY"), "listenerPath": f"{named.folder}/nobody"}
    assert "the seccomp agent at" in named.refused()
    assert named.left() == []


def test_nothing_runs_that_no_agent_watches(named: oci.Bundle) -> None:
    named.linux["seccomp"] = {**policy("SCMP_ACT_NOTIFY"), "listenerPath": f"{named.folder}/nobody"}
    name = named.create("sleep", "1000")
    assert "the seccomp agent at" in named.oci("start", name, check=False).stderr
    polling.eventually(lambda: named.state(name)["status"] == "stopped")


def test_features(bundle: oci.Bundle) -> None:
    found = json.loads(bundle.oci("features").stdout)["linux"]["seccomp"]
    assert found["enabled"] is True
    assert {"SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"} <= set(found["actions"])
    assert "SCMP_ARCH_X86_64" in found["archs"]
    assert "SCMP_ARCH_S390X" not in found["archs"]
