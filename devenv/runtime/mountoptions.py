"""A mount's option strings, sorted out. Pure.

Four kinds of them: flags of mount(2), attributes of the one mount (which is what a bind has), attributes of everything
beneath it (``r…``: mount_setattr(2) with AT_RECURSIVE), and propagation. What is none of these is for the filesystem.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from devenv.linux import mount

# option -> flag of mount(2), and whether it is cleared
_FLAGS = {
    "ro": (mount.MS_RDONLY, False),
    "rw": (mount.MS_RDONLY, True),
    "nosuid": (mount.MS_NOSUID, False),
    "suid": (mount.MS_NOSUID, True),
    "nodev": (mount.MS_NODEV, False),
    "dev": (mount.MS_NODEV, True),
    "noexec": (mount.MS_NOEXEC, False),
    "exec": (mount.MS_NOEXEC, True),
    "sync": (mount.MS_SYNCHRONOUS, False),
    "async": (mount.MS_SYNCHRONOUS, True),
    "dirsync": (mount.MS_DIRSYNC, False),
    "remount": (mount.MS_REMOUNT, False),
    "mand": (mount.MS_MANDLOCK, False),
    "nomand": (mount.MS_MANDLOCK, True),
    "noatime": (mount.MS_NOATIME, False),
    "atime": (mount.MS_NOATIME, True),
    "nodiratime": (mount.MS_NODIRATIME, False),
    "diratime": (mount.MS_NODIRATIME, True),
    "relatime": (mount.MS_RELATIME, False),
    "norelatime": (mount.MS_RELATIME, True),
    "strictatime": (mount.MS_STRICTATIME, False),
    "nostrictatime": (mount.MS_STRICTATIME, True),
    "iversion": (mount.MS_I_VERSION, False),
    "noiversion": (mount.MS_I_VERSION, True),
    "lazytime": (mount.MS_LAZYTIME, False),
    "nolazytime": (mount.MS_LAZYTIME, True),
    "silent": (mount.MS_SILENT, False),
    "loud": (mount.MS_SILENT, True),
    "nosymfollow": (mount.MS_NOSYMFOLLOW, False),
    "symfollow": (mount.MS_NOSYMFOLLOW, True),
}
# option -> attribute of mount_setattr(2), and whether it is cleared; with an "r" in front for everything beneath.
# The times exclude each other: they are values of one field, which has to be cleared as a whole.
_ATTRIBUTES = {
    "ro": (mount.MOUNT_ATTR_RDONLY, False),
    "rw": (mount.MOUNT_ATTR_RDONLY, True),
    "nosuid": (mount.MOUNT_ATTR_NOSUID, False),
    "suid": (mount.MOUNT_ATTR_NOSUID, True),
    "nodev": (mount.MOUNT_ATTR_NODEV, False),
    "dev": (mount.MOUNT_ATTR_NODEV, True),
    "noexec": (mount.MOUNT_ATTR_NOEXEC, False),
    "exec": (mount.MOUNT_ATTR_NOEXEC, True),
    "noatime": (mount.MOUNT_ATTR_NOATIME, False),
    "atime": (mount.MOUNT_ATTR__ATIME, True),
    "nodiratime": (mount.MOUNT_ATTR_NODIRATIME, False),
    "diratime": (mount.MOUNT_ATTR_NODIRATIME, True),
    "relatime": (0, False),
    "norelatime": (mount.MOUNT_ATTR__ATIME, True),
    "strictatime": (mount.MOUNT_ATTR_STRICTATIME, False),
    "nostrictatime": (mount.MOUNT_ATTR__ATIME, True),
    "nosymfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, False),
    "symfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, True),
}
_TIMES = frozenset({"noatime", "relatime", "strictatime"})
_PROPAGATION = {
    name: flag | (mount.MS_REC if recursive else 0)
    for word, flag in (
        ("private", mount.MS_PRIVATE),
        ("slave", mount.MS_SLAVE),
        ("shared", mount.MS_SHARED),
        ("unbindable", mount.MS_UNBINDABLE),
    )
    for name, recursive in ((word, False), (f"r{word}", True))
}
_OWN = frozenset({"bind", "rbind", "idmap", "ridmap", "tmpcopyup", "copyup", "defaults", "z", "Z"})


class Options(NamedTuple):
    flags: int  # for mount(2)
    data: str
    attributes: int  # of this one mount
    cleared: int
    all_attributes: int  # of it and all beneath it
    all_cleared: int
    recursive: bool  # rbind
    propagation: tuple[int, ...]
    copyup: bool
    idmap: str  # "", idmap or ridmap

    @property
    def changes(self) -> bool:
        return bool(self.attributes or self.cleared)

    @property
    def changes_all(self) -> bool:
        return bool(self.all_attributes or self.all_cleared)

    @property
    def readonly(self) -> bool:
        return bool((self.attributes | self.all_attributes) & mount.MOUNT_ATTR_RDONLY)

    def writable(self) -> Options:
        return self._replace(
            flags=self.flags & ~mount.MS_RDONLY,
            attributes=self.attributes & ~mount.MOUNT_ATTR_RDONLY,
            all_attributes=self.all_attributes & ~mount.MOUNT_ATTR_RDONLY,
        )


def parse(options: Iterable[str]) -> Options:
    """Later options win over earlier ones, as in mount(8)."""
    flags, data, propagation = 0, [], []
    one, everything = (0, 0), (0, 0)
    chosen = list(options)
    for option in chosen:
        known = option in _OWN
        if option in _FLAGS:
            known = True
            flags = _put(flags, _FLAGS[option])
        if option in _ATTRIBUTES:
            one = _attribute(one, option)
        elif option.startswith("r") and option[1:] in _ATTRIBUTES:
            known = True
            everything = _attribute(everything, option[1:])
        if option in _PROPAGATION:
            known = True
            propagation.append(_PROPAGATION[option])
        if not known:
            data.append(option)
    return Options(
        flags=flags,
        data=",".join(data),
        attributes=one[0],
        cleared=one[1],
        all_attributes=everything[0],
        all_cleared=everything[1],
        recursive="rbind" in chosen,
        propagation=tuple(propagation),
        copyup="copyup" in chosen or "tmpcopyup" in chosen,
        idmap="ridmap" if "ridmap" in chosen else "idmap" if "idmap" in chosen else "",
    )


def _put(value: int, change: tuple[int, bool]) -> int:
    flag, clears = change
    return value & ~flag if clears else value | flag


def _attribute(state: tuple[int, int], option: str) -> tuple[int, int]:
    """``state`` is what is set and what is cleared; the kernel applies the clearing first."""
    added, cleared = state
    flag, clears = _ATTRIBUTES[option]
    if option in _TIMES:
        return added & ~mount.MOUNT_ATTR__ATIME | flag, cleared | mount.MOUNT_ATTR__ATIME
    if clears:
        return added & ~flag, cleared | flag
    return added | flag, cleared & ~flag


def propagation(word: str) -> int:
    """Of ``linux.rootfsPropagation``. Raises ``KeyError``."""
    return _PROPAGATION[word]


def is_bind(entry: dict[str, object]) -> bool:
    options = entry.get("options") or []
    assert isinstance(options, list)
    return entry.get("type") == "bind" or "bind" in options or "rbind" in options


def known() -> list[str]:
    """All but those of filesystems, for ``features``."""
    recursive = [f"r{name}" for name in _ATTRIBUTES]
    return sorted({*_FLAGS, *recursive, *_PROPAGATION, *(_OWN - {"copyup", "z", "Z"})})
