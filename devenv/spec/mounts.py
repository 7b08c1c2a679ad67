"""The short form of `volumes:`, ``[SOURCE:]TARGET[:OPTION,…]``, to its long form."""

from __future__ import annotations

import posixpath
from typing import Any

_PROPAGATIONS = frozenset({"rprivate", "private", "rshared", "shared", "rslave", "slave"})


def parse(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    if not text:
        raise ValueError("an empty entry mounts nothing")
    if len(text) <= 2:
        return {"type": "volume", "target": text, "volume": {}}
    parts = _split(text)
    if any(not part for part in parts):
        raise ValueError(f"`{text}` has nothing between two colons")
    if len(parts) > 3:
        raise ValueError(f"`{text}` has too many colons: it is SOURCE:TARGET:OPTIONS")
    mount: dict[str, Any] = {}
    if len(parts) == 1:
        mount["target"] = parts[0]
    else:
        mount["source"], mount["target"] = parts[:2]
    _options(mount, parts[2].split(",") if len(parts) == 3 else [])
    return _typed(mount)


def _split(text: str) -> list[str]:
    parts = [""]
    braces = 0
    for index, character in enumerate(text):
        if character == "$" and text[index + 1 : index + 2] == "{":
            braces += 1
        elif character == "}" and braces:
            braces -= 1
        # `C:\data` is one part.
        drive = len(parts[-1]) == 1 and parts[-1].isalpha()
        if character == ":" and not braces and not drive:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _options(mount: dict[str, Any], options: list[str]) -> None:
    for option in options:
        if option in {"ro", "rw"}:
            mount["read_only"] = option == "ro"
        elif option == "nocopy":
            mount["volume"] = {"nocopy": True}
        elif option in _PROPAGATIONS:
            mount.setdefault("bind", {})["propagation"] = option
        elif option in {"idmap", "noidmap"}:
            mount.setdefault("bind", {})["x-idmap"] = option == "idmap"
        elif option in {"z", "Z"}:
            mount.setdefault("bind", {})["selinux"] = option
        # Compose ignores what it doesn't know here: `cached`, `delegated`, `consistent` and the like.


def _typed(mount: dict[str, Any]) -> dict[str, Any]:
    mount["target"] = clean(mount["target"])
    if is_path(mount.get("source", "")):
        mount["type"] = "bind"
        mount.setdefault("bind", {})["create_host_path"] = True
    else:
        mount["type"] = "volume"
        mount.setdefault("volume", {})
    return mount


def clean(target: str) -> str:
    if not target:
        return target
    cleaned = posixpath.normpath(target)
    # POSIX lets `//` at the start mean something of its own, and normpath keeps it.
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def is_path(source: str) -> bool:
    if source.startswith((".", "/", "~", "\\\\")):
        return True
    return len(source) > 1 and source[0].isalpha() and source[1] == ":"
