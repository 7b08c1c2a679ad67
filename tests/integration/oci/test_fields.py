"""The fields of config.json, each seen from inside a container on the real kernel."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
from typing import Any

import pytest

from tests.support import cgroups, machine, oci, polling

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 2000}]


def namespace(kind: str, pid: int | str = "self") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


# -- namespaces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "file"), [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")]
)
def test_a_namespace_is_new_only_when_listed(bundle: oci.Bundle, kind: str, file: str) -> None:
    bundle.without(kind)
    bundle.linux["namespaces"].append({"type": kind})
    assert bundle.run("readlink", f"/proc/self/ns/{file}").stdout.strip() != namespace(file)
    bundle.without(kind)
    del bundle.config["hostname"]
    assert bundle.run("readlink", f"/proc/self/ns/{file}").stdout.strip() == namespace(file)


def test_a_namespace_is_joined_by_its_path(bundle: oci.Bundle) -> None:
    holder = subprocess.Popen(["unshare", "--net", "--ipc", "sleep", "1000"])
    try:
        polling.eventually(lambda: namespace("net", holder.pid) != namespace("net"))
        bundle.without("network", "ipc")
        for kind, file in (("network", "net"), ("ipc", "ipc")):
            bundle.linux["namespaces"].append({"type": kind, "path": f"/proc/{holder.pid}/ns/{file}"})
        found = bundle.sh("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc").split()
        assert found == [namespace("net", holder.pid), namespace("ipc", holder.pid)]
        bundle.linux["namespaces"][-1]["path"] = f"/proc/{holder.pid}/ns/uts"
        assert "joining the ipc namespace" in bundle.refused()
    finally:
        holder.kill()
        holder.wait()


def test_user_namespace(bundle: oci.Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = MAPPING
    # Its root makes the folder to mount on.
    os.chown(bundle.rootfs, 100000, 100000)
    bundle.config["mounts"].append({"destination": "/data", "source": str(bundle.rootfs / "etc"), "options": ["rbind"]})
    name = bundle.started("sh", "-c", "cat /proc/self/uid_map; ls /data; echo x > /dev/null && echo null; sleep 1000")
    polling.eventually(lambda: bundle.output().split() == ["0", "100000", "2000", "passwd", "null"])
    assert os.stat(f"/proc/{bundle.state(name)['pid']}").st_uid == 100000
    assert bundle.oci("exec", name, "id", "-u").stdout == "0\n"


def test_user_namespace_with_a_network_that_is_the_hosts(bundle: oci.Bundle) -> None:
    """As podman does it: the network namespace is made first, and belongs to the host's user namespace."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        polling.eventually(lambda: namespace("net", holder.pid) != namespace("net"))
        bundle.without("network")
        bundle.linux["namespaces"] += [{"type": "user"}, {"type": "network", "path": f"/proc/{holder.pid}/ns/net"}]
        bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = MAPPING
        name = bundle.started()
        found = bundle.oci("exec", name, "readlink", "/proc/self/ns/net").stdout.strip()
        assert found == namespace("net", holder.pid)
    finally:
        holder.kill()
        holder.wait()


