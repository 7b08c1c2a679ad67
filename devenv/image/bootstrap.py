"""Base images from a mirror of packages, by mmdebstrap(1) or debootstrap(8).

mmdebstrap writes a tar stream that is the same for the same packages. debootstrap, as root only, makes a folder, which
is packed in order and without times later than SOURCE_DATE_EPOCH. Both run the scripts of the packages in a chroot, in
a session, a mount and a process namespace of their own: whatever ends the command ends all of it, and no mount is left.
What is one machine's or one day's (its name and resolver, logs, caches) is removed by the new system's own ``rm``:
there, no link leads out.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from devenv import errors
from devenv.image import aptsources, create, pack, source
from devenv.util import paths

KEYRINGS = "/usr/share/keyrings"
VARIANTS = ("minbase", "buildd")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAST = 15  # lines of a program that failed
IDS = 65535
PATIENCE = 10.0  # seconds for a program to end by itself
_SUITE = re.compile(r"[a-z][a-z0-9.-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?")
_TIDY = (
    "rm -rf /etc/resolv.conf /etc/hostname /etc/machine-id /var/lib/dbus/machine-id /var/cache/ldconfig/aux-cache"
    " /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/*- /var/lib/apt/lists/* /var/cache/apt/*.bin"
    " /var/cache/apt/archives/*.deb /debootstrap; find /var/log -type f -delete"
)

# mmdebstrap does that by itself.
_WRITE = "printf '%s\\n' \"$@\" >/etc/apt/sources.list"


class Wanted(NamedTuple):
    distribution: str
    suite: str
    sources: Sequence[aptsources.Source]
    variant: str = "minbase"
    include: Sequence[str] = ()

    @property
    def keyring(self) -> str:
        return f"{KEYRINGS}/{self.distribution}-archive-keyring.gpg"

    def check(self) -> None:
        """Raises ``UsageError`` and ``ImageError``: before anything is fetched, and as they become arguments."""
        if not _SUITE.fullmatch(self.suite):
            raise errors.UsageError(f"`{self.suite}` is no suite of {self.distribution}", hint="such as bookworm")
        if self.variant not in VARIANTS:
            raise errors.UsageError(f"the variant `{self.variant}` is none of {', '.join(VARIANTS)}")
        for name in self.include:
            if not _PACKAGE.fullmatch(name):
                raise errors.UsageError(f"`{name}` is no name of a package")
        if not os.path.exists(self.keyring):
            name = f"{self.distribution}-{'archive-' if self.distribution == 'debian' else ''}keyring"
            raise errors.ImageError(
                f"the keys of {self.distribution}'s archive are not here: `{self.keyring}`",
                hint=f"sudo apt-get install {name}",
            )


def layer(
    taker: create.Taker, where: paths.Paths, wanted: Wanted, folder: str, say: Callable[[str], None]
) -> create.Layer:
    """``folder``, an empty one, goes with whatever is in it when this returns or raises, by the caller's hand."""
    wanted.check()
    _check_ids()
    if program := shutil.which("mmdebstrap"):
        arguments = mmdebstrap(program, wanted)
        with _running(arguments, folder, say, streams=True) as process:
            assert process.stdout is not None
            return create.layer_from(taker, where, source.Pipe(process.stdout.fileno()))
    program = shutil.which("debootstrap")
    if program is None:
        raise errors.ImageError("neither mmdebstrap nor debootstrap is here", hint="sudo apt-get install mmdebstrap")
    if not _is_real_root():
        raise errors.ImageError("debootstrap needs root", hint="sudo apt-get install mmdebstrap, which does not")
    root = f"{folder}/root"
    with _running(debootstrap(program, wanted, root), folder, say):
        pass
    lines = [str(each) for each in wanted.sources]
    with _running(["chroot", root, "sh", "-c", f"{_TIDY}; {_WRITE}", "sh", *lines], folder, say):
        pass
    _clamp(root)
    return create.layer_of(taker, where, pack.chunks(root, opaque="", mounted=frozenset()))


def mmdebstrap(program: str, wanted: Wanted) -> list[str]:
    include = [f"--include={','.join(wanted.include)}"] if wanted.include else []
    return [
        program,
        "--mode=root",
        "--format=tar",
        f"--variant={wanted.variant}",
        f"--keyring={wanted.keyring}",
        # A container gets its devices when it starts.
        "--skip=output/dev",
        f"--customize-hook=chroot \"$1\" sh -c '{_TIDY}'",
        *include,
        wanted.suite,
        "-",
        *(str(each) for each in wanted.sources),
    ]


def debootstrap(program: str, wanted: Wanted, root: str) -> list[str]:
    include = [f"--include={','.join(wanted.include)}"] if wanted.include else []
    first = wanted.sources[0]
    return [
        program,
        f"--variant={wanted.variant}",
        f"--keyring={wanted.keyring}",
        f"--components={','.join(first.components.split())}",
        *include,
        wanted.suite,
        root,
        first.uri,
    ]


def _check_ids() -> None:
    """Packages give files to users of their own: apt's is 42, and `nogroup` is 65534."""
    with open("/proc/self/uid_map") as file:
        count = sum(int(line.split()[2]) for line in file)
    if count < IDS:
        raise errors.HostError(
            "a distribution has files of many users, and this user has a single id",
            hint="`devenv doctor` prints the line for /etc/subuid that gives more",
        )


def _is_real_root() -> bool:
    from devenv.linux import namespace

    return os.geteuid() == 0 and namespace.in_initial_user_namespace()


@contextlib.contextmanager
def _running(
    arguments: Sequence[str], folder: str, say: Callable[[str], None], *, streams: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Until it ends. Raises ``ImageError`` with its last words if it failed, whatever became of its output."""
    dies_with_us = ["setpriv", "--pdeathsig", "KILL", "--"]
    alone = [*dies_with_us, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"]
    environment = {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    # debootstrap says on stdout what mmdebstrap says on stderr.
    process = subprocess.Popen(
        [*alone, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if streams else subprocess.STDOUT,
        env={**environment, "TMPDIR": folder},
        start_new_session=True,
    )
    spoken = process.stderr or process.stdout
    assert spoken is not None
    last: collections.deque[str] = collections.deque(maxlen=LAST)
    listener = threading.Thread(target=_listen, args=(spoken, last, say), daemon=True)
    listener.start()
    try:
        failure: Exception | None = None
        try:
            yield process
        except errors.ImageError as exc:
            failure = exc
            if process.stdout is not None and process.stdout is not spoken:
                process.stdout.close()
        code = process.wait()
        listener.join()
    finally:
        _end(process)
    if code:
        raise errors.ImageError(
            f"`{os.path.basename(arguments[0])}` failed with exit code {code}", note="\n".join(last) or None
        ) from failure
    if failure is not None:
        raise failure


def _listen(stream: IO[bytes], last: collections.deque[str], say: Callable[[str], None]) -> None:
    for raw in stream:
        line = raw.decode(errors="replace").strip()
        if line:
            last.append(line)
        if line.startswith("I: ") and "/" not in line:
            say(line[3:].rstrip("."))


def _end(process: subprocess.Popen[bytes]) -> None:
    """It may remove what it made; what it doesn't is in ``folder``, and its mounts go with its last process."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _clamp(root: str) -> None:
    """No time that is later than SOURCE_DATE_EPOCH."""
    limit = create.epoch()
    if limit is None:
        return
    for _, folders, names, fd in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in (*folders, *names):
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime > limit:
                os.utime(name, (limit, limit), dir_fd=fd, follow_symlinks=False)
