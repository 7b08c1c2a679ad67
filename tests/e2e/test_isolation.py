"""What a service sees and may do, as every kind of user: its own processes, files, interfaces, name and limits."""

from __future__ import annotations

import os
import pathlib

import pytest

from devenv.runtime import capabilities
from tests.support import machine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

# moby: daemon/pkg/oci/caps/defaults.go
DOCKER = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP "
    "CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
).split()
ONE = """
    name: lone
    services:
      one:
        image: "host:"
        hostname: lonely
        command: [sleep, "1000"]
        stop_signal: SIGKILL
"""


def one(attributes: str) -> str:
    """A service with these attributes in flow style."""
    return (
        'name: lone\nservices:\n  one: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, '
        + attributes
        + "}\n"
    )


def status(devenv: runner.Devenv, service: str, *flags: str) -> dict[str, str]:
    """/proc/self/status as a process in the service finds it."""
    text = devenv.inside(service, "cat /proc/self/status", *flags)
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def names_of(mask: str) -> set[str]:
    return {name for number, name in enumerate(capabilities.NAMES) if int(mask, 16) >> number & 1}


# -- what it sees -----------------------------------------------------------------------------------------------------


def test_a_service_sees_its_own_world_alone(anyone: runner.Devenv, project: projects.Project) -> None:
    home = pathlib.Path(anyone.user.home if anyone.user else anyone.folder)
    (home / "secret").write_text("mine\n")
    project.write(ONE)
    anyone("up", "-d")
    processes = anyone.inside("one", "cat /proc/1/comm; for p in /proc/[0-9]*; do cat $p/comm; done | sort -u")
    assert set(processes.split()) <= {"sleep", "sh", "sort", "cat"}
    assert processes.split()[0] == "sleep"
    assert (
        anyone.inside(
            "one", f"ls -A /home /root /tmp /mnt /srv; cat {home}/secret {project.path}/devenv.yaml 2>&1; true"
        ).count("No such file")
        >= 2
    )
    assert anyone.inside("one", "ls /sys/class/net; cat /proc/net/dev | grep -c :").split() == ["eth0", "lo", "2"]
    assert anyone.inside("one", "hostname; cat /etc/hostname; uname -n").split() == ["lonely"] * 3
    assert anyone.inside("one", "cat /proc/self/cgroup | grep -v ':/$' ; true") == ""
    assert anyone.inside("one", "ipcs -m | grep -c 0x; true") == "0"