def test_time_namespace(bundle: oci.Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    assert float(bundle.run("cat", "/proc/uptime").stdout.split()[0]) > 1000000
    name = bundle.started()
    assert float(bundle.oci("exec", name, "cat", "/proc/uptime").stdout.split()[0]) > 1000000


def test_names(bundle: oci.Bundle) -> None:
    bundle.config |= {"hostname": "inside", "domainname": "example.org"}
    assert bundle.sh("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname").split() == ["inside", "example.org"]


# -- mounts --------------------------------------------------------------------------------------------------------


def mounted(bundle: oci.Bundle, target: str, **entry: Any) -> list[str]:
    """The options of the mount at ``target``, as the container sees them."""
    bundle.config["mounts"].append({"destination": target, **entry})
    for line in bundle.run("cat", "/proc/self/mountinfo").stdout.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[4] == target:
            return fields.split()[5].split(",") + rest.split()[2].split(",")
    raise AssertionError(f"nothing is mounted at {target}")


def test_filesystem_options(bundle: oci.Bundle) -> None:
    found = mounted(bundle, "/m", type="tmpfs", source="t", options=["nosuid", "nodev", "noexec", "ro", "size=64k"])
    assert {"nosuid", "nodev", "noexec", "ro", "size=64k"} <= set(found)


def test_bind_options(bundle: oci.Bundle) -> None:
    found = mounted(bundle, "/m", source=str(bundle.folder), options=["bind", "ro", "nosuid", "noexec", "noatime"])
    assert {"ro", "nosuid", "noexec", "noatime"} <= set(found)


@pytest.mark.parametrize(("option", "beneath"), [("ro", "rw"), ("rro", "ro")])
def test_read_only_alone_and_recursively(bundle: oci.Bundle, option: str, beneath: str) -> None:
    folder = bundle.folder / "tree" / "below"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", folder], check=True)
    try:
        entry = {"destination": "/m", "source": str(folder.parent), "options": ["rbind", option]}
        bundle.config["mounts"].append(entry)
        lines = bundle.run("cat", "/proc/self/mountinfo").stdout.splitlines()
        found = next(line.split()[5] for line in lines if line.split()[4] == "/m/below")
        assert found.split(",")[0] == beneath
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_file_is_bound(bundle: oci.Bundle) -> None:
    (bundle.folder / "file").write_text("bound")
    bundle.config["mounts"].append({"destination": "/a/b/file", "source": "file", "options": ["bind"]})
    assert bundle.run("cat", "/a/b/file").stdout == "bound"


def test_idmapped_bind(bundle: oci.Bundle) -> None:
    file = bundle.folder / "data" / "file"
    file.parent.mkdir()
    file.touch()
    os.chown(file, 1000, 1000)
    mapping = [{"containerID": 1000, "hostID": 7, "size": 1}]
    entry = {"destination": "/data", "source": str(file.parent), "options": ["bind", "idmap"]}
    entry |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.config["mounts"].append(entry)
    assert bundle.run("stat", "-c", "%u", "/data/file").stdout == "7\n"


def test_tmpcopyup(bundle: oci.Bundle) -> None:
    (bundle.rootfs / "kept").mkdir()
    (bundle.rootfs / "kept" / "file").write_text("copied")
    bundle.config["mounts"].append({"destination": "/kept", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]})
    assert bundle.sh("cat /kept/file; echo other > /kept/file") == "copied"
    assert (bundle.rootfs / "kept" / "file").read_text() == "copied"


