"""System calls from inside containers: what the default lets through, profiles of one's own, and who is notified."""

from __future__ import annotations

import errno
import json
import pathlib
import platform
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devenv.linux import syscalls
from tests.support import projects, runner, seccomp_agent

pytestmark = pytest.mark.root

PROBE = pathlib.Path(__file__).parents[1] / "support" / "syscall_probe.py"
EPERM, ENOSYS, EINVAL = errno.EPERM, errno.ENOSYS, errno.EINVAL

FILTERED = {
    "getpid": 0,
    "unshare": EPERM,
    "clone3": ENOSYS,
    "keyctl": EPERM,
    "io_uring_setup": EPERM,
    "listns": ENOSYS,
    "AF_INET": 0,
    "AF_ALG": EPERM,
    "AF_ALG above": errno.EAFNOSUPPORT,
    "AF_VSOCK": EPERM,
    "persona": 0,
    "ADDR_NO_RANDOMIZE": EPERM,
    "Seccomp": 2,
    "NoNewPrivs": 1,
}
if platform.machine() == "x86_64":
    FILTERED |= {
        "i386 unshare": EPERM,
        "i386 clone3": ENOSYS,
        "i386 keyctl": EPERM,
        "i386 AF_ALG": EPERM,
        "x32 mount": EPERM,
    }


def _without_i386(found: dict[str, int]) -> dict[str, int]:
    """A kernel built without IA32_EMULATION answers `int 0x80` with a signal, whatever is asked."""
    works = found.pop("i386 getpid", None) == 0
    return {name: value for name, value in found.items() if works or not name.startswith("i386 ")}


def probed(text: str) -> dict[str, int]:
    line = next(line for line in text.splitlines() if line.strip().startswith("{"))
    found: dict[str, int] = json.loads(line)
    return _without_i386(found)


def expected(found: dict[str, int], **changed: int) -> dict[str, int]:
    return {name: value for name, value in (FILTERED | changed).items() if name in found}


SERVICES = """
    services:
      plain:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["./probe.py:/probe.py:ro"]
      gaining:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        security_opt: ["no-new-privileges:false"]
        volumes: ["./probe.py:/probe.py:ro"]
      free:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        security_opt: ["seccomp=unconfined"]
        volumes: ["./probe.py:/probe.py:ro"]
      first:
        image: "host:"
        command: [python3, /probe.py]
        volumes: ["./probe.py:/probe.py:ro"]
"""


def test_default(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write({"devenv.yaml": SERVICES, "probe.py": PROBE.read_bytes()})
    anyone("up", "-d")
    # What a container's first process sees, and what is executed later.
    anyone("wait", "first")
    first = probed(anyone("logs", "--no-log-prefix", "first").stdout)
    assert first == expected(first)
    executed = probed(anyone("exec", "-T", "plain", "python3", "/probe.py").stdout)
    assert executed == expected(executed)
    # Without no_new_privs the filter is loaded with CAP_SYS_ADMIN, before that goes.
    gaining = probed(anyone("exec", "-T", "gaining", "python3", "/probe.py").stdout)
    assert gaining == expected(gaining, NoNewPrivs=0)
    # The same calls without a filter: what denied them above was it.
    free = probed(anyone("exec", "-T", "free", "python3", "/probe.py").stdout)
    assert free["Seccomp"] == 0
    assert free["unshare"] == free["ADDR_NO_RANDOMIZE"] == 0
    assert free["clone3"] == EINVAL
    assert {free[name] for name in ("keyctl", "io_uring_setup", "AF_ALG", "AF_VSOCK")} & {EPERM} == set()
    assert free.get("i386 unshare", 0) == 0
    assert free.get("i386 clone3", EINVAL) == EINVAL
    # A family in the upper half is the family in the lower one to the kernel: the default closes that way round.
    assert free["AF_ALG above"] == free["AF_ALG"]


def test_other_users_have_it_too(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        {
            "devenv.yaml": """
                services:
                  a:
                    image: "host:"
                    command: [python3, /probe.py]
                    user: "1000:1000"
                    volumes: ["./probe.py:/probe.py:ro"]
                  b:
                    image: "host:"
                    command: [python3, /probe.py]
                    user: "1000:1000"
                    init: true
                    security_opt: ["no-new-privileges=false"]
                    volumes: ["./probe.py:/probe.py:ro"]
            """,
            "probe.py": PROBE.read_bytes(),
        }
    )
    devenv("up", "-d")
    devenv("wait", "a", "b")
    for name, no_new_privileges in (("a", 1), ("b", 0)):
        found = probed(devenv("logs", "--no-log-prefix", name).stdout)
        assert found == expected(found, NoNewPrivs=no_new_privileges)


def test_privileged_has_none_and_capabilities_widen_it(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        {
            "devenv.yaml": """
                services:
                  all:
                    image: "host:"
                    command: [python3, /probe.py]
                    privileged: true
                    volumes: ["./probe.py:/probe.py:ro"]
                  admin:
                    image: "host:"
                    command: [python3, /probe.py]
                    cap_add: [SYS_ADMIN]
                    volumes: ["./probe.py:/probe.py:ro"]
            """,
            "probe.py": PROBE.read_bytes(),
        }
    )
    devenv("up", "-d")
    devenv("wait", "all", "admin")
    assert probed(devenv("logs", "--no-log-prefix", "all").stdout)["Seccomp"] == 0
    admin = probed(devenv("logs", "--no-log-prefix", "admin").stdout)
    # clone3 and unshare come with the capability, the keyring doesn't.
    assert (admin["Seccomp"], admin["unshare"], admin["clone3"], admin["keyctl"]) == (2, 0, EINVAL, EPERM)


# -- profiles -----------------------------------------------------------------------------------------------------

_MAKE_FOLDER = [name for name in ("mkdir", "mkdirat") if name in syscalls.numbers("x86_64")]


def profile(action: str, **fields: Any) -> bytes:
    rule = {"names": _MAKE_FOLDER, "action": action, **fields}
    arch_map = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "archMap": arch_map, "syscalls": [rule]}).encode()


