"""Between the moment a process with the host's rights sees a container's files and the moment it becomes the
container's program, it loads no code from them: no module, no codec, no NSS library, no locale, no program.

Watched by strace, since an image can hide a trap in any file that is asked for, and asking is enough to be told.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import pytest

from tests.support import engine, faults, machine, oci, projects, runner
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_binary("busybox"), machine.needs_binary("strace")]

CALLS = "trace=open,openat,openat2,execve,execveat,setns,pivot_root,chroot,clone,clone3,fork,vfork,readlink,readlinkat"
# Read as data, bounded, and each for a reason that `user`, `init` and `process` tell.
DATA = {"/", ".", "/etc/passwd", "/etc/group", "/dev/pts/ptmx", "/dev", "console"}
SERVICES = """
    name: trap
    services:
      one:
        image: "rootfs:./image"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        healthcheck: {test: [CMD, "true"], interval: 0.2s}
        post_start: [{command: ["true"]}]
      terminal: {image: "rootfs:./image", command: [sleep, "1000"], stop_signal: SIGKILL, tty: true, init: true}
      ann: {image: "rootfs:./image", command: [sleep, "1000"], stop_signal: SIGKILL, user: "ann:staff"}
      nobody: {image: "rootfs:./image", command: [sleep], user: nobody-there, profiles: [bad]}
      no-program: {image: "rootfs:./image", command: [no-program], profiles: [bad]}
      no-folder: {image: "rootfs:./image", command: [sleep], working_dir: /bin/busybox/x, profiles: [bad]}
      bad-user: {image: "rootfs:./image", command: [sleep], user: "4294967295", profiles: [bad]}
"""


def opened(trace: str) -> set[str]:
    """What processes asked for from when they were in a container until they executed its program."""
    lines = [match for line in trace.splitlines() if (match := re.match(r"(\d+) +(?:<\.\.\. )?(\w+)(.*)", line))]
    # A child may be heard of before its parent's clone has returned.
    born = {child[1]: pid for pid, call, rest in map(re.Match.groups, lines) if (child := _child(call, rest))}
    inside: set[str] = set()
    seen: set[str] = set()
    found: set[str] = set()
    entered = 0
    for pid, call, rest in map(re.Match.groups, lines):
        if pid not in seen and born.get(pid) in inside:
            inside.add(pid)
        seen.add(pid)
        if call in {"pivot_root", "chroot"} or (call == "setns" and "CLONE_NEWNS" in rest):
            inside.add(pid)
            entered += 1
        elif call in {"execve", "execveat"}:
            # The container's program: tried along its PATH, and from the first that succeeds on it is the container's.
            if re.search(r"= 0$", rest):
                inside.discard(pid)
        elif pid in inside and (path := re.search(r'"((?:[^"\\]|\\.)*)"', rest)) is not None:
            found.add(path[1])
    assert entered > 3, "the trace shows nobody enter, so it proves nothing"
    return found


def _child(call: str, rest: str) -> re.Match[str] | None:
    return re.search(r"= (\d+)$", rest) if call in {"clone", "clone3", "fork", "vfork"} else None


def trapped(rootfs: pathlib.Path) -> None:
    """An image that answers whatever the host's interpreter and C library might ask for."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "usr/lib/locale", "usr/lib/gconv", "lib/x86_64-linux-gnu"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox") or "", rootfs / "bin" / "busybox")
    for name in oci.PROGRAMS:
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\nstaff:x:50:ann\n")
    (rootfs / "etc" / "nsswitch.conf").write_text("passwd: trap\ngroup: trap\nhosts: trap\n")
    (rootfs / "etc" / "ld.so.preload").write_text("/lib/x86_64-linux-gnu/libnss_trap.so.2\n")
    for name in ("lib/x86_64-linux-gnu/libnss_trap.so.2", "usr/lib/gconv/gconv-modules", "usr/lib/locale/C.utf8"):
        (rootfs / name).write_text("trap")
    library = rootfs / str(pathlib.Path(os.__file__).parent).lstrip("/")
    (library / "encodings").mkdir(parents=True)
    for name in (
        "sitecustomize",
        "traceback",
        "linecache",
        "pwd",
        "grp",
        "socket",
        "encodings/idna",
        "encodings/utf_8",
    ):
        (library / f"{name}.py").write_text("open('/loaded', 'w')\n")


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_nothing_of_an_image_is_loaded(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SERVICES)
    trapped(project / "image")
    if anyone.user is not None:
        for path in (project / "image", *(project / "image").rglob("*")):
            os.chown(path, anyone.user.uid, anyone.user.uid, follow_symlinks=False)
    traces = [f"{anyone.folder}/trace{number}" for number in range(2)]
    anyone("up", "-d", "one")
    with faults.trace(engine.find(anyone, "monitor"), "-e", CALLS, output=traces[0]):
        anyone("up", "-d", "--wait", "one", "terminal", "ann")
        for name in ("nobody", "no-program", "no-folder", "bad-user"):
            assert anyone("up", "-d", name, code=None).returncode != 0, name
        # Another health check, seen whole.
        eventually(lambda: pathlib.Path(traces[0]).read_text().count("setns") > 20)
    with faults.trace(engine.find(anyone, "zygote"), "-e", CALLS, output=traces[1]):
        for words in (
            ("one", "true"),
            ("-u", "ann", "one", "true"),
            ("-u", "nobody-there", "one", "true"),
            ("-u", "4294967295", "one", "true"),
            ("-w", "/bin/busybox/x", "one", "true"),
            ("-w", "/new/place", "one", "true"),
            ("one", "no-program"),
            ("one", "/etc/passwd"),
        ):
            anyone("exec", "-T", *words, code=None)
    for path in traces:
        assert opened(pathlib.Path(path).read_text()) - DATA == set()
    assert anyone.inside("one", "ls /loaded 2>/dev/null; true") == ""