def test_propagation(bundle: oci.Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "shared"
    lines = bundle.run("cat", "/proc/self/mountinfo").stdout.splitlines()
    assert "shared:" in next(line for line in lines if line.split()[4] == "/")


def test_cgroup_mount(bundle: oci.Bundle) -> None:
    assert bundle.sh("ls /sys/fs/cgroup") != ""
    assert "Read-only" in bundle.run("touch", "/sys/fs/cgroup/x", check=False).stderr


def test_masked_and_readonly_paths(bundle: oci.Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/proc/version", "/bin/../etc"]
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    assert bundle.sh("cat /proc/version; ls /etc") == ""
    assert "Read-only" in bundle.run("sh", "-c", "echo x > /proc/sys/kernel/hostname", check=False).stderr


# -- the process ---------------------------------------------------------------------------------------------------


def test_user_and_umask(bundle: oci.Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 6]}
    lines = dict(
        line.split(":\t", 1) for line in bundle.run("cat", "/proc/self/status").stdout.splitlines() if ":\t" in line
    )
    assert lines["Uid"] == "1000\t1000\t1000\t1000"
    assert lines["Gid"] == "1001\t1001\t1001\t1001"
    assert lines["Groups"].split() == ["5", "6"]
    assert lines["Umask"] == "0027"
    assert "HOME=/home/ann" in bundle.run("env").stdout.split()


def test_dev_null_stays_the_machines(bundle: oci.Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    before = os.stat("/dev/null")
    name = bundle.started()
    bundle.detached("exec", "--user", "33:7", "--detach", name, "sleep", "0")
    assert (os.stat("/dev/null").st_uid, os.stat("/dev/null").st_gid) == (before.st_uid, before.st_gid) == (0, 0)


def test_the_five_sets_of_capabilities(bundle: oci.Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    names = ["CAP_CHOWN", "CAP_KILL"]
    bundle.process["capabilities"] = {
        "bounding": [*names, "CAP_SYS_CHROOT"],
        "permitted": names,
        "inheritable": names,
        "effective": names,
        "ambient": ["CAP_KILL"],
    }
    found = bundle.run("grep", "Cap", "/proc/self/status").stdout.split()
    sets = {name: int(value, 16) for name, value in zip(found[::2], found[1::2], strict=True)}
    both, kill = 1 << 0 | 1 << 5, 1 << 5
    # execve(2) by one who is not root leaves what is ambient.
    assert sets == {"CapInh:": both, "CapPrm:": kill, "CapEff:": kill, "CapBnd:": both | 1 << 18, "CapAmb:": kill}


def test_no_capabilities_without_the_field(bundle: oci.Bundle) -> None:
    del bundle.process["capabilities"]
    assert set(bundle.run("grep", "Cap", "/proc/self/status").stdout.split()[1::2]) == {"0" * 16}


def test_an_unknown_capability_is_a_warning(bundle: oci.Bundle) -> None:
    bundle.process["capabilities"]["bounding"] = ["CAP_FLYING"]
    done = bundle.run("echo", "ran")
    assert done.stdout == "ran\n"
    assert "CAP_FLYING" in done.stderr


def test_rlimits(bundle: oci.Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert bundle.sh("ulimit -Sn; ulimit -Hn").split() == ["100", "200"]
    bundle.process["rlimits"] *= 2
    assert "twice" in bundle.refused()
    bundle.process["rlimits"] = [{"type": "RLIMIT_WISHES", "soft": 1, "hard": 1}]
    assert "RLIMIT_WISHES" in bundle.refused()


def test_oom_score(bundle: oci.Bundle) -> None:
    bundle.process["oomScoreAdj"] = 321
    assert bundle.run("cat", "/proc/self/oom_score_adj").stdout == "321\n"


def test_scheduling(bundle: oci.Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    fields = bundle.run("cat", "/proc/self/stat").stdout.rpartition(")")[2].split()
    assert (fields[16], fields[38]) == ("7", "3")  # nice, policy: proc_pid_stat(5)
    bundle.process["scheduler"] = {"policy": "SCHED_HOPE"}
    assert "SCHED_HOPE" in bundle.refused()


def test_personality(bundle: oci.Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert bundle.run("cat", "/proc/self/personality").stdout == "00000008\n"


def test_no_new_privileges(bundle: oci.Bundle) -> None:
    for wanted in (True, False):
        bundle.process["noNewPrivileges"] = wanted
        assert bundle.run("grep", "NoNewPrivs", "/proc/self/status").stdout.split()[1] == str(int(wanted))


def test_cwd(bundle: oci.Bundle) -> None:
    bundle.process["cwd"] = "/made/here"
    assert bundle.sh("pwd") == "/made/here\n"
    for path in ("relative", "/proc/self/fd/7", "/proc/self/fd/9/.."):
        bundle.process["cwd"] = path
        assert bundle.refused()


# -- linux ---------------------------------------------------------------------------------------------------------


def test_default_devices(bundle: oci.Bundle) -> None:
    assert bundle.sh("for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo $d; done") == ""
    assert bundle.sh("for l in fd stdin ptmx; do readlink /dev/$l; done").split() == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "pts/ptmx",
    ]


def test_a_terminal_where_dev_is_read_only(bundle: oci.Bundle) -> None:
    for entry in bundle.config["mounts"]:
        if entry["destination"] == "/dev":
            entry["options"].append("ro")
    bundle.process["terminal"] = True
    assert bundle.sh("touch /dev/x 2>/dev/null || tty") == "/dev/pts/0\n"


def test_masked_folders_are_one_filesystem(bundle: oci.Bundle) -> None:
    for name in ("one", "two"):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name / "file").touch()
    bundle.linux["maskedPaths"] = ["/one", "/two"]
    assert bundle.sh("ls /one /two").split() == ["/one:", "/two:"]
    first, second = bundle.sh("stat -c %d /one /two").split()
    assert first == second
    assert "Read-only" in bundle.run("touch", "/two/x", check=False).stderr


def test_a_hook_with_the_containers_environment(bundle: oci.Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.process["env"] = ["PATH=/bin", "ONE=two"]
    script = bundle.rootfs / "hook"
    script.write_text("#!/bin/sh\necho $ONE > /tmp/told\n")
    script.chmod(0o755)
    bundle.config["hooks"] = {"startContainer": [{"path": "/hook"}]}
    assert bundle.sh("cat /tmp/told") == "two\n"


def test_a_device_that_every_container_has(bundle: oci.Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
    ]
    assert bundle.sh("stat -L -c %t,%T /dev/ptmx /dev/null").split() == ["5,2", "1,3"]


@pytest.mark.parametrize("host", [0, 100000])
def test_devices_in_a_user_namespace(bundle: oci.Bundle, host: int) -> None:
    """None can be made in there, so they are made before: as they were asked for, and seen nowhere else."""
    bundle.linux["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": host, "size": 65536}]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = mapping
    bundle.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"})
    bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 5, "gid": 6},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7},
    ]
    os.chown(bundle.rootfs, host, host)
    mounts = len(pathlib.Path("/proc/self/mounts").read_text().splitlines())
    assert bundle.sh("stat -c '%F %a %u:%g %t,%T' /dev/mine; head -c 3 /dev/mine | wc -c").splitlines() == [
        "character special file 644 5:6 1,5",
        "3",
    ]
    assert len(pathlib.Path("/proc/self/mounts").read_text().splitlines()) == mounts
    bundle.linux["devices"][0]["uid"] = 70000
    assert "id 70000 is not mapped" in bundle.refused()


def test_devices(bundle: oci.Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/sub/pipe", "type": "p", "fileMode": stat.S_IFIFO | 0o600},
    ]
    assert bundle.run("stat", "-c", "%a %u %g %t:%T", "/dev/mine").stdout == "640 5 6 1:3\n"
    assert bundle.sh("[ -p /sub/pipe ] && echo pipe") == "pipe\n"


def test_a_list_of_all_the_hosts_devices_names_ptmx_too(bundle: oci.Bundle) -> None:
    """As podman gives it to a privileged container."""
    bundle.linux["devices"] = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666}]
    assert bundle.run("readlink", "/dev/ptmx").stdout == "pts/ptmx\n"


