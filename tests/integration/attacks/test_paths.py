"""Links and races in images and volumes: whatever is mounted, made or read for a container stays inside its root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Mapping

import pytest

from tests.support import machine, oci, projects, runner

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: pathlib.Path, other: pathlib.Path) -> None:
    assert _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _RENAME_EXCHANGE) == 0


class Scene:
    """A project with an image of its own for each service, beside a canary: what must look afterwards as before."""

    def __init__(self, devenv: runner.Devenv, project: projects.Project) -> None:
        self.devenv = devenv
        self.project = project
        self.canary = project / "canary"
        self.canary.mkdir()
        (self.canary / "file").write_text("of the host\n")
        (project / "empty").mkdir()
        self._before = self._look()
        self._services: list[str] = []
        self.names: list[str] = []
        self.add()

    def _look(self) -> list[tuple[str, int, int, int, float, bytes]]:
        paths = [self.canary, *sorted(self.canary.rglob("*"))]
        found = [(path, path.lstat()) for path in paths]
        return [
            (str(path), s.st_mode, s.st_uid, s.st_size, s.st_mtime, path.read_bytes() if path.is_file() else b"")
            for path, s in found
        ]

    def add(self, attributes: str = "", links: Mapping[str, str | os.PathLike[str]] | None = None) -> pathlib.Path:
        """One more service, with links in its image in the place of what else would be there."""
        name = f"s{len(self._services)}"
        root = self.project / name
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (root / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
        for program in oci.PROGRAMS:
            (root / "bin" / program).symlink_to("busybox")
        for link, target in (links or {}).items():
            path = root / link
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        self._services.append(
            f'  {name}: {{image: "rootfs:./{name}", command: [sleep, "1000"], stop_signal: SIGKILL, {attributes}}}\n'
        )
        self.names.append(name)
        return root

    def up(self) -> Iterator[str]:
        """The services that come up, each tried alone."""
        self.project.write(f"name: paths\nservices:\n{''.join(self._services)}volumes: {{data: {{}}}}\n")
        # With one that runs the processes of the project stay.
        self.devenv("up", "-d", self.names[0])
        for name in self.names[1:]:
            if self.devenv("up", "-d", name, code=None).returncode == 0:
                yield name
            assert self._look() == self._before, self._services[int(name[1:])]


@pytest.fixture
def scene(devenv: runner.Devenv, project: projects.Project) -> Scene:
    return Scene(devenv, project)


def test_files_of_ours_through_a_link(scene: Scene) -> None:
    """CVE-2024-5154: what is written for a container is written into it, or it doesn't start."""
    for name in ("etc/hosts", "etc/resolv.conf", "etc/hostname", "etc", "run", "dev/shm"):
        for target in (f"{scene.canary}/new", f"../../../../../../..{scene.canary}/file"):
            scene.add('tmpfs: ["/run"]', {name: target})
    ran = 0
    for name in scene.up():
        script = "echo x >>/etc/hosts; echo x >/run/x; echo x >/dev/shm/x; cat /etc/hosts"
        # Wherever the link leads, it leads to what was mounted for it.
        assert "localhost" in scene.devenv.inside(name, script)
        ran += 1
    assert ran >= 4


def test_a_working_folder_through_a_link(scene: Scene) -> None:
    """CVE-2026-55686: made and given to the service's user inside, or not at all."""
    for folder in ("/link/x", "/link", "/../../link/x", "/loop/x"):
        scene.add(f'working_dir: "{folder}", user: "1234"', {"link": scene.canary, "loop": "loop"})
    for name in scene.up():
        assert scene.devenv.inside(name, "test -e file || echo inside") == "inside"


def test_a_mount_through_a_link(scene: Scene) -> None:
    """CVE-2022-23648, CVE-2020-14370: nor does a volume begin with what lies behind the link."""
    for target in ("/link/deep/er", "/etc/../../../link", "/proc/self/root/link"):
        for mount in ("type: volume, source: data", "type: bind, source: ./empty", "type: tmpfs"):
            scene.add(f'volumes: [{{{mount}, target: "{target}"}}]', {"link": scene.canary})
    for name in scene.up():
        assert "of the host" not in scene.devenv.inside(name, "cat /link/file /link/x/file 2>&1; true")
    data = pathlib.Path(scene.devenv.data, "volumes")
    assert not [path for path in data.rglob("file") if path.is_file()]


def test_a_volume_in_place_of_the_kernels_own(scene: Scene) -> None:
    """CVE-2019-19921, CVE-2019-16884, CVE-2023-27561."""
    for target in ("/", "/proc", "/proc/self/attr", "/proc/sys/kernel", "/sys", "/dev", "/../proc"):
        scene.add(f'volumes: ["data:{target}"]')
    assert list(scene.up()) == []


def test_masks_are_ours(scene: Scene) -> None:
    """CVE-2025-31133: an image's `/dev/null` that is something else hides nothing."""
    scene.add(links={"dev/null": "/proc/sys/kernel/core_pattern"})
    (scene.add() / "dev" / "null").write_text("of the image\n")
    (scene.add() / "dev" / "null").mkdir()
    ran = 0
    for name in scene.up():
        ran += 1
        found = scene.devenv.inside(name, "for i in keys timer_list; do stat -c %t:%T /proc/$i; cat /proc/$i; done")
        assert found.split() == ["1:3"] * 2
        assert "Read-only" in scene.devenv.inside(name, "(echo x >/proc/sys/kernel/core_pattern) 2>&1; true")
    assert ran == 3


def test_a_mount_while_its_place_is_swapped(short_path: pathlib.Path, no_leaks: set[str]) -> None:
    """CVE-2021-30465: another container swaps the target for a link to `/` between look and mount."""
    bundle = oci.Bundle(short_path, no_leaks)
    volume, outside = bundle.folder / "volume", bundle.folder / "outside"
    for path in (volume / "dir" / "x", outside / "x", bundle.folder / "source"):
        path.mkdir(parents=True)
    (bundle.folder / "source" / "marker").write_text("")
    (volume / "swapped").symlink_to(outside)
    bundle.config["mounts"] += [
        {"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},
        {"destination": "/volume/dir/x", "type": "bind", "source": str(bundle.folder / "source"), "options": ["rbind"]},
        {"destination": "/volume/dir/y", "type": "tmpfs", "source": "raced"},
    ]
    bundle.write("cat", "/proc/self/mountinfo")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(volume / "dir", volume / "swapped")

    thread = threading.Thread(target=swap)
    thread.start()
    ran = 0
    try:
        for _ in range(6):
            done = bundle.run(check=False)
            if done.returncode:
                assert "mounting" in done.stderr, "a place that was gone just then is told"
                continue
            ran += 1
            # Each has gone somewhere beneath the root, wherever the link led to by then; one outside can't be seen.
            assert done.stdout.count("/source ") == 1, done.stdout
            assert done.stdout.count("raced") == 1, done.stdout
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(AssertionError):
            bundle.close()
    assert ran
    assert sorted(path.name for path in outside.iterdir()) == ["x"]
    assert list((outside / "x").iterdir()) == []
