"""create, start, state, kill, delete, run, exec, pause: what they do, and what they refuse in which state."""

from __future__ import annotations

import array
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest

from tests.support import cgroups, machine, oci, polling

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]


def ended(bundle: oci.Bundle, name: str) -> None:
    polling.eventually(lambda: bundle.state(name)["status"] == "stopped")


def test_states_in_their_order(bundle: oci.Bundle) -> None:
    name = bundle.create("sh", "-c", "echo ran; sleep 1000")
    created = bundle.state(name)
    assert created["status"] == "created"
    assert created["bundle"] == str(bundle.folder)
    assert os.path.exists(f"/proc/{created['pid']}")
    assert bundle.output() == ""
    bundle.oci("start", name)
    assert bundle.state(name)["status"] == "running"
    polling.eventually(lambda: bundle.output() == "ran\n")
    bundle.oci("kill", name, "KILL")
    ended(bundle, name)
    assert bundle.state(name)["pid"] == 0
    bundle.oci("delete", name)
    assert "does not exist" in bundle.oci("state", name, check=False).stderr


def test_config_is_read_at_create(bundle: oci.Bundle) -> None:
    name = bundle.create("echo", "before")
    bundle.write("echo", "after")
    bundle.oci("start", name)
    polling.eventually(lambda: bundle.output() == "before\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("start",), "already running"),
        (("delete",), "not stopped"),
        (("resume",), "not paused"),
    ],
)
def test_refused_while_running(bundle: oci.Bundle, command: tuple[str, ...], words: str) -> None:
    name = bundle.started()
    assert words in bundle.oci(*command, name, check=False).stderr
    assert bundle.state(name)["status"] == "running"


@pytest.mark.parametrize(
    ("command", "words"), [("start", "stopped"), ("kill", "not running"), ("pause", "not running")]
)
def test_refused_when_stopped(bundle: oci.Bundle, command: str, words: str) -> None:
    name = bundle.started("true")
    ended(bundle, name)
    done = bundle.oci(command, name, check=False)
    assert done.returncode == 1
    assert words in done.stderr


def test_an_id_is_taken_once(bundle: oci.Bundle) -> None:
    name = bundle.started()
    done = bundle.oci("create", "--bundle", str(bundle.folder), name, check=False)
    assert "already exists" in done.stderr
    assert bundle.state(name)["status"] == "running"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../x", "", "a\nb", "x" * 1025, ".hidden"])
def test_ids_that_are_paths_are_refused(bundle: oci.Bundle, name: str) -> None:
    bundle.write("true")
    for command in (("create", "--bundle", str(bundle.folder)), ("state",), ("delete", "--force")):
        assert bundle.oci(*command, name, check=False).returncode == 1
    assert bundle.left() == []


def test_many_create_one_id(bundle: oci.Bundle) -> None:
    bundle.write("sleep", "1000")
    bundle.names.append("same")
    codes: list[int] = []

    def create() -> None:
        words = [bundle.command, "--root", bundle.root, "create", "--bundle", bundle.folder, "same"]
        codes.append(subprocess.run(words, stdin=-3, stdout=-3, stderr=-3).returncode)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 1, 1, 1]
    assert bundle.state("same")["status"] == "created"


def test_a_create_that_was_killed_is_in_nobodys_way(bundle: oci.Bundle) -> None:
    (bundle.root / "half").mkdir(parents=True)
    assert bundle.oci("state", "half", check=False).returncode == 1
    bundle.write("echo", "whole")
    assert bundle.oci("run", "--bundle", str(bundle.folder), "half").stdout == "whole\n"


def no_such_program(bundle: oci.Bundle) -> str:
    bundle.process["args"] = ["/nothing"]
    return "executable file not found"


def no_source(bundle: oci.Bundle) -> str:
    bundle.config["mounts"].append({"destination": "/x", "source": "/nothing", "options": ["bind"]})
    return "No such file"


def failing_hook(bundle: oci.Bundle) -> str:
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    return "createRuntime hook #0: `/bin/false` ended with exit status 1"


def failing_hook_inside(bundle: oci.Bundle) -> str:
    bundle.config["hooks"] = {"createContainer": [{"path": "/bin/false"}]}
    return "createContainer hook #0"


