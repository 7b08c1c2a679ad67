"""Starts qemu with a kernel, this machine's files and one command, and waits for the command's exit code.

Emulated (TCG) unless DEVENV_GUEST_ACCEL says `kvm`: a /dev/kvm that can be opened need not work, and about ten times
slower is quick enough for some dozens of tests.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from tests.guest import kernel

QEMU = "qemu-system-x86_64"
_HERE = pathlib.Path(__file__).parent
CHECKOUT = _HERE.parents[1]
_DISK = 2 << 30  # as large as it is, it takes what is written


# For `Guest.start`: nobody types, and what is said is read from a pipe.
CONSOLE: dict[str, int] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


class Outcome(NamedTuple):
    code: int | None  # None: the guest ended before the command did
    output: str


class Guest:
    """What every boot of one machine has in common: its folder, and its disk, which is its /tmp."""

    def __init__(self, folder: pathlib.Path, chosen: kernel.Kernel, *, cgroup: str = "v2") -> None:
        self.folder = folder
        self.kernel = chosen
        self.cgroup = cgroup
        self.disk = folder / "disk"
        with open(self.disk, "wb") as file:
            file.truncate(_DISK)
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        mkfs = shutil.which("mkfs.ext4", path=path) or "mkfs.ext4"
        subprocess.run([mkfs, "-q", "-F", self.disk], check=True, stdin=subprocess.DEVNULL)

    def start(self, command: list[str], **options: object) -> subprocess.Popen[str]:
        """Boot. The process is qemu, its standard streams the guest's console; killing it is a power cut."""
        share = self.folder / "share"
        shutil.rmtree(share, ignore_errors=True)
        share.mkdir()
        (share / "command").write_text(f"cd {shlex.quote(os.getcwd())}\n{shlex.join(command)}\n")
        return subprocess.Popen(
            self._qemu(share),
            text=True,
            errors="replace",
            **options,  # type: ignore[call-overload, no-any-return]
        )

    def code(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "share/code").read_text())
        return None

    def run(self, command: list[str], *, timeout: float) -> Outcome:
        """Boot, run the command, switch off."""
        with open(self.folder / "console", "w+", errors="replace") as console:
            process = self.start(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
                process.wait()
            console.seek(0)
            return Outcome(self.code(), console.read().replace("\r\n", "\n"))

    def _qemu(self, share: pathlib.Path) -> list[str]:
        accel = os.environ.get("DEVENV_GUEST_ACCEL", "tcg")
        parts = [
            [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"],
            ["-accel", "tcg,thread=multi,tb-size=512" if accel == "tcg" else accel, "-cpu", "Nehalem"],
            ["-smp", "2", "-m", "1536", "-serial", "stdio"],
            ["-kernel", str(self.kernel.image), "-initrd", str(self._initramfs())],
            ["-append", "console=ttyS0 quiet loglevel=3 panic=-1 tsc=nowatchdog mitigations=off"],
            # The kernel's own pool of random numbers would take its time without a device.
            ["-device", "virtio-rng-pci"],
            _share("host", pathlib.Path("/"), ",readonly=on"),
            _share("share", share),
            ["-drive", f"file={self.disk},format=raw,if=virtio,cache=writeback"],
        ]
        return [word for part in parts for word in part]

    def _initramfs(self) -> pathlib.Path:
        path = self.folder / "initramfs"
        if path.exists():
            return path
        root = self.folder / "initramfs.d"
        for name in ("bin", "modules"):
            (root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", root / "bin/busybox")
        shutil.copy(_HERE / "init", root / "init")
        shutil.copy(_HERE / "stage", root / "stage")
        (root / "init").chmod(0o755)
        settings = {
            "CHECKOUT": CHECKOUT,
            "PREFIX": os.path.realpath(sys.base_prefix),
            "MODULES": self.kernel.modules,
            "CGROUP": self.cgroup,
        }
        (root / "settings").write_text("".join(f"{k}={shlex.quote(str(v))}\n" for k, v in settings.items()))
        needed = self.kernel.needed()
        for module in needed:
            shutil.copy(module, root / "modules")
        (root / "modules/order").write_text("".join(f"{module.name}\n" for module in needed))
        names = "\n".join(str(each.relative_to(root)) for each in sorted(root.rglob("*")))
        with open(path, "wb") as file:
            subprocess.run(
                ["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=file, check=True
            )
        return path


def _share(tag: str, path: pathlib.Path, more: str = "") -> list[str]:
    return ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{more}"]


@contextlib.contextmanager
def guest(chosen: kernel.Kernel, **options: object) -> Iterator[Guest]:
    """A machine whose files go with the context."""
    with tempfile.TemporaryDirectory(prefix="dvg-") as folder:
        yield Guest(pathlib.Path(folder), chosen, **options)  # type: ignore[arg-type]
