"""A bundle with busybox in it, and the OCI runtime command on it, as a program of its own."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

PROGRAMS = (
    "sh cat echo sleep id ls mount true false stat env kill touch date ps sync head grep readlink tty wc tail".split()
)


class Bundle:
    """``config`` is what ``spec`` writes, without a terminal; tests change it before they run something."""

    def __init__(self, folder: pathlib.Path, ids: set[str]) -> None:
        self.folder = folder / "bundle"
        self.root = folder / "root"
        self.rootfs = self.folder / "rootfs"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self.rootfs / "bin" / "busybox")
        for name in PROGRAMS:
            (self.rootfs / "bin" / name).symlink_to("busybox")
        (self.rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
        self._ids = ids
        self.options: tuple[str, ...] = ()  # before every command
        self.names: list[str] = []
        self.command = str(pathlib.Path(sys.executable).parent / "devenv-oci")
        self.oci("spec", "--bundle", str(self.folder))
        self.config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        self.process["terminal"] = False
        self.process["rlimits"] = []
        self.linux["cgroupsPath"] = f"/devenv-oci-test-{folder.name}-{id(self)}/c"
        ids.add(self.linux["cgroupsPath"].split("/")[1])

    @property
    def process(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config["process"]
        return found

    @property
    def linux(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config["linux"]
        return found

    def without(self, *kinds: str) -> None:
        self.linux["namespaces"] = [each for each in self.linux["namespaces"] if each["type"] not in kinds]

    def oci(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        words = [self.command, "--root", str(self.root), *self.options, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, **options)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def write(self, *args: str) -> None:
        if args:
            self.process["args"] = list(args)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def run(self, *args: str, check: bool = True, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`run` in the foreground, of a container that is gone afterwards."""
        self.write(*args)
        return self.oci("run", "--bundle", str(self.folder), *options, self._name("run"), check=check)

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check).stdout

    def refused(self, *args: str) -> str:
        done = self.run(*(args or ("true",)), check=False)
        assert done.returncode != 0
        return done.stderr

    def _name(self, kind: str) -> str:
        self.names.append(f"{kind}{len(self.names)}")
        return self.names[-1]

    def create(self, *args: str, options: tuple[str, ...] = ()) -> str:
        self.write(*args)
        name = self._name("c")
        self.detached("create", "--bundle", str(self.folder), *options, name)
        return name

    def detached(self, *arguments: str) -> None:
        """Not captured: what goes on running keeps its streams open for as long as it lives."""
        words = [self.command, "--root", str(self.root), *self.options, *arguments]
        with open(self.folder / "output", "ab") as output:
            done = subprocess.run(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, timeout=60)
        assert done.returncode == 0, self.output()

    def started(self, *args: str, options: tuple[str, ...] = ()) -> str:
        name = self.create(*(args or ("sleep", "1000")), options=options)
        self.oci("start", name)
        return name

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.oci("state", name).stdout)
        return found

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def close(self) -> None:
        for name in self.names:
            self.oci("delete", "--force", name)
        assert self.left() == []

    def left(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir()) if self.root.exists() else []