def no_socket(bundle: oci.Bundle) -> str:
    bundle.process["terminal"] = True
    return "console socket"


def no_root(bundle: oci.Bundle) -> str:
    bundle.config["root"]["path"] = "nowhere"
    return "invalid rootfs"


@pytest.mark.parametrize("spoil", [no_such_program, no_source, failing_hook, failing_hook_inside, no_socket, no_root])
def test_a_create_that_fails_leaves_nothing(bundle: oci.Bundle, spoil: Callable[[oci.Bundle], str]) -> None:
    words = spoil(bundle)
    bundle.write()
    done = bundle.oci("create", "--bundle", str(bundle.folder), "failed", check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert bundle.left() == []
    assert cgroups.folders(bundle.linux["cgroupsPath"].rpartition("/")[0]) == []


def test_run_gives_the_exit_code(bundle: oci.Bundle) -> None:
    assert bundle.run("sh", "-c", "exit 7", check=False).returncode == 7
    assert bundle.run("sh", "-c", "kill -9 $$; exit 3", check=False).returncode in {3, 137}
    assert bundle.left() == []


def test_run_passes_signals_on(bundle: oci.Bundle) -> None:
    bundle.write("sh", "-c", "trap 'echo heard; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    bundle.names.append("signalled")
    words = [bundle.command, "--root", bundle.root, "run", "--bundle", bundle.folder, "signalled"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.stdout.read() == "heard\n"
        assert running.wait(10) == 5


def test_run_keep(bundle: oci.Bundle) -> None:
    bundle.run("true", options=("--keep",))
    assert bundle.state(bundle.names[-1])["status"] == "stopped"


def test_pid_file(bundle: oci.Bundle) -> None:
    file = bundle.folder / "pid"
    name = bundle.create("sleep", "1000", options=("--pid-file", str(file)))
    assert int(file.read_text()) == bundle.state(name)["pid"]


def test_pause_and_resume(bundle: oci.Bundle) -> None:
    name = bundle.started()
    bundle.oci("pause", name)
    assert bundle.state(name)["status"] == "paused"
    assert "paused" in bundle.oci("exec", name, "true", check=False).stderr
    bundle.oci("resume", name)
    assert bundle.state(name)["status"] == "running"
    bundle.oci("exec", name, "true")


def test_a_paused_container_can_be_deleted(bundle: oci.Bundle) -> None:
    name = bundle.started()
    bundle.oci("pause", name)
    bundle.oci("delete", "--force", name)
    assert bundle.left() == []


def test_what_was_frozen_elsewhere_can_be_deleted(bundle: oci.Bundle) -> None:
    """By somebody else, or by a runtime in the container: on cgroup v1 a frozen process survives SIGKILL."""
    top = pathlib.Path("/sys/fs/cgroup")
    if machine.cgroup_version() == 2:
        pytest.skip("needs the freezer of cgroup v1")
    name = bundle.started("sh", "-c", "sleep 1000 & wait")
    path = bundle.linux["cgroupsPath"]
    below, beside = top / f"freezer{path}/below", top / f"freezer{path}-beside"
    first = bundle.state(name)["pid"]
    polling.eventually(lambda: len(cgroups.read(path, "cgroup.procs").split()) == 2)
    for folder, pid in (
        (below, next(each for each in cgroups.read(path, "cgroup.procs").split() if int(each) != first)),
        (beside, first),
    ):
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(pid))
        (folder / "freezer.state").write_text("FROZEN")
    bundle.oci("delete", "--force", name)
    polling.eventually(lambda: (beside / "cgroup.procs").read_text() == "")
    beside.rmdir()


def test_exec_in_a_sub_cgroup(bundle: oci.Bundle) -> None:
    name = bundle.started()
    found = bundle.oci("exec", "--cgroup", "inner", name, "cat", "/proc/self/cgroup").stdout
    where = {line.split(":")[1]: line.split(":")[2] for line in found.splitlines()}
    assert where.get("cpuset", where.get("")) == f"{bundle.linux['cgroupsPath']}/inner"


def test_kill_all_where_the_pid_namespace_is_shared(bundle: oci.Bundle) -> None:
    bundle.without("pid")
    name = bundle.started("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    path = bundle.linux["cgroupsPath"]
    polling.eventually(lambda: len(cgroups.read(path, "cgroup.procs").split()) == 3)
    bundle.oci("kill", "--all", name, "KILL")
    polling.eventually(lambda: cgroups.read(path, "cgroup.procs") == "")


def test_delete_force(bundle: oci.Bundle) -> None:
    bundle.oci("delete", "--force", "nobody")
    assert bundle.oci("delete", "nobody", check=False).returncode == 1
    name = bundle.started()
    pid = bundle.state(name)["pid"]
    bundle.oci("delete", "--force", name)
    assert not os.path.exists(f"/proc/{pid}/cwd")
    assert cgroups.folders(bundle.linux["cgroupsPath"]) == []


def test_list_and_ps(bundle: oci.Bundle) -> None:
    first = bundle.started()
    bundle.linux["cgroupsPath"] = bundle.linux["cgroupsPath"][:-1] + "d"
    second = bundle.create("true")
    assert bundle.oci("list", "-q").stdout.split() == [first, second]
    found = json.loads(bundle.oci("list", "--format", "json").stdout)
    assert [each["status"] for each in found] == ["running", "created"]
    assert found[0]["owner"] == "root"
    assert bundle.oci("list").stdout.splitlines()[0].split() == "ID PID STATUS BUNDLE CREATED OWNER".split()
    assert bundle.state(first)["pid"] in json.loads(bundle.oci("ps", "--format", "json", first).stdout)
    assert "sleep 1000" in bundle.oci("ps", first).stdout


def test_update(bundle: oci.Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 20}
    name = bundle.started()
    path = bundle.linux["cgroupsPath"]
    assert cgroups.read(path, "pids.max") == "20"
    bundle.oci("update", "--pids-limit", "30", "--memory", "64M", name)
    assert cgroups.read(path, "pids.max") == "30"
    bundle.oci("update", "--resources", "-", name, input=json.dumps({"pids": {"limit": -1}}))
    assert cgroups.read(path, "pids.max") == "max"
    assert bundle.oci("update", "--memory", "much", name, check=False).returncode == 1


# -- exec ----------------------------------------------------------------------------------------------------------


def test_exec_gives_output_and_exit_code(bundle: oci.Bundle) -> None:
    name = bundle.started()
    assert bundle.oci("exec", name, "echo", "-n", "here").stdout == "here"
    assert bundle.oci("exec", name, "sh", "-c", "exit 9", check=False).returncode == 9
    assert bundle.oci("exec", name, "/nothing", check=False).returncode == 255
    assert bundle.oci("exec", name, "/etc/passwd", check=False).returncode == 255


def test_exec_many_at_once(bundle: oci.Bundle) -> None:
    """Which of its two processes speaks first must not matter."""
    name = bundle.started()
    words = [bundle.command, "--root", bundle.root, "exec", name, "true"]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(12)]
    assert [(each.communicate()[1], each.returncode) for each in running] == [("", 0)] * 12


def test_exec_options(bundle: oci.Bundle) -> None:
    name = bundle.started()
    assert bundle.oci("exec", "--cwd", "/etc", "--env", "A=b", name, "sh", "-c", "pwd; echo $A").stdout == "/etc\nb\n"
    found = bundle.oci("exec", "--user", "1000:1001", "-g", "7", name, "id").stdout
    assert found.startswith("uid=1000")
    assert "gid=1001" in found
    assert "groups=7" in found or ",7" in found
    status = bundle.oci("exec", "--cap", "CAP_CHOWN", name, "grep", "CapEff", "/proc/self/status").stdout
    assert int(status.split()[1], 16) & 1
    assert bundle.oci("exec", "--user", "ann", name, "true", check=False).returncode == 255


def test_exec_process_file_detached(bundle: oci.Bundle) -> None:
    name = bundle.started()
    file, pid = bundle.folder / "process.json", bundle.folder / "exec.pid"
    file.write_text(
        json.dumps({"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 5, "gid": 6}})
    )
    bundle.detached("exec", "--process", str(file), "--detach", "--pid-file", str(pid), name)
    status = pathlib.Path(f"/proc/{pid.read_text()}/status").read_text()
    assert "Uid:\t5\t5\t5\t5" in status
    assert int(pid.read_text()) in json.loads(bundle.oci("ps", "--format", "json", name).stdout)


def test_exec_in_a_stopped_container(bundle: oci.Bundle) -> None:
    name = bundle.started("true")
    ended(bundle, name)
    assert "stopped" in bundle.oci("exec", name, "true", check=False).stderr


# -- descriptors and terminals -------------------------------------------------------------------------------------


def test_console_socket(bundle: oci.Bundle) -> None:
    path = str(bundle.folder / "console.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        bundle.process["terminal"] = True
        bundle.process["consoleSize"] = {"height": 11, "width": 22}
        name = bundle.create("sh", "-c", "tty; [ -c /dev/console ] && echo console", options=("--console-socket", path))
        connection, _ = server.accept()
        with connection:
            _, rights, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
    master = array.array("i", rights[0][2])[0]
    assert os.get_terminal_size(master) == (22, 11)
    bundle.oci("start", name)
    text = b""
    with contextlib.suppress(OSError):  # EIO at its end
        while True:
            text += os.read(master, 4096)
    os.close(master)
    assert text == b"/dev/pts/0\r\nconsole\r\n"


def test_only_asked_for_descriptors_go_in(bundle: oci.Bundle) -> None:
    bundle.write("ls", "/proc/self/fd")
    bundle.names.append("descriptors")
    words = [bundle.command, "--root", bundle.root, "run", "--bundle", bundle.folder, "descriptors"]
    with open(bundle.folder / "config.json") as one, open(bundle.folder / "config.json") as two:
        given = (one.fileno(), two.fileno())
        done = subprocess.run(words, capture_output=True, text=True, pass_fds=given)
    # ls itself has the folder open.
    assert len(done.stdout.split()) == 4, done.stdout
    assert {"0", "1", "2"} <= set(done.stdout.split())


def test_a_lot_typed_at_once(bundle: oci.Bundle) -> None:
    """More than the terminal takes before its echo is read, and what ends it."""
    bundle.process["terminal"] = True
    bundle.write("sh", "-c", "cat | wc -l")
    words = ["run", "--bundle", str(bundle.folder), "x"]
    done = bundle.oci(*words, input="a line\n" * 20000)
    assert done.stdout.endswith("\n20000\n")
    assert "\r" not in done.stdout


def test_what_a_failing_start_said(bundle: oci.Bundle) -> None:
    bundle.process["terminal"] = True
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo its reason; exit 3"]}
    bundle.config["hooks"] = {"startContainer": [hook]}
    done = bundle.run("true", check=False)
    assert (done.returncode, done.stdout) == (1, "its reason\n")


def test_preserve_fds(bundle: oci.Bundle) -> None:
    file = bundle.folder / "preserved"
    file.write_text("through\n")
    bundle.write("sh", "-c", "cat <&3")
    script = f'exec 3<{file}; exec "$@"'
    words = [
        bundle.command,
        "--root",
        str(bundle.root),
        "run",
        "--preserve-fds",
        "1",
        "--bundle",
        str(bundle.folder),
        "x",
    ]
    done = subprocess.run(["sh", "-c", script, "-", *words], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("through\n", "")


def test_preserved_descriptors_are_the_callers(bundle: oci.Bundle) -> None:
    """What the caller left free may be in use by us, for the log for one: that is never passed on."""
    log = bundle.folder / "log"
    bundle.write("sh", "-c", "ls /proc/self/fd; cat <&5")
    (bundle.folder / "preserved").write_text("through\n")
    words = f"{bundle.command} --log {log} --root {bundle.root} run --preserve-fds 9 --bundle {bundle.folder} x"
    done = subprocess.run(
        ["sh", "-c", f"exec 5<{bundle.folder}/preserved {words}"], capture_output=True, text=True, pass_fds=()
    )
    # ls itself has the folder open, at the lowest number that is free.
    assert done.stdout.split() == ["0", "1", "2", "3", "5", "through"]
    assert "of the 9 descriptors to be passed on, 1 are open: 3 is not" in done.stderr


def test_a_script_without_its_interpreter(bundle: oci.Bundle) -> None:
    script = bundle.rootfs / "script"
    script.write_text("#!/bin/nothing\n")
    script.chmod(0o755)
    assert "exec /script: no such file or directory (it is there" in bundle.refused("/script")
    name = bundle.started()
    assert "exec /script: no such file" in bundle.oci("exec", name, "/script", check=False).stderr


def test_update_beneath_a_parent_with_a_limit(bundle: oci.Bundle) -> None:
    """In either order one of the two steps may be more than the parent has."""
    bundle.linux["resources"]["cpu"] = {"quota": 10000, "period": 100000}
    name = bundle.started()
    path = bundle.linux["cgroupsPath"]
    if machine.cgroup_version() == 2:
        pytest.skip("needs cgroup v1, which has a file for each")
    parent = next(each for each in cgroups.folders(path) if (each / "cpu.cfs_quota_us").exists()).parent
    (parent / "cpu.cfs_quota_us").write_text("50000")
    bundle.oci("update", "--cpu-period", "10000", "--cpu-quota", "3000", name)
    assert (cgroups.read(path, "cpu.cfs_quota_us"), cgroups.read(path, "cpu.cfs_period_us")) == ("3000", "10000")


def test_events(bundle: oci.Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    name = bundle.started()
    event = json.loads(bundle.oci("events", "--stats", name).stdout)
    assert (event["type"], event["id"]) == ("stats", name)
    assert event["data"]["pids"]["current"] == 1
    assert 0 < event["data"]["memory"]["usage"]["usage"] < event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert "no duration" in bundle.oci("events", "--interval", "soon", name, check=False).stderr


def test_events_end_with_the_container(bundle: oci.Bundle) -> None:
    name = bundle.started()
    words = [bundle.command, "--root", str(bundle.root), "events", "--interval", "50ms", name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        assert json.loads(events.stdout.readline())["id"] == name
        bundle.oci("delete", "--force", name)
        assert events.wait(20) == 0


def test_running_out_of_memory_is_an_event(bundle: oci.Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    name = bundle.started("sh", "-c", "sleep 1; head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; sleep 1000")
    words = [bundle.command, "--root", str(bundle.root), "events", "--interval", "50ms", name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        assert any(json.loads(line) == {"type": "oom", "id": name} for line in events.stdout)
        events.kill()


def test_debug(bundle: oci.Bundle) -> None:
    bundle.write("true")
    log = bundle.folder / "log"
    words = ["--debug", "--log", str(log), "run", "--bundle", str(bundle.folder), "x"]
    assert bundle.oci(*words).stderr == ""
    assert f"cgroup {bundle.linux['cgroupsPath']}: /sys/fs/cgroup" in log.read_text()
    assert "waits for `start`" in log.read_text()


# -- the rest of the command line ----------------------------------------------------------------------------------


def test_log_as_json(bundle: oci.Bundle) -> None:
    file = bundle.folder / "log"
    done = bundle.oci("--log", str(file), "--log-format", "json", "state", "nobody", check=False)
    assert done.returncode == 1
    line = json.loads(file.read_text())
    assert line["level"] == "error"
    assert "`nobody` does not exist" in line["msg"]


def test_features_and_version(bundle: oci.Bundle) -> None:
    found = json.loads(bundle.oci("features").stdout)
    assert found["ociVersionMin"] == "1.0.0"
    assert set(found["hooks"]) == {
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    }
    assert "rro" in found["mountOptions"]
    assert bundle.oci("--version").stdout.startswith("devenv-oci version ")


def test_help_and_usage(bundle: oci.Bundle) -> None:
    assert bundle.oci("create", "--help").stdout.startswith("NAME:\n   devenv-oci create - ")
    assert "no such command" in bundle.oci("fly", check=False).stderr
    assert bundle.oci("start", check=False).returncode == 1


def test_devenv_runtime_is_the_same_program(bundle: oci.Bundle) -> None:
    devenv = str(pathlib.Path(bundle.command).parent / "devenv")
    bundle.write("echo", "hello")
    words = [devenv, "runtime", "--root", str(bundle.root), "run", "--bundle", str(bundle.folder), "same"]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "hello\n"
