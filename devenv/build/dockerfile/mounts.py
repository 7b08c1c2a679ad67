"""``RUN --mount``: its fields as written, and, once the variables are known, what they come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from devenv.build.dockerfile import instructions, values
from devenv.build.dockerfile.malformed import Malformed, did_you_mean

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_FIELDS = {
    **{name: name for name in ("type", "from", "source", "target", "id", "sharing", "required", "size", "mode")},
    **{name: name for name in ("uid", "gid", "env", "readonly", "readwrite")},
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_VALUED = frozenset(_FIELDS.values()) - {"readonly", "readwrite", "required"}
_OWNED = frozenset({"secret", "ssh", "cache"})  # have a mode and an owner


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Empty and None: not given, so the kind's own default holds. ``writable`` is decided."""

    kind: str = "bind"
    source: str = ""
    target: str = ""
    origin: str = ""  # from=
    writable: bool = False
    id: str = ""
    sharing: str = ""  # shared, private, locked
    required: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    variable: str | None = None  # env=, of a secret; "" is to be named like it


def read(text: str) -> instructions.Mount:
    """As far as can be said before the variables are known. Raises ``Malformed``."""
    found: list[tuple[str, str]] = []
    for field in values.fields(text):
        name, equals, value = field.partition("=")
        name = _FIELDS.get(name.lower(), name)
        if name == "from" and "$" in value[:-1]:
            hint = "name a stage with FROM, whose image may hold variables, and mount from that"
            raise Malformed("a mount's `from` can't hold variables", word=value, hint=hint)
        if not equals and name in _VALUED:
            raise Malformed(f"the mount's `{name}` needs a value", word=name)
        found.append((name, value if equals else "true"))
    kind = next((value.lower() for name, value in reversed(found) if name == "type"), "bind")
    return instructions.Mount(kind, tuple(found))


def settle(mount: instructions.Mount, expand: Callable[[str], str]) -> Settled:
    """Raises ``Malformed``, and what ``expand`` raises."""
    found: dict[str, str] = {}
    writable: bool | None = None
    for name, written in mount.fields:
        if name not in _FIELDS:
            raise Malformed(f"a mount has no field `{name}`", word=name, hint=did_you_mean(name, _FIELDS))
        value = expand(written)
        if name in {"readonly", "readwrite"}:
            writable = values.boolean(value, name) is (name == "readwrite")
        else:
            found[name] = value
    kind = _one_of("type", found.get("type", "bind"), KINDS)
    _check(kind, found)
    return Settled(
        kind=kind,
        source=found.get("source", ""),
        target=found.get("target", ""),
        origin=found.get("from", ""),
        writable=writable if writable is not None else kind in {"cache", "tmpfs"},
        id=found.get("id", ""),
        sharing=_one_of("sharing", found["sharing"], SHARINGS) if "sharing" in found else "",
        required=values.boolean(found.get("required", "false"), "required"),
        size=values.size(found["size"], "size") if "size" in found else None,
        mode=values.number(found["mode"], "mode", base=8) if "mode" in found else None,
        uid=values.number(found["uid"], "uid") if "uid" in found else None,
        gid=values.number(found["gid"], "gid") if "gid" in found else None,
        variable=found.get("env"),
    )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value.lower() not in known:
        raise Malformed(f"there is no {name} `{value}`", word=value, hint=did_you_mean(value, known) or _listed(known))
    return value.lower()


def _listed(known: tuple[str, ...]) -> str:
    return f"it is one of {', '.join(known)}"


def _check(kind: str, found: dict[str, str]) -> None:
    """What goes with which kind."""
    wrong = [
        *(["required"] if "required" in found and kind not in {"secret", "ssh"} else []),
        *(["size"] if "size" in found and kind != "tmpfs" else []),
        *(["sharing"] if "sharing" in found and kind != "cache" else []),
        *(name for name in ("mode", "uid", "gid") if name in found and kind not in _OWNED),
        *(["from"] if found.get("from") and kind == "secret" else []),
    ]
    if wrong:
        raise Malformed(f"a {kind} mount has no `{wrong[0]}`", word=wrong[0])
    if kind == "secret":
        if not any(found.get(name) for name in ("source", "target", "id")):
            raise Malformed("the secret has no id", word="secret", hint="write --mount=type=secret,id=NAME")
        if found.get("source") and found.get("id"):
            raise Malformed("a secret has an `id` or a `source`, not both", word="source")
