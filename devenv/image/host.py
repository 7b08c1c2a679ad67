"""``host:``: this machine's own operating system as an image, with nothing to download and nothing to copy.

    skeleton      a folder of a few hundred kilobytes: links or mount points for bin, lib, …; a filtered /etc; empty
                  /home /root /tmp /run /var /srv
    /usr /opt     overlays of their own over the machine's, so that a container can write there and the machine
                  never sees it

    <data>/layers/host-<key>/fs        the skeleton; a new one when what it was made from changes
    <data>/images/host.json            which one is current, and the state of every folder and file it was made from

/etc is an allow-list: what programs need to work (names, libraries, certificates, time zone, language runtimes), never
keys, passwords, tokens, the machine's identity or the names of its people. What not everybody may read is left out
whatever its name. A machine's own /etc/pip.conf, npmrc or gitconfig stay out as well: they hold credentials.

The image's id stands for the operating system's release, not for its packages: upgrading one must not make every
container anew.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import config as image_config
from devenv.image import image as image_module
from devenv.util import fs, lock, paths, tree

VERSION = 1  # of the skeleton's content

REFERENCE = "host:"

# fnmatch patterns of names in /etc, files and folders.
ETC = (
    "*-release", "adduser.conf", "alternatives", "authselect", "bash.bashrc", "bashrc", "bash_completion.d",
    "bindresvport.blacklist", "ca-certificates", "ca-certificates.conf", "crypto-policies", "csh.*", "debian_version",
    "deluser.conf", "ethertypes", "fonts", "fuse.conf", "gai.conf", "glvnd", "groff", "host.conf",
    "ImageMagick-*", "inputrc", "issue", "java", "java-*", "jvm", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "libaudit.conf", "libnl-3", "locale.alias", "locale.conf", "locale.gen", "localtime", "login.defs",
    "magic", "magic.mime", "mailcap", "manpath.config", "mime.types", "mke2fs.conf", "netconfig", "nsswitch.conf",
    "OpenCL", "pam.conf", "pam.d", "perl", "php*", "pki", "postgresql-common", "profile", "profile.d",
    "protocols", "python", "python[0-9]*", "R", "rpc", "ruby*", "security", "services", "sgml", "shells", "skel",
    "ssl", "static", "terminfo", "timezone", "vim", "vulkan", "wgetrc", "xattr.conf", "xdg", "xml",
    "zsh", "zshenv", "zshrc", "zprofile",
)  # fmt: skip
# Never, wherever in those folders: private keys and what comes with them.
SECRET = (
    "private",
    "*.key",
    "*key.pem",
    "shadow*",
    "gshadow*",
    "opasswd*",
    "*.bak",
    "*-",
    "*~",
    "*.pacnew",
    "*.dpkg-*",
)

EMPTY = (
    ("home", 0o755), ("root", 0o700), ("tmp", 0o1777), ("run", 0o755), ("run/lock", 0o1777), ("srv", 0o755),
    ("mnt", 0o755), ("media", 0o755), ("boot", 0o755), ("proc", 0o555), ("sys", 0o555), ("dev", 0o755),
    ("opt", 0o755), ("usr", 0o755), ("var", 0o755), ("var/tmp", 0o1777), ("var/lib", 0o755), ("var/lib/misc", 0o755),
    ("var/log", 0o755), ("var/cache", 0o755), ("var/spool", 0o755), ("var/mail", 0o1777), ("var/opt", 0o755),
    ("var/local", 0o755), ("var/empty", 0o755),
)  # fmt: skip
LINKS = (("var/run", "/run"), ("var/lock", "/run/lock"), ("etc/mtab", "/proc/self/mounts"))
# The runtime mounts the container's own over these.
MOUNTED = ("etc/hosts", "etc/hostname", "etc/resolv.conf")

SIZE_LIMIT = 16 << 20  # of one file in /etc; ld.so.cache and the certificates are below one


class Host(NamedTuple):
    """The machine to take from; another one in tests."""

    root: str = "/"

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)


class Entry(NamedTuple):
    path: str  # below the root
    status: os.stat_result


def resolve(where: paths.Paths, host: Host | None = None) -> image_module.Image:
    """The image, with a skeleton that fits the machine as it is now."""
    host = host or Host()
    record_path = f"{where.data}/images/host.json"
    record = fs.read_json(record_path)
    if not _is_current(record, where, host):
        held = _lock(where)
        try:
            record = fs.read_json(record_path)
            if not _is_current(record, where, host):
                record = _make(where, host)
                fs.write_json(record_path, record)
        finally:
            os.close(held)
    return image_module.Image(
        reference=REFERENCE,
        digest=record["digest"],
        config=image_config.ImageConfig(env=(image_config.DEFAULT_PATH,), cmd=("/bin/sh",)),
        lower=(f"{where.data}/layers/{record['skeleton']}/fs",),
        overlays=tuple((target, tuple(lower)) for target, lower in record["overlays"]),
    )


def current(where: paths.Paths) -> str:
    """The name of the skeleton that the next container gets, "" if there is none."""
    record = fs.read_json(f"{where.data}/images/host.json")
    return str(record.get("skeleton", "")) if isinstance(record, dict) else ""


def _lock(where: paths.Paths) -> int:
    for name in ("images", "layers", "stage"):
        os.makedirs(f"{where.data}/{name}", mode=0o700, exist_ok=True)
    held = lock.acquire(f"{where.data}/stage/host.lock", wait=True)
    assert held is not None
    return held


def _is_current(record: Any, where: paths.Paths, host: Host) -> bool:
    if not isinstance(record, dict) or record.get("version") != VERSION or record.get("root") != host.root:
        return False
    if not os.path.isdir(f"{where.data}/layers/{record['skeleton']}/fs"):
        return False
    return all(_state(path) == state for path, state in record["watched"].items())


def _state(path: str) -> list[int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    # Access times and link counts change by looking; a folder's size says nothing on some filesystems.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return [status.st_mode, status.st_mtime_ns, size, status.st_ino]


# -- making a skeleton --------------------------------------------------------------------------------------------


def _make(where: paths.Paths, host: Host) -> dict[str, Any]:
    entries = list(_etc(host))
    roots = list(_roots(host))
    # The state is taken before the content is: a change while copying shows as one at the next look.
    copied = [*entries, *roots]
    watched = {host.path(entry.path): _state(host.path(entry.path)) for entry in copied if _is_watched(entry)}
    users, groups = _users(host)
    digest = _digest(host)
    parts = (VERSION, digest, sorted(watched.items()), users, groups)
    key = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    # What these hold is in the key; that they were touched only means to look again.
    for name in ("etc", "etc/passwd", "etc/group", "usr/lib/os-release", "usr", "opt"):
        watched[host.path(name)] = _state(host.path(name))
    name = f"host-{key}"
    final, stage = f"{where.data}/layers/{name}", f"{where.data}/stage/{name}"
    tree.remove(stage)
    if not os.path.isdir(f"{final}/fs"):
        try:
            os.makedirs(f"{stage}/fs", mode=0o755)
            _fill(f"{stage}/fs", host, entries, roots)
            _write(f"{stage}/fs/etc/passwd", users)
            _write(f"{stage}/fs/etc/group", groups)
            os.rename(stage, final)
        except OSError as exc:
            tree.remove(stage)
            raise errors.ImageError(f"the image `host:` can't be made: {exc.strerror}: `{exc.filename}`") from exc
    return {
        "version": VERSION,
        "root": host.root,
        "skeleton": name,
        "digest": digest,
        "overlays": list(_overlays(host, roots)),
        "watched": watched,
    }


def _is_watched(entry: Entry) -> bool:
    """A link only changes by being replaced, which its folder shows."""
    return not stat.S_ISLNK(entry.status.st_mode) or "/" not in entry.path


def _users(host: Host) -> tuple[str, str]:
    """The system's users and groups; not the people who use the machine."""
    people = _people(host.path("etc/passwd"))
    return (
        "".join(_system_users(host.path("etc/passwd"))),
        "".join(_system_groups(host.path("etc/group"), people)),
    )