PROFILES = {
    "kill": (profile("SCMP_ACT_KILL"), 128 + 31),
    "kill-thread": (profile("SCMP_ACT_KILL_THREAD"), 128 + 31),
    "kill-process": (profile("SCMP_ACT_KILL_PROCESS"), 128 + 31),
    "trap": (profile("SCMP_ACT_TRAP"), 128 + 31),
    "errno": (profile("SCMP_ACT_ERRNO", errnoRet=errno.EMLINK), 1),
    "errno-of-its-own": (profile("SCMP_ACT_ERRNO"), 1),
    # Without a tracer the call is not there (seccomp(2)).
    "trace": (profile("SCMP_ACT_TRACE", errnoRet=5), 1),
    "log": (profile("SCMP_ACT_LOG"), 0),
    "allow": (profile("SCMP_ACT_ALLOW"), 0),
}


@pytest.mark.parametrize("flags", [None, ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]], ids=["", "flags"])
def test_every_action(devenv: runner.Devenv, project: projects.Project, flags: list[str] | None) -> None:
    files: dict[str, str | bytes] = {}
    text = "services:\n"
    for name, (content, _) in PROFILES.items():
        files[f"profiles/{name}.json"] = json.dumps(json.loads(content) | ({"flags": flags} if flags else {})).encode()
        text += f"  {name}:\n    image: 'host:'\n    command: [mkdir, /tmp/made]\n"
        text += f"    security_opt: ['seccomp:profiles/{name}.json']\n"
    project.write({**files, "devenv.yaml": text})
    devenv("up", "-d")
    devenv("wait", *PROFILES, code=None)
    codes = {row["Service"]: row["ExitCode"] for row in devenv.ps().values()}
    assert codes == {name: code for name, (_, code) in PROFILES.items()}
    words = {"errno": errno.EMLINK, "errno-of-its-own": EPERM, "trace": ENOSYS}
    strerror = {errno.EMLINK: "Too many links", EPERM: "not permitted", ENOSYS: "not implemented"}
    for name, number in words.items():
        assert strerror[number] in devenv("logs", name).stdout


@pytest.fixture
def agent(project: projects.Project) -> Iterator[Callable[[str], seccomp_agent.Agent]]:
    made: list[seccomp_agent.Agent] = []

    def start(name: str) -> seccomp_agent.Agent:
        made.append(seccomp_agent.Agent(f"{project.path.parent}/{name}", errno.EXDEV))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.mark.parametrize("no_new_privileges", ["true", "false"])