def test_a_device_that_is_not_allowed_cant_be_opened(bundle: oci.Bundle) -> None:
    # Nobody drives it: who may open it is told so, who may not isn't.
    bundle.linux["devices"] = [{"path": "/dev/odd", "type": "c", "major": 99, "minor": 99}]
    bundle.linux["resources"]["devices"] = []

    def opened(how: str) -> str:
        return bundle.run("sh", "-c", f": {how} /dev/odd", check=False).stderr

    assert "not permitted" in opened("<")
    bundle.linux["resources"]["devices"] = [{"allow": True, "type": "c", "major": 99, "minor": 99, "access": "r"}]
    assert "No such device" in opened("<")
    assert "not permitted" in opened(">")


def test_sysctl(bundle: oci.Bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel/shmmni": "77"}
    assert bundle.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni").split() == ["1", "77"]


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.swappiness", "net..ipv4", "kernel.hostname", "../x"])
def test_sysctls_of_the_host_are_refused(bundle: oci.Bundle, name: str) -> None:
    bundle.linux["sysctl"] = {name: "1"}
    assert "sysctl" in bundle.refused()


def test_sysctl_of_a_namespace_that_is_the_hosts(bundle: oci.Bundle) -> None:
    before = pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.without("network")
    assert "host network namespace" in bundle.refused()
    bundle.linux["namespaces"].append({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    assert "host network namespace" in bundle.refused()
    assert pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_limits(bundle: oci.Bundle) -> None:
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
    }
    bundle.started()
    path = bundle.linux["cgroupsPath"]
    if machine.cgroup_version() == 2:
        assert cgroups.read(path, "memory.max") == str(64 << 20)
        assert cgroups.read(path, "cpu.max") == "50000 100000"
    else:
        assert cgroups.read(path, "memory.limit_in_bytes") == str(64 << 20)
        assert cgroups.read(path, "cpu.shares") == "512"
        assert cgroups.read(path, "cpu.cfs_quota_us") == "50000"


def test_a_cgroup_is_not_shared(bundle: oci.Bundle) -> None:
    bundle.started()
    assert "not empty" in bundle.refused()


def test_a_frozen_cgroup_is_not_joined(bundle: oci.Bundle) -> None:
    top = pathlib.Path("/sys/fs/cgroup")
    unified, path = (top / "cgroup.controllers").exists(), bundle.linux["cgroupsPath"]
    folder = pathlib.Path(f"{top}{path}" if unified else f"{top}/freezer{path}")
    folder.mkdir(parents=True)
    (folder / ("cgroup.freeze" if unified else "freezer.state")).write_text("1" if unified else "FROZEN")
    try:
        assert "frozen" in bundle.refused()
    finally:
        (folder / ("cgroup.freeze" if unified else "freezer.state")).write_text("0" if unified else "THAWED")
        folder.rmdir()


def test_the_callers_affinity_is_not_the_containers(bundle: oci.Bundle) -> None:
    """Its cgroup says where it may run; since Linux 6.2 it would else inherit what the caller was held to."""
    if (processors := sorted(os.sched_getaffinity(0)))[1:] == []:
        pytest.skip("needs two processors")
    bundle.process["args"] = ["sleep", "1000"]
    script = "grep Cpus_allowed_list: /proc/self/status"
    try:
        os.sched_setaffinity(0, processors[:1])
        alone = bundle.sh(script)
        name = bundle.started()
        joined = bundle.oci("exec", name, "sh", "-c", script).stdout
    finally:
        os.sched_setaffinity(0, processors)
    assert alone.split()[1] != str(processors[0])
    assert joined == alone


def test_memory_policy_without_a_mode(bundle: oci.Bundle) -> None:
    bundle.linux["memoryPolicy"] = {}
    assert "invalid memory policy mode" in bundle.refused()


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"deadline": 20000000}, "requires `runtime`"),
        ({"runtime": 10000000}, "requires `deadline`"),
        ({"runtime": 0, "deadline": 20000000}, "runtime must be greater than 0"),
        ({"runtime": 30000000, "deadline": 20000000}, "runtime (30000000) must be <= deadline (20000000)"),
        ({"runtime": 9000, "deadline": 20000, "period": 10000}, "deadline (20000) must be <= period (10000)"),
        ({"runtime": 500, "deadline": 20000000}, "runtime (500) must be between 1024 and"),
    ],
)
def test_an_impossible_deadline(bundle: oci.Bundle, fields: dict[str, int], what: str) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", **fields}
    assert what in bundle.refused()