def test_names_and_devices_are_few(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(ONE)
    anyone("up", "-d")
    devices = set(anyone.inside("one", "ls /dev").split())
    assert devices == {
        *("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()),
        *(["core"] if os.path.exists("/proc/kcore") else []),
    }
    # Its own terminals: none, where the machine may have many.
    assert anyone.inside("one", "ls /dev/pts") == "ptmx"
    assert anyone.inside("one", "echo x >/dev/null && head -c 4 /dev/urandom | wc -c; id -u").split() == ["4", "0"]


def test_no_descriptor_of_devenv_leaks(anyone: runner.Devenv, project: projects.Project) -> None:
    """In the service's own process and in one that `exec` brings."""
    project.write(
        one('command: [sh, -c, "ls -l /proc/self/fd; exec sleep 1000"]').replace('command: [sleep, "1000"], ', "")
    )
    anyone("up", "-d")
    logged = eventually(
        lambda: [line for line in anyone("logs", "--no-log-prefix").stdout.splitlines() if "->" in line]
    )
    for lines in (logged, anyone.inside("one", "ls -l /proc/self/fd").splitlines()[1:]):
        targets = {line.rpartition(" -> ")[0].split()[-1]: line.rpartition(" -> ")[2] for line in lines}
        # The fourth is the folder that `ls` reads.
        assert sorted(targets) == ["0", "1", "2", "3"]
        assert targets["3"].startswith("/proc/")
    assert anyone.inside("one", "ls /proc/1/fd").split() == ["0", "1", "2"]


# -- what it may change -----------------------------------------------------------------------------------------------


def test_writes_stay_in_the_container(anyone: runner.Devenv, project: projects.Project) -> None:
    """Neither the machine nor a second container of the same image sees them, and a new container begins anew."""
    before = sorted(os.listdir("/usr")), sorted(os.listdir("/etc"))
    project.write(ONE + ONE.partition("services:\n")[2].replace("one:", "two:"))
    anyone("up", "-d")
    # In a user namespace the folders in /usr belong to nobody.
    gone = "/usr/bin/env" if anyone.user is None else "/etc/passwd"
    write = f"for i in /usr/mine /etc/mine /mine; do echo mine >$i; done; rm {gone} && cat /usr/mine /mine"
    assert anyone.inside("one", write) == "mine\nmine"
    assert anyone.inside("two", f"ls /usr/mine /etc/mine /mine 2>/dev/null; ls {gone}") == gone
    assert (sorted(os.listdir("/usr")), sorted(os.listdir("/etc"))) == before
    assert pathlib.Path(gone).exists()
    anyone("restart", "one")
    assert anyone.inside("one", "cat /mine") == "mine"
    anyone("up", "-d", "--force-recreate", "one")
    assert anyone.inside("one", f"ls /mine /usr/mine 2>/dev/null; ls {gone}") == gone


def test_the_kernel_is_out_of_reach(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(ONE)
    anyone("up", "-d")
    assert anyone.inside("one", "head -c 10 /proc/kcore | wc -c; cat /proc/keys | wc -c") == "0\n0"
    assert anyone.inside("one", "ls -A /sys/firmware | wc -l") == "0"
    for path in ("/proc/sys/kernel/hostname", "/proc/sys/vm/swappiness", "/proc/sysrq-trigger", "/sys/kernel/mm/x"):
        said = anyone.inside("one", f"{{ echo 1 >{path}; }} 2>&1; true")
        assert "Read-only" in said or "denied" in said or "nonexistent" in said, path
    assert "denied" in anyone.inside("one", "mount -t tmpfs none /mnt 2>&1; true")
    assert "not permitted" in anyone.inside("one", "hostname other 2>&1; unshare -m true 2>&1; true")


def test_capabilities_are_dockers_fourteen(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(ONE)
    anyone("up", "-d")
    of_the_service = anyone.inside("one", "cat /proc/1/status")
    for text in (of_the_service, anyone.inside("one", "cat /proc/self/status")):
        found = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        for mask in ("CapBnd", "CapEff", "CapPrm"):
            assert names_of(found[mask]) == set(DOCKER)
        assert names_of(found["CapInh"]) == names_of(found["CapAmb"]) == set()
        assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("cap_add: [NET_ADMIN, cap_sys_ptrace]", {*DOCKER, "CAP_NET_ADMIN", "CAP_SYS_PTRACE"}),
        ("cap_drop: [ALL]", set()),
        ("cap_drop: [ALL], cap_add: [CHOWN]", {"CAP_CHOWN"}),
        ("cap_drop: [MKNOD]", {*DOCKER} - {"CAP_MKNOD"}),
    ],
)
def test_capabilities_are_added_and_dropped(
    devenv: runner.Devenv, project: projects.Project, attributes: str, expected: set[str]
) -> None:
    project.write(one(attributes))
    devenv("up", "-d")
    assert names_of(status(devenv, "one")["CapBnd"]) == expected


def test_privileged_may_everything_that_the_user_may(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(one("privileged: true"))
    anyone("up", "-d")
    assert {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"} <= names_of(status(anyone, "one")["CapEff"])
    assert anyone.inside("one", "mount -t tmpfs none /mnt && touch /mnt/x && ls /mnt") == "x"
    assert anyone.inside("one", "wc -c </proc/keys; hostname other && hostname").split()[-1] == "other"


def test_exec_privileged(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(ONE)
    devenv("up", "-d")
    assert "CAP_SYS_ADMIN" in names_of(status(devenv, "one", "--privileged")["CapEff"])
    assert names_of(status(devenv, "one")["CapEff"]) == set(DOCKER)


def test_read_only_with_room_to_write(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        one("read_only: true, tmpfs: ['/scratch:size=1m,mode=700', /run], volumes: ['data:/data']")
        + "volumes: {data: {}}\n"
    )
    anyone("up", "-d")
    for path in ("/x", "/usr/x", "/etc/x", "/tmp/x"):
        assert "Read-only" in anyone.inside("one", f"{{ true >{path}; }} 2>&1; true"), path
    assert (
        anyone.inside("one", "echo 1 >/scratch/x && echo 2 >/run/x && echo 3 >/data/x && cat /scratch/x /run/x /data/x")
        == "1\n2\n3"
    )
    assert anyone.inside(
        "one", "stat -c %a /scratch; head -c 2000000 /dev/zero 2>/dev/null >/scratch/big; stat -c %s /scratch/big"
    ).split() == ["700", str(1024 * 1024 - 4096)]


# -- who it is, and where ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_users_and_groups(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(one('user: "33:7", group_add: ["44", tty], working_dir: /var/lib'))
    anyone("up", "-d")
    of_the_service = anyone.inside("one", "cat /proc/1/status")
    assert "Uid:\t33\t33\t33\t33" in of_the_service
    assert "Groups:\t5 7 44" in of_the_service
    assert anyone.inside("one", "id -u; id -g; pwd").split() == ["33", "7", "/var/lib"]
    assert set(anyone.inside("one", "id -G").split()) == {"5", "7", "44"}
    assert names_of(status(anyone, "one")["CapEff"]) == set()
    assert anyone.inside("one", "id -u; pwd", "-u", "root", "-w", "/etc").split() == ["0", "/etc"]
    project.write(one("user: www-data"))
    anyone("up", "-d")
    assert anyone.inside("one", "id -un; id -gn; echo $HOME").split() == ["www-data", "www-data", "/var/www"]
    project.write(one("user: nobody-there"))
    assert "nobody-there" in anyone("up", "-d", code=1).stderr


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_health_checks_and_hooks_run_as_the_service_does(anyone: runner.Devenv, project: projects.Project) -> None:
    say = "(id -u; pwd; echo $$WORD; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status) >"
    project.write(
        f"""
        name: lone
        services:
          one:
            image: "host:"
            user: "33"
            working_dir: /var/lib
            environment: {{WORD: hello}}
            command: ["sh", "-c", "{say}/tmp/service; exec sleep 1000"]
            stop_signal: SIGKILL
            healthcheck: {{test: "{say}/tmp/check", interval: 0.1s}}
            post_start: [{{command: [sh, -c, "{say}/tmp/hook"]}}]
        """
    )
    anyone("up", "-d", "--wait")
    expected = anyone.inside("one", "cat /tmp/service")
    assert expected.split()[:3] == ["33", "/var/lib", "hello"]
    # Written anew at each check, so it may just be half there.
    eventually(lambda: anyone.inside("one", "cat /tmp/check") == expected)
    assert anyone.inside("one", "cat /tmp/hook") == expected


@pytest.mark.parametrize("anyone", ["dvplain"], indirect=True)
def test_a_user_who_has_no_ranges_is_told_so(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(one('user: "33"'))
    said = anyone("up", "-d", code=1).stderr
    assert "subuid" in said
    assert "Traceback" not in said


def test_a_missing_working_folder_is_made(anyone: runner.Devenv, project: projects.Project) -> None:
    """As Docker does."""
    project.write(one("working_dir: /new/place"))
    anyone("up", "-d")
    assert anyone.inside("one", "pwd") == "/new/place"


def test_init_reaps_orphans_and_passes_signals_on(anyone: runner.Devenv, project: projects.Project) -> None:
    script = "trap 'echo term; exit 7' TERM; echo $$; sleep 0.01 & wait; echo ready; while :; do sleep 0.01; done"
    project.write(
        f'name: lone\nservices:\n  one:\n    image: \'host:\'\n    init: true\n    command: ["sh", "-c", "{script}"]\n'
    )
    anyone("up", "-d")
    eventually(lambda: "ready" in anyone("logs").stdout)
    anyone.inside("one", "(sh -c 'sleep 0.05 & exit' &) ; true")
    eventually(lambda: anyone.inside("one", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '; true") == "0")
    assert anyone("logs", "--no-log-prefix").stdout.split()[0] != "1"
    anyone("stop")
    assert anyone.ps()["lone-one-1"]["ExitCode"] == 7


def test_ulimits_and_sysctls(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(one("ulimits: {nofile: {soft: 100, hard: 200}, core: 0}, sysctls: {net.ipv4.ip_default_ttl: 77}"))
    anyone("up", "-d")
    limits = anyone.inside("one", "cat /proc/1/limits")
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["100", "200"]]
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [["0", "0"]]
    assert anyone.inside("one", "ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl").split() == ["100", "77"]


# -- limits -----------------------------------------------------------------------------------------------------------


def test_limits_are_the_kernels_own(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(one("mem_limit: 64m, pids_limit: 20, cpus: 0.5"))
    devenv("up", "-d")
    if machine.cgroup_version() == 1:
        files = "memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us"
        expected = [str(64 << 20), "20", "50000"]
    else:
        files, expected = "memory.max pids.max cpu.max", [str(64 << 20), "20", "50000", "100000"]
    assert devenv.inside("one", f"cd /sys/fs/cgroup && cat {files}").split() == expected
    # Twenty and not one more.
    said = devenv.inside("one", "for i in $(seq 30); do sleep 100 & done 2>&1; true", code=None)
    assert "fork" in said or "fork" in devenv("exec", "-T", "one", "sh", "-c", "sleep 0 & wait", code=None).stderr


def test_out_of_memory_is_recorded(devenv: runner.Devenv, project: projects.Project) -> None:
    greedy = "exec python3 -c 'x = bytearray(200 << 20); print(len(x))'"
    project.write(one(f'mem_limit: 32m, memswap_limit: 32m, entrypoint: [sh, -c, "{greedy}"]'))
    devenv("up", "-d")
    row = eventually(lambda: (found := devenv.ps()["lone-one-1"])["State"] == "exited" and found)
    assert row["ExitCode"] == 137
    assert "out of memory" in row["Status"]


@pytest.mark.parametrize("anyone", ["dvrange", "dvplain"], indirect=True)
@machine.needs_cgroup_v1
def test_limits_that_cannot_be_set_are_named_and_no_obstacle(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(one("mem_limit: 64m"))
    assert "memory limits are not set" in anyone("up", "-d").stderr
    assert anyone.ps()["lone-one-1"]["State"] == "running"


# -- namespaces that are shared ---------------------------------------------------------------------------------------


def test_a_network_that_is_shared(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: lone
        services:
          guest: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, network_mode: "service:one"}
          none: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, network_mode: none}
          host: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, network_mode: host}
          bridge: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, network_mode: bridge}
          one: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, hostname: lonely}
        """
    )
    anyone("up", "-d")
    assert anyone.inside("bridge", "ls /sys/class/net").split() == ["eth0", "lo"]
    net = {name: anyone.inside(name, "readlink /proc/self/ns/net") for name in ("one", "guest", "none", "host")}
    assert net["guest"] == net["one"]
    assert len(set(net.values())) == 3
    assert net["host"] == os.readlink("/proc/self/ns/net")
    assert anyone.inside("none", "ls /sys/class/net") == "lo"
    assert anyone.inside("none", "cat /proc/net/route | wc -l") == "1"
    # With the network come its names.
    assert anyone.inside("guest", "cat /etc/hosts") == anyone.inside("one", "cat /etc/hosts") != ""
    assert anyone.inside("guest", "getent ahostsv4 one; hostname").split()[-1] == "lonely"
    assert anyone.inside("guest", "readlink /proc/self/ns/pid") != anyone.inside("one", "readlink /proc/self/ns/pid")


def test_processes_that_are_shared(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: lone
        services:
          one: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
          guest: {image: "host:", command: [sleep, "2000"], stop_signal: SIGKILL, pid: "service:one"}
          all: {image: "host:", command: [sleep, "3000"], stop_signal: SIGKILL, pid: host}
        """
    )
    anyone("up", "-d")
    assert "2000" in anyone.inside("one", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert anyone.inside("guest", "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 1000 "
    assert anyone.inside("all", "readlink /proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    # One's own signals reach one's own processes alone.
    anyone("stop", "guest")
    assert anyone.ps()["lone-guest-1"]["State"] == "exited"
    assert anyone.ps()["lone-one-1"]["State"] == "running"
    anyone("start", "guest")
    assert "2000" in anyone.inside("one", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_memory_that_is_shared(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: lone
        services:
          one: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, shm_size: 1m}
          guest: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, ipc: "service:one"}
          other: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
        """
    )
    anyone("up", "-d")
    anyone.inside("one", "echo shared >/dev/shm/x; ipcmk -M 100 >/dev/null")
    assert anyone.inside("guest", "cat /dev/shm/x; ipcs -m | grep -c ' 100 '").split() == ["shared", "1"]
    assert anyone.inside("other", "ls /dev/shm; ipcs -m | grep -c ' 100 '; true") == "0"
    assert anyone.inside("guest", "readlink /proc/self/ns/mnt") != anyone.inside("one", "readlink /proc/self/ns/mnt")


def test_a_named_volume_begins_with_the_images_content(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        one('volumes: ["data:/etc/alternatives", "empty:/var/empty", "data:/again"]')
        + "volumes: {data: {}, empty: {}}\n"
    )
    anyone("up", "-d")
    files = anyone.inside("one", "ls /etc/alternatives")
    assert files
    assert anyone.inside("one", "ls /again") == files
    assert anyone.inside("one", "ls /var/empty") == ""
    anyone.inside("one", "rm /etc/alternatives/*; echo mine >/etc/alternatives/mine")
    anyone("up", "-d", "--force-recreate")
    # What is in it already stays as it is.
    assert anyone.inside("one", "ls /etc/alternatives") == "mine"
