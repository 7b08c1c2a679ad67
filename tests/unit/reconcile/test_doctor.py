"""Machines as descriptions: what doctor makes of each, and the line it gives."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Mapping

import pytest

from devenv.reconcile import doctor, facts, leftovers, surroundings
from devenv.util import paths


class Described(facts.Machine):
    """A machine of these files and programs, on which every trial works unless told otherwise."""

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        uid: int = 1000,
        programs: tuple[str, ...] = ("apt-get",),
        problem: OSError | None = None,
        release: str = "6.12.0-1-amd64",
        mounts: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.uid = uid
        self.where = paths.Paths("/data/devenv", "/run/devenv")
        self.files = dict(files or {})
        self.programs = programs
        self.problem = problem
        self._release = release
        self.mounts = dict(mounts or {})
        self.variables = dict(variables or {})
        self.left = (50e9, 1_000_000)
        self.clock = time.time()
        self.chains: dict[str, str] = {}
        self.qemus: dict[str, bool] = {}

    @property
    def user(self) -> str:
        return "ada"

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def release(self) -> str:
        return self._release

    def now(self) -> float:
        return self.clock

    def emulators(self) -> dict[str, bool]:
        return self.qemus

    def chain_policy(self, family: str, table: str, chain: str) -> str | None:
        return self.chains.get(f"{family} {table} {chain}")

    def environment(self, name: str) -> str:
        return self.variables.get(name, "")

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def is_privileged(self, program: str) -> bool:
        return False

    def attempt(self, trial: Callable[[], None]) -> OSError | None:
        return self.problem

    def id_ranges(self, uids: tuple[int, int], gids: tuple[int, int]) -> OSError | None:
        return self.problem

    def mount_of(self, path: str) -> facts.Mount:
        return facts.Mount(path, self.mounts.get(path, "ext4"), frozenset())

    def space(self, path: str) -> tuple[int, int]:
        return int(self.left[0]), int(self.left[1])


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("4.18.0-553.el8", "fail"),
        ("5.4.0-generic", "fail"),
        ("5.10.0", "warn"),
        ("6.1.0-18-amd64", "ok"),
        ("6.18.44", "ok"),
        ("7.0-rc1", "ok"),
        ("odd", "fail"),
    ],
)
def test_kernel(release: str, status: str) -> None:
    assert doctor.kernel(Described(release=release)).status == status


def test_an_exit_code_that_may_be_unknown_is_told() -> None:
    assert "before 6.15" in doctor.kernel(Described(release="6.1.0")).found
    assert "before" not in doctor.kernel(Described(release="6.15.0")).found


@pytest.mark.parametrize(
    ("file", "value", "fix"),
    [
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_what_forbids_user_namespaces_is_named(file: str, value: str, fix: str) -> None:
    refused = OSError(1, "Operation not permitted", "unshare(CLONE_NEWUSER)")
    check = doctor.user_namespaces(Described({f"/proc/sys/{file}": value}, problem=refused))
    assert (check.status, check.fix) == ("fail", fix)
    assert f"{file.replace('/', '.')} is {value}" in check.found
    as_root = doctor.user_namespaces(Described({f"/proc/sys/{file}": value}, uid=0))
    assert (as_root.status, as_root.fix) == ("warn", fix.removeprefix("sudo "))


def test_user_namespaces_that_work() -> None:
    assert doctor.user_namespaces(Described()).status == "ok"


def test_a_missing_range_gets_one_behind_all_others() -> None:
    files = {"/etc/subuid": "bob:100000:65536\n", "/etc/subgid": "bob:100000:65536\neve:165536:100\n"}
    found = list(doctor.id_ranges(Described(files, programs=("newuidmap", "newgidmap"))))
    fix = "sudo usermod --add-subuids 165636-231171 --add-subgids 165636-231171 ada"
    assert [check.fix for check in found] == [fix]


def test_missing_newuidmap_is_a_package() -> None:
    files = {"/etc/subuid": "ada:100000:65536\n", "/etc/subgid": "1000:100000:65536\n"}
    (check,) = doctor.id_ranges(Described(files))
    assert check.found == "no newuidmap and no newgidmap"
    assert check.fix == "sudo apt-get install -y uidmap"
    (check,) = doctor.id_ranges(Described(files, programs=("dnf",)))
    assert check.fix == "sudo dnf install -y shadow-utils"
    (check,) = doctor.id_ranges(Described(files, programs=()))
    assert check.fix == "install the package `uidmap`"


def test_newuidmap_without_its_rights() -> None:
    files = {"/etc/subuid": "ada:100000:65536\n", "/etc/subgid": "ada:100000:65536\n"}
    machine = Described(files, programs=("newuidmap", "newgidmap"), problem=OSError(1, "write to uid_map failed"))
    (check,) = doctor.id_ranges(machine)
    assert check.fix == "sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap"
    machine.problem = None
    (check,) = doctor.id_ranges(machine)
    assert check == facts.Check("id ranges", facts.Status.OK, "65536 ids from 100000")


@pytest.mark.parametrize(
    ("left", "status"),
    [((100e6, 1e6), "fail"), ((1e9, 1e6), "warn"), ((50e9, 1e6), "ok"), ((50e9, 5), "fail"), ((50e9, -1), "ok")],
)
def test_disk_space(left: tuple[float, float], status: str) -> None:
    machine = Described()
    machine.where = paths.Paths("/tmp", "/tmp")
    machine.left = (int(left[0]), int(left[1]))
    check = doctor.disk_space(machine)
    assert check is not None
    assert check.status == status


def test_seccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.seccomp(facts.Machine()).status == "ok"
    without = doctor.seccomp(Described(problem=OSError(38, "Function not implemented")))
    assert (without.status, "every system call" in without.found) == ("warn", True)
    assert "CONFIG_SECCOMP_FILTER" in without.fix
    monkeypatch.setattr(Described, "architecture", lambda _: None)
    assert "no table" in doctor.seccomp(Described()).found


def test_cgroups() -> None:
    two = Described({"/sys/fs/cgroup/cgroup.controllers": "cpu memory"}, mounts={"/sys/fs/cgroup": "cgroup2"})
    assert doctor.cgroups(two).found == "version 2, controllers: cpu memory"
    one = {"/proc/self/mountinfo": "1 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"}
    assert doctor.cgroups(Described(one, uid=0)).status == "ok"
    assert doctor.cgroups(Described(one)).status == "warn"
    assert "none mounted" in doctor.cgroups(Described()).found


def test_rootless_network() -> None:
    lacking = list(doctor.outbound(Described()))
    assert lacking[0].fix == "sudo apt-get install -y passt"
    assert next(doctor.outbound(Described(programs=("slirp4netns",)))).found == "through slirp4netns"
    assert list(doctor.outbound(Described(uid=0))) == []
    closed = doctor.low_ports(Described({"/proc/sys/net/ipv4/ip_unprivileged_port_start": "1024"}))
    assert closed is not None
    assert closed.fix == "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80"


def test_inotify() -> None:
    few = {"/proc/sys/fs/inotify/max_user_watches": "8192", "/proc/sys/fs/inotify/max_user_instances": "128"}
    (check,) = doctor.inotify(Described(few, uid=0))
    assert check.fix == "sysctl -w fs.inotify.max_user_watches=524288"


def test_runtime_dir() -> None:
    check = doctor.runtime_dir(Described())
    assert check is not None
    assert check.fix.startswith("sudo loginctl enable-linger ada")
    assert doctor.runtime_dir(Described(uid=0)) is None


def test_a_check_that_breaks_is_a_warning_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(machine: facts.Machine) -> facts.Check:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.kernel))
    first, second = doctor.run(Described())
    assert first == facts.Check("broken", facts.Status.WARN, "could not be looked at: ZeroDivisionError: oh")
    assert second.status == "ok"


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        ("000001ffffffffff", ""),
        ("00000000a80425fb", "SYS_ADMIN, NET_ADMIN, SYS_PTRACE"),  # Docker's default
        ("00000000a82435fb", "SYS_PTRACE"),
    ],
)
def test_root_in_a_container_is_told_what_it_lacks(held: str, lacking: str) -> None:
    check = doctor.rights(Described({"/proc/self/status": f"Name:\tx\nCapPrm:\t{held}\n"}, uid=0))
    assert check is not None
    assert check.status == ("fail" if lacking else "ok")
    assert not lacking or check.found == f"root lacks {lacking}"
    assert ("privileged: true" in check.fix) == bool(lacking)
    assert doctor.rights(Described({"/proc/self/status": f"CapPrm:\t{held}\n"})) is None


def test_rights_that_lack_are_not_mistaken_for_a_filesystem(tmp_path: pathlib.Path) -> None:
    refused = OSError(1, "Operation not permitted", "unshare")
    machine = Described(uid=0, problem=refused, variables={"DEVENV_DATA_HOME": str(tmp_path)})
    checks = [*doctor.overlayfs(machine), doctor.nf_tables(machine)]
    assert len(checks) == 2
    assert all("privileged: true" in check.fix for check in checks)


def test_a_masked_proc_is_told_to_ordinary_users_alone() -> None:
    refused = OSError(1, "Operation not permitted", "mounting proc")
    check = doctor.proc(Described(problem=refused))
    assert check is not None
    assert check.status == "warn"
    assert "systempaths=unconfined" in check.fix
    assert doctor.proc(Described(problem=refused, uid=0)) is None
    found = doctor.proc(Described())
    assert found is not None
    assert found.status == "ok"


def test_what_user_namespaces_need_of_layers(tmp_path: pathlib.Path) -> None:
    def check(number: int, release: str) -> str:
        machine = Described(uid=0, problem=OSError(number, "no", "idmap"), release=release)
        machine.where = paths.Paths(str(tmp_path), str(tmp_path))
        found = doctor.idmapped_layers(machine)
        assert found is not None
        assert found.status == "warn"
        return found.fix

    assert "5.19" in check(22, "5.10.0")
    assert "DEVENV_DATA_HOME" in check(22, "6.1.0")
    assert "privileged: true" in check(1, "6.1.0")
    assert doctor.idmapped_layers(Described()) is None


def test_services_that_end_with_the_session() -> None:
    unified = {"/sys/fs/cgroup": "cgroup2"}
    check = doctor.lingering(Described(mounts=unified, programs=("loginctl",)))
    assert check is not None
    assert (check.status, check.fix) == ("warn", "loginctl enable-linger")
    stays = Described({"/var/lib/systemd/linger/ada": ""}, mounts=unified, programs=("loginctl",))
    found = doctor.lingering(stays)
    assert found is not None
    assert found.status == "ok"
    assert doctor.lingering(Described(mounts=unified)) is None
    assert doctor.lingering(Described(mounts=unified, programs=("loginctl",), uid=0)) is None


def test_a_filter_that_refuses_new_system_calls_is_not_taken_for_an_old_kernel() -> None:
    assert surroundings.system_calls(Described()).status == "ok"
    refused = surroundings.system_calls(Described(problem=OSError(1, "Operation not permitted", "openat2")))
    assert (refused.status, refused.found) == ("fail", "openat2: Operation not permitted")
    assert "seccomp:unconfined" in refused.fix
    assert "boot Linux" in surroundings.system_calls(Described(problem=OSError(38, "no", "openat2"))).fix


def test_a_clock_that_is_behind() -> None:
    machine = Described()
    assert surroundings.clock(machine).status == "ok"
    machine.clock = 1_000_000.0
    check = surroundings.clock(machine)
    assert (check.status, check.fix) == ("warn", "sudo timedatectl set-ntp true")
    assert check.found.startswith("1970-01-12 13:46 UTC")


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        ("nameserver 192.0.2.1\nnameserver ::1\n", "ok", "192.0.2.1, ::1"),
        ("search example\n", "warn", "no nameserver in"),
        (None, "warn", "can't be read"),
    ],
)
def test_name_servers(text: str | None, status: str, found: str) -> None:
    check = surroundings.name_servers(Described({} if text is None else {"/etc/resolv.conf": text}))
    assert check.status == status
    assert found in check.found


@pytest.mark.parametrize(
    ("chains", "legacy", "expected"),
    [
        ({}, "", []),
        ({"ip filter DOCKER-USER": "", "ip filter FORWARD": "drop"}, "", [("other firewalls", "ok")]),
        ({"ip filter FORWARD": "drop"}, "", [("other firewalls", "ok")]),
        ({"ip filter FORWARD": "accept"}, "nat\n", []),
        ({"inet firewalld filter_FORWARD": "accept"}, "", [("firewalld", "warn")]),
        ({}, "filter\nnat", [("iptables-legacy", "warn")]),
    ],
)
def test_other_firewalls(chains: dict[str, str], legacy: str, expected: list[tuple[str, str]]) -> None:
    for uid in (0, 1000):
        machine = Described({"/proc/net/ip_tables_names": legacy}, uid=uid)
        machine.chains = chains
        found = list(surroundings.firewalls(machine))
        assert [(each.name, each.status) for each in found] == (expected if uid == 0 else [])
        assert all(each.fix for each in found if each.status == "warn")


@pytest.mark.parametrize(
    ("qemus", "status", "word"),
    [
        ({}, "ok", "apt-get install -y qemu-user-static"),
        ({"qemu-aarch64": True}, "ok", "run by qemu-aarch64"),
        ({"qemu-aarch64": False, "qemu-arm": True}, "warn", "qemu-aarch64 lacks flag F"),
    ],
)
def test_other_processors(qemus: dict[str, bool], status: str, word: str) -> None:
    machine = Described()
    machine.qemus = qemus
    (check,) = surroundings.emulators(machine)
    assert check.status == status
    assert word in check.found


def test_what_a_killed_process_was_unpacking_is_left_over_when_it_is_old(tmp_path: pathlib.Path) -> None:
    machine = Described()
    machine.where = paths.Paths(str(tmp_path), str(tmp_path / "run"))
    for name in ("stage/archive-1", "stage/2", "containers/.new-3", "containers/4"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "stage" / "host.lock").touch()
    assert [each.found for each in leftovers.look(machine)] == ["none"]
    for name in ("stage/archive-1", "containers/.new-3", "containers/4", "stage/host.lock"):
        os.utime(tmp_path / name, (1, 1))
    (check,) = leftovers.look(machine)
    assert check.found == f"2 unfinished folders in {tmp_path}"
    assert check.fix == "devenv system prune"