def test_unified_limits_need_cgroup_v2(bundle: oci.Bundle) -> None:
    bundle.linux["resources"]["unified"] = {"memory.high": "1000000"}
    if machine.cgroup_version() == 2:
        bundle.started()
        assert cgroups.read(bundle.linux["cgroupsPath"], "memory.high") == "999424"
    else:
        assert "cgroup v1" in bundle.refused() or "cgroup v2" in bundle.refused()


def test_network_devices(bundle: oci.Bundle) -> None:
    subprocess.run("ip link add ocia type veth peer name ocib".split(), check=True)
    try:
        subprocess.run("ip addr add 10.98.7.1/24 dev ocia".split(), check=True)
        bundle.linux["netDevices"] = {"ocia": {"name": "eth7"}}
        found = bundle.run("busybox", "ip", "addr", "show", "eth7").stdout
        assert "10.98.7.1/24" in found
        assert ",UP" in found
        assert "no interface" in bundle.refused()
    finally:
        subprocess.run("ip link delete ocib".split(), stderr=subprocess.DEVNULL)


def test_loopback_is_up(bundle: oci.Bundle) -> None:
    assert "127.0.0.1" in bundle.run("busybox", "ip", "addr").stdout


# -- hooks ---------------------------------------------------------------------------------------------------------


def test_hooks_run_at_their_points_with_the_state(bundle: oci.Bundle) -> None:
    folder = bundle.folder / "hooks"
    folder.mkdir()
    points = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    bundle.config["hooks"] = {
        point: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {folder}/{point}"], "env": ["A=b"]}]
        for point in points
    }
    bundle.config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/inside"]}]
    bundle.config["root"]["readonly"] = False
    bundle.config["annotations"] = {"org.example": "yes"}
    bundle.run("cat", "/tmp/inside")
    states = {point: json.loads((folder / point).read_text()) for point in points}
    states["startContainer"] = json.loads((bundle.rootfs / "tmp" / "inside").read_text())
    assert {point: found["status"] for point, found in states.items()} == {
        "prestart": "created",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    assert all(found["annotations"] == {"org.example": "yes"} for found in states.values())
    assert all(found["bundle"] == str(bundle.folder) for found in states.values())


def test_a_hook_has_a_time_limit(bundle: oci.Bundle) -> None:
    bundle.config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    assert "longer than 1 s" in bundle.refused()


def test_a_failing_poststop_is_a_warning(bundle: oci.Bundle) -> None:
    bundle.config["hooks"] = {"poststop": [{"path": "/bin/false"}]}
    assert "poststop" in bundle.run("true").stderr


def test_a_failing_poststart_ends_the_container(bundle: oci.Bundle) -> None:
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    name = bundle.create("sleep", "1000")
    assert bundle.oci("start", name, check=False).returncode == 1
    assert bundle.left() == []


# -- what this kernel lacks ----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/status"), reason="needs SELinux to be absent")
def test_selinux_label(bundle: oci.Bundle) -> None:
    bundle.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    assert "selinux" in bundle.refused()


@pytest.mark.skipif(os.path.exists("/sys/module/apparmor"), reason="needs AppArmor to be absent")
def test_apparmor_profile(bundle: oci.Bundle) -> None:
    bundle.process["apparmorProfile"] = "docker-default"
    assert "apparmor" in bundle.refused()


def test_intel_rdt(bundle: oci.Bundle) -> None:
    bundle.linux["intelRdt"] = {"closID": "x"}
    assert "Intel RDT" in bundle.refused()