def _roots(host: Host) -> Iterator[Entry]:
    """bin, sbin, lib, …: links into /usr on most machines, folders on some."""
    for name in sorted(os.listdir(host.root)):
        if name in {"bin", "sbin"} or name.startswith("lib"):
            status = os.lstat(host.path(name))
            if stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode):
                yield Entry(name, status)


def _overlays(host: Host, roots: list[Entry]) -> Iterator[tuple[str, list[str]]]:
    names = ["usr", "opt", *(entry.path for entry in roots if stat.S_ISDIR(entry.status.st_mode))]
    # Where the whole system is in one store, /bin/sh is a link into it.
    shell = os.path.realpath(host.path("bin/sh"))
    names += [name for name in ("nix", "gnu") if shell.startswith(host.path(name) + "/")]
    for name in names:
        if os.path.isdir(host.path(name)) and not os.path.islink(host.path(name)):
            yield f"/{name}", [host.path(name)]


def _etc(host: Host) -> Iterator[Entry]:
    for name in sorted(os.listdir(host.path("etc"))):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in ETC):
            yield from _readable(host, f"etc/{name}")


def _readable(host: Host, path: str) -> Iterator[Entry]:
    """``path`` and what is below it, as far as everybody may read it; only files, folders and links."""
    if any(fnmatch.fnmatchcase(os.path.basename(path), pattern) for pattern in SECRET):
        return
    try:
        status = os.lstat(host.path(path))
    except OSError:
        return
    mode = status.st_mode
    is_file = stat.S_ISREG(mode) and bool(mode & 0o004) and status.st_size <= SIZE_LIMIT
    if stat.S_ISLNK(mode) or is_file:
        yield Entry(path, status)
    elif stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
        yield Entry(path, status)
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(host.path(path))):
                yield from _readable(host, f"{path}/{name}")


