"""What a new thing in an image is given beside its content: owner, mode, attributes, times.

In a user namespace not all can be kept: owners that are not mapped, devices. That is noted once, and goes on.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from devenv import errors
from devenv.build import attributes, modes, owners, placing

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(slots=True)
class Copied:
    files: int = 0
    size: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)  # what could not be kept

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


class Options(NamedTuple):
    owner: owners.Owner | None = None
    change: modes.Change | None = None
    parents_mode: int = 0o755
    epoch: int | None = None  # seconds; no time is later
    owned: bool = True  # owners are set at all


class Spot(NamedTuple):
    """A name in an open folder."""

    folder: int
    name: str

    @property
    def path(self) -> str:
        """For the calls that take no folder's descriptor: the name is never followed."""
        return f"/proc/self/fd/{self.folder}/{self.name}"


class Look(NamedTuple):
    mode: int  # with its kind
    owner: owners.Owner
    mtime: int  # nanoseconds
    attached: list[tuple[str, bytes]]


class Finisher:
    def __init__(self, options: Options, copied: Copied) -> None:
        self.options = options
        self.copied = copied

    def settle(self, file: int, look: Look, path: str) -> None:
        """An open file or folder, called ``path`` in messages."""
        # The mode after the owner, since chown(2) takes setuid away; the attributes after both, capabilities too.
        bits = self._bits(look.mode)
        if self.options.owned and not placing.own(file, look.owner):
            self.copied.note(_UNMAPPED)
            bits &= 0o1777  # a setuid file must not be somebody else's
        os.fchmod(file, bits)
        if look.attached and not attributes.put(file, look.attached):
            self.copied.note(f"attributes of `{path}` could not be kept")
        moment = self.moment(look.mtime)
        os.utime(file, ns=(moment, moment))

    def named(self, target: Spot, look: Look, path: str) -> None:
        """What can't be opened: a link, a fifo, a device."""
        if self.options.owned and not placing.own(target.folder, look.owner, name=target.name):
            self.copied.note(_UNMAPPED)
        if look.attached and not attributes.put(target.path, look.attached):
            self.copied.note(f"attributes of `{path}` could not be kept")
        if not stat.S_ISLNK(look.mode):  # it was made just now, so this follows nothing
            os.chmod(target.name, self._bits(look.mode), dir_fd=target.folder)
        moment = self.moment(look.mtime)
        os.utime(target.name, ns=(moment, moment), dir_fd=target.folder, follow_symlinks=False)

    def node(self, target: Spot, look: Look, device: int, path: str, clear: Callable[[Spot, str], None]) -> None:
        """A fifo, a device, or an empty file in a socket's place; ``clear`` makes way for it."""
        kind = stat.S_IFMT(look.mode)
        if kind == stat.S_IFSOCK:  # nobody listens on a copy
            kind = stat.S_IFREG
        if kind == stat.S_IFCHR and device == 0:
            self.copied.note(f"`{path}` is left out: a device 0:0 would hide a file of the image")
            return
        clear(target, path)
        try:
            is_device = kind in {stat.S_IFCHR, stat.S_IFBLK}
            os.mknod(target.name, kind | 0o600, device if is_device else 0, dir_fd=target.folder)
        except PermissionError:
            # mknod(2): devices belong to the initial user namespace.
            self.copied.note(f"`{path}` is left out: device nodes can't be made without root")
            return
        self.named(target, look, path)

    def moment(self, mtime: int) -> int:
        epoch = self.options.epoch
        return mtime if epoch is None else min(mtime, epoch * 10**9)

    def _bits(self, mode: int) -> int:
        change = self.options.change
        return change(mode) if change is not None else stat.S_IMODE(mode)


_UNMAPPED = "owners could not be kept: their user or group is not mapped here"


def created(target: Spot, path: str, clear: Callable[[Spot, str], None]) -> int:
    """A new file; ``clear`` makes way for it."""
    try:
        return os.open(target.name, _NEW, 0o600, dir_fd=target.folder)
    except FileExistsError:
        clear(target, path)
        return os.open(target.name, _NEW, 0o600, dir_fd=target.folder)


def unlink(target: Spot, path: str) -> None:
    """Make way, where that is not a folder."""
    try:
        os.unlink(target.name, dir_fd=target.folder)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise errors.BuildError(
            f"the file `{path}` can't take the place of the folder `{target.name}` of the image", hint="remove it first"
        ) from None
