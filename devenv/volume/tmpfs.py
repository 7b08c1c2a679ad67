"""What the kernel is told about a tmpfs: tmpfs(5), with Docker's defaults (nosuid, nodev, noexec, mode 1777)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from devenv import errors

DEFAULTS = ("nosuid", "nodev", "noexec")

_PAIRS = ("suid", "dev", "exec", "atime", "relatime", "strictatime", "diratime")
_FLAGS = frozenset({"ro", "rw", "sync", "async", *_PAIRS, *(f"no{flag}" for flag in _PAIRS)})
_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(%|[bkmgt]|[kmgt]i?b)?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def options(text: str, *, defaults: Iterable[str] = DEFAULTS) -> tuple[str, ...]:
    """What follows the target in `tmpfs:`, as in ``size=64m,mode=1777,exec``, as mount options."""
    chosen: dict[str, str] = {}
    for option in (*defaults, *(part.strip() for part in text.split(","))):
        if not option:
            continue
        name, equals, value = option.partition("=")
        if not equals and name in _FLAGS:
            # The last of `exec` and `noexec` counts, as for mount(8).
            chosen[_kind(name)] = name
        elif equals and name in _VALUES:
            chosen[name] = f"{name}={_value(name, value)}"
        else:
            near = difflib.get_close_matches(name, [*_FLAGS, *_VALUES], n=1)
            raise errors.VolumeError(
                f"tmpfs has no option `{option}`", hint=f"did you mean `{near[0]}`?" if near else None
            )
    chosen.setdefault("mode", "mode=1777")
    return tuple(chosen.values())


def from_compose(*, size: int | str | None, mode: int | str | None) -> tuple[str, ...]:
    """The long form. A mode is a number, as YAML read it, or octal digits in a string."""
    given = []
    if size not in {None, 0, "", "0"}:
        given.append(f"size={size}")
    if mode is not None:
        given.append(f"mode={mode:o}" if isinstance(mode, int) else f"mode={mode}")
    return options(",".join(given))


def _kind(flag: str) -> str:
    if flag in {"ro", "rw"}:
        return "write"
    if flag in {"sync", "async"}:
        return "sync"
    return flag.removeprefix("no")


def _value(name: str, value: str) -> str:
    if name == "size":
        return _size(value)
    if name == "mode":
        digits = value.removeprefix("0o")
        if re.fullmatch(r"[0-7]{1,5}", digits) and int(digits, 8) <= 0o7777:
            return digits
    elif name in {"uid", "gid"}:
        if re.fullmatch(r"[0-9]{1,10}", value) and int(value) < 2**32 - 1:
            return value
    elif re.fullmatch(r"[A-Za-z0-9:_%-]{1,40}", value):
        return value
    raise errors.VolumeError(f"tmpfs: `{name}={value}` is out of range or malformed")


def _size(value: str) -> str:
    match = _SIZE.fullmatch(value)
    if not match:
        raise errors.VolumeError(f"tmpfs: `size={value}` is not a size", hint="write bytes, or 64m, 2g, 50%")
    number, unit = match[1], (match[2] or "").lower()
    if unit == "%":
        return f"{int(float(number))}%"
    return str(int(float(number) * _UNITS[unit[:1]]))
