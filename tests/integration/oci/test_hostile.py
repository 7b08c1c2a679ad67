"""What a container or an image tries against the runtime: its interpreter, its paths, its descriptors."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest

from tests.support import machine, oci

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

INTERPRETER = pathlib.Path(os.path.realpath(sys.executable))


def test_the_interpreter_cant_be_reached(bundle: oci.Bundle) -> None:
    """CVE-2019-5736: a program that is `/proc/self/exe` runs the runtime's interpreter as the container's process."""
    before = hashlib.sha256(INTERPRETER.read_bytes()).digest()
    (bundle.rootfs / "bin" / "trap").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "bin" / "trap").chmod(0o755)
    bundle.process["capabilities"]["effective"] = bundle.process["capabilities"]["permitted"] = ["CAP_DAC_OVERRIDE"]
    script = """
        i=0
        while [ $i -lt 100000 ]; do
          for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in
              *busybox*|"") ;;
              *) ( : >> $p/exe ) 2>/dev/null && echo "wrote $p" ;;
            esac
          done
          i=$((i+1))
          [ -e /tmp/stop ] && break
        done
    """
    bundle.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "t"})
    name = bundle.started("sh", "-c", script)
    for _ in range(10):
        bundle.oci("exec", name, "/bin/trap", check=False)
    bundle.oci("exec", name, "touch", "/tmp/stop")
    assert "wrote" not in bundle.output()
    assert hashlib.sha256(INTERPRETER.read_bytes()).digest() == before


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_in_place_of_a_system_folder(bundle: oci.Bundle, name: str) -> None:
    canary = bundle.folder / "canary"
    canary.mkdir()
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to(canary)
    if name == "dev":
        bundle.config["mounts"] = [
            each for each in bundle.config["mounts"] if not each["destination"].startswith("/dev")
        ]
    assert bundle.refused()
    assert list(canary.iterdir()) == []


def test_a_mount_through_a_link_stays_inside(bundle: oci.Bundle) -> None:
    canary = bundle.folder / "canary"
    canary.mkdir()
    (bundle.rootfs / "link").symlink_to(canary)
    bundle.config["mounts"].append({"destination": "/link/deep", "type": "tmpfs", "source": "t"})
    bundle.run("true")
    assert list(canary.iterdir()) == []


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/sys", "/"])
def test_nothing_takes_the_place_of_proc(bundle: oci.Bundle, target: str) -> None:
    bundle.config["mounts"].append({"destination": target, "type": "tmpfs", "source": "t"})
    assert bundle.refused()


def test_our_own_annotations_mean_nothing_here(bundle: oci.Bundle) -> None:
    """They tell the runtime what to mount, with the host's rights; a bundle comes from anybody."""
    bundle.config["annotations"] = {"dev.devenv.rootfs": '{"binds": [["/", "/host"]]}', "dev.devenv.init": "true"}
    assert "host" not in bundle.run("ls", "/").stdout.split()
    assert bundle.sh("echo $$") == "1\n"


def test_modules_of_the_image_are_not_loaded(bundle: oci.Bundle) -> None:
    """Not even on the way to an error, when Python likes to look for more."""
    library = bundle.rootfs / str(pathlib.Path(os.__file__).parent).lstrip("/")
    library.mkdir(parents=True)
    for module in ("traceback", "encodings", "linecache", "sitecustomize", "pwd"):
        (library / f"{module}.py").write_text("open('/loaded', 'w')\n")
    bundle.config["root"]["readonly"] = False
    bundle.process["user"] = {"uid": 4294967290, "gid": 3}
    bundle.run("true", check=False)
    bundle.process["user"] = {"uid": 0, "gid": 0}
    bundle.process["cwd"] = "/bin/busybox/x"
    assert bundle.refused()
    assert not (bundle.rootfs / "loaded").exists()


def test_the_host_looks_as_before(bundle: oci.Bundle) -> None:
    bundle.run("true")
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    bundle.run("true")
    bundle.refused("/nothing")
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before


def test_a_folder_outside_is_no_working_folder(bundle: oci.Bundle) -> None:
    """CVE-2024-21626, with a descriptor that goes into the container because the caller says so."""

    def outside(command: str) -> str:
        words = f"exec 3</usr; exec {bundle.command} --root {bundle.root} {command}"
        done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
        assert (done.returncode != 0, done.stdout) == (True, ""), command
        return done.stderr

    name = bundle.started()
    assert "/proc/self/fd/3" in outside(f"exec --preserve-fds 1 --cwd /proc/self/fd/3 {name} ls ..")
    bundle.oci("delete", "--force", name)
    bundle.process["cwd"] = "/proc/self/fd/3"
    bundle.write("ls", "..")
    assert "/proc/self/fd/3" in outside(f"run --preserve-fds 1 --bundle {bundle.folder} c")


def test_a_configuration_that_is_too_large(bundle: oci.Bundle) -> None:
    """CVE-2021-43784: what doesn't fit into a message is refused, never cut."""
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    bundle.config["annotations"] = {"a": "x" * 70_000}
    assert "too large" in bundle.refused()
