"""`--systemd-cgroup`, with a systemd that answers."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from devenv.linux import dbus
from tests.support import cgroups, machine, manager, oci

pytestmark = [
    pytest.mark.root,
    machine.needs_binary("busybox"),
    pytest.mark.skipif(bool(manager.missing()), reason=manager.missing()),
]


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with manager.running(tmp_path_factory.mktemp("systemd") / "run") as path:
        yield path


@pytest.fixture
def managed(bundle: oci.Bundle, bus: str, monkeypatch: pytest.MonkeyPatch) -> oci.Bundle:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={bus}")
    bundle.options = ("--systemd-cgroup",)
    bundle.linux["cgroupsPath"] = f"devenv-test.slice:test:{bundle.folder.parent.name}"
    return bundle


def unit(bundle: oci.Bundle) -> str:
    return f"test-{bundle.folder.parent.name}.scope"


def test_a_containers_life_in_a_scope(managed: oci.Bundle, bus: str) -> None:
    managed.linux["resources"]["pids"] = {"limit": 33}
    name = managed.started()
    pid = managed.state(name)["pid"]
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {line.split(":")[1]: line.split(":")[2] for line in lines}
    where = paths.get("pids", paths[""])
    assert where.endswith(f"/devenv.slice/devenv-test.slice/{unit(managed)}")
    assert cgroups.read(where, "pids.max") == "33"
    with dbus.Bus(bus, seconds=60) as asked:
        path = manager.unit(asked, unit(managed))
        assert path is not None
        assert manager.property_of(asked, path, "Unit", "ActiveState") == "active"
        assert manager.property_of(asked, path, "Scope", "TasksMax") == 33
        managed.oci("update", "--pids-limit", "44", name)
        assert manager.property_of(asked, path, "Scope", "TasksMax") == 44
        assert cgroups.read(where, "pids.max") == "44"
        managed.oci("pause", name)
        managed.oci("resume", name)
        managed.oci("exec", name, "true")
        assert "systemd gives no cgroup" in managed.refused()
        managed.oci("delete", "--force", name)
        assert manager.unit(asked, unit(managed)) is None
    assert cgroups.folders(where) == []


def test_a_container_can_be_deleted_without_systemd(managed: oci.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    name = managed.started()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={managed.folder}/none")
    assert "warning" in managed.oci("delete", "--force", name).stderr
    assert managed.left() == []


def test_what_fails_leaves_no_scope(managed: oci.Bundle, bus: str) -> None:
    assert "executable file not found" in managed.refused("/nothing")
    with dbus.Bus(bus, seconds=60) as asked:
        assert manager.unit(asked, unit(managed)) is None


def test_a_path_that_means_nothing_to_systemd(managed: oci.Bundle) -> None:
    managed.linux["cgroupsPath"] = "/some/where"
    assert "slice:prefix:name" in managed.refused()


def test_without_systemd(managed: oci.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={managed.folder}/none")
    assert "systemd can't be asked for a cgroup" in managed.refused()