def _fill(root: str, host: Host, entries: list[Entry], roots: list[Entry]) -> None:
    os.chmod(root, 0o755)
    for name, mode in (*EMPTY, ("etc", 0o755)):
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
    for name, target in LINKS:
        os.symlink(target, f"{root}/{name}")
    for entry in roots:
        if stat.S_ISLNK(entry.status.st_mode):
            os.symlink(os.readlink(host.path(entry.path)), f"{root}/{entry.path}")
        else:
            os.mkdir(f"{root}/{entry.path}")
    for target, _ in _overlays(host, roots):
        os.makedirs(f"{root}{target}", exist_ok=True)
        os.chmod(f"{root}{target}", 0o755)
    for entry in entries:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # gone since, or closed to us
            _copy(host.path(entry.path), f"{root}/{entry.path}", entry.status)
    for name in MOUNTED:
        _write(f"{root}/{name}", "")


def _copy(source: str, target: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o755)
        os.chmod(target, mode & 0o755)
    else:
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            content = file.read(SIZE_LIMIT)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode & 0o755)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chmod(path, 0o644)


def _lines(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip("\n").split(":") for line in file if line.strip() and not line.startswith("#")]
    except OSError:
        return []


def _is_system(number: str) -> bool:
    """As every distribution's login.defs has it: below 1000, and `nobody`."""
    return number.isdecimal() and (int(number) < 1000 or int(number) == 65534)


def _people(path: str) -> frozenset[str]:
    return frozenset(fields[0] for fields in _lines(path) if len(fields) == 7 and not _is_system(fields[2]))


def _system_users(path: str) -> Iterator[str]:
    users = [fields for fields in _lines(path) if len(fields) == 7 and _is_system(fields[2])]
    if not any(fields[0] == "root" for fields in users):
        users.insert(0, ["root", "*", "0", "0", "root", "/root", "/bin/sh"])
    for fields in users:
        fields[1] = "*"  # there is no shadow file to look in
        if fields[2] == "0":
            fields[4], fields[5] = "root", "/root"
        yield ":".join(fields) + "\n"


def _system_groups(path: str, people: frozenset[str]) -> Iterator[str]:
    groups = [fields for fields in _lines(path) if len(fields) == 4 and _is_system(fields[2])]
    if not any(fields[0] == "root" for fields in groups):
        groups.insert(0, ["root", "*", "0", ""])
    for fields in groups:
        fields[1] = "*"
        fields[3] = ",".join(name for name in fields[3].split(",") if name and name not in people)
        yield ":".join(fields) + "\n"


def _digest(host: Host) -> str:
    """The release, not its packages nor its point release's wording."""
    release: dict[str, str] = {}
    for path in ("etc/os-release", "usr/lib/os-release"):
        with contextlib.suppress(OSError), open(host.path(path), encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.strip().partition("=")
                release.setdefault(name, value.strip("\"'"))
    named = [release.get(name, "") for name in ("ID", "VERSION_ID", "VARIANT_ID")]
    return "sha256:" + hashlib.sha256(repr(("host:", VERSION, os.uname().machine, named)).encode()).hexdigest()