def test_notify(
    anyone: runner.Devenv,
    project: projects.Project,
    agent: Callable[[str], seccomp_agent.Agent],
    no_new_privileges: str,
) -> None:
    listening = agent("agent")
    made = json.loads(profile("SCMP_ACT_NOTIFY"))
    made |= {"listenerPath": listening.path, "listenerMetadata": "what=folders"}
    made["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    project.write(
        {
            "devenv.yaml": f"""
                services:
                  watched:
                    image: "host:"
                    command: [sh, -c, "mkdir /tmp/made; exec sleep 1000"]
                    stop_signal: SIGKILL
                    security_opt: ["seccomp:notify.json", "no-new-privileges:{no_new_privileges}"]
            """,
            "notify.json": json.dumps(made).encode(),
        }
    )
    anyone("up", "-d")
    result = anyone("exec", "-T", "watched", "mkdir", "/tmp/more", code=1)
    assert "cross-device" in result.stderr
    assert "cross-device" in anyone("logs", "watched").stdout
    first, second = listening.states
    container = json.loads(next(pathlib.Path(anyone.data, "containers").glob("*/state.json")).read_text())
    for state, status in ((first, "creating"), (second, "running")):
        assert state["fds"] == ["seccompFd"]
        assert state["metadata"] == "what=folders"
        assert state["ociVersion"] == state["state"]["ociVersion"] == "1.2.1"
        assert (state["state"]["id"], state["state"]["status"]) == (container["id"], status)
        assert state["state"]["pid"] == container["pid"]
        assert state["state"]["bundle"] == f"{anyone.data}/containers/{container['id']}"
        assert state["state"]["annotations"]
    assert first["pid"] == container["pid"] != second["pid"]
    assert len(listening.calls) == 2


def test_nobody_to_notify(devenv: runner.Devenv, project: projects.Project) -> None:
    made = json.loads(profile("SCMP_ACT_NOTIFY")) | {"listenerPath": f"{project.path}/nobody"}
    project.write(
        {
            "devenv.yaml": """
                services:
                  a: {image: "host:", command: [sleep, "1000"], security_opt: ["seccomp:notify.json"]}
            """,
            "notify.json": json.dumps(made).encode(),
        }
    )
    result = devenv("up", "-d", code=1)
    assert f"the seccomp agent at `{project.path}/nobody` can't be told" in result.stderr
    assert not any(row["State"] == "running" for row in devenv.ps().values())


def test_bad_profile_is_refused_before_anything_is_made(devenv: runner.Devenv, project: projects.Project) -> None:
    yaml = """
        services:
          a: {image: "host:", command: [sleep, "1000"], security_opt: ["seccomp:./bad.json"]}
    """
    project.write({"devenv.yaml": yaml, "bad.json": '{"defaultAction": "SCMP_ACT_ALOW"}\n'})
    result = devenv("up", "-d", code=2)
    assert "`defaultAction` is `SCMP_ACT_ALOW`, which is not an action" in result.stderr
    assert f"{project.path}/bad.json" in result.stderr
    assert "SCMP_ACT_ALLOW" in result.stderr
    assert "service `a`" in result.stderr
    project.write({"bad.json": '{\n  "defaultAction": \n}\n'})
    result = devenv("up", "-d", code=2)
    assert f"`{project.path}/bad.json` is not JSON: line 3: " in result.stderr
    (project / "bad.json").unlink()
    assert "can't be read: No such file" in devenv("up", "-d", code=2).stderr
    assert devenv.ps() == {}


def test_a_changed_profile_makes_the_container_anew(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        {
            "devenv.yaml": """
                services:
                  a:
                    image: "host:"
                    command: [sleep, "1000"]
                    stop_signal: SIGKILL
                    security_opt: ["seccomp:p.json"]
            """,
            "p.json": profile("SCMP_ACT_LOG"),
        }
    )
    devenv("up", "-d")
    before = devenv.ps()
    devenv("up", "-d")
    assert {row["ID"] for row in devenv.ps().values()} == {row["ID"] for row in before.values()}
    project.write({"p.json": profile("SCMP_ACT_ERRNO")})
    devenv("up", "-d")
    assert {row["ID"] for row in devenv.ps().values()} != {row["ID"] for row in before.values()}
    devenv("exec", "-T", "a", "mkdir", "/tmp/x", code=1)


def test_names_that_mean_nothing_are_said(devenv: runner.Devenv, project: projects.Project) -> None:
    made = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdri"], "action": "SCMP_ACT_ERRNO"}]}
    project.write(
        {
            "devenv.yaml": """
                services:
                  a: {image: "host:", command: ["true"], security_opt: ["seccomp:p.json"]}
            """,
            "p.json": json.dumps(made).encode(),
        }
    )
    result = devenv("up", "-d")
    assert "names what is no system call and has no effect: `mkdri`" in result.stdout + result.stderr
