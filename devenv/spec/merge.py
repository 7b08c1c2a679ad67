"""One file over another: mappings merge, lists append, and then what names the same thing is there once.

Attributes with a rule of their own are in the tables: a command replaces, `environment` in either form becomes one
list, `ports` are told apart by address and number, mounts by their target. The same rules serve several files,
`extends` and `include`. Values are changed in place; nobody else holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devenv.spec import diagnostic, mounts, scalars

Merger = Callable[[Any, Any, diagnostic.Path], Any]


class Conflict(ValueError):
    """Two files give one attribute in forms that don't go together."""

    def __init__(self, path: diagnostic.Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class _Table:
    """A tree of attribute names with ``*`` for any, so that rules are found while walking."""

    __slots__ = ("names", "rule")

    def __init__(self) -> None:
        self.names: dict[str, _Table] = {}
        self.rule: Any = None

    @classmethod
    def of(cls, rules: dict[str, Any]) -> _Table:
        root = cls()
        for path, rule in rules.items():
            node = root
            for part in path.split("."):
                node = node.names.setdefault(part, cls())
            node.rule = rule
        return root

    def step(self, name: str | int) -> _Table | None:
        return self.names.get(str(name)) or self.names.get("*")

    def at(self, path: diagnostic.Path) -> _Table | None:
        node: _Table | None = self
        for part in path:
            node = node.step(part) if node is not None else None
        return node


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``. Raises ``Conflict``."""
    merged: dict[str, Any] = _merge(base, over, (), _MERGERS)
    return merged


def merge_service(base: dict[str, Any], over: dict[str, Any], name: str) -> dict[str, Any]:
    path = ("services", name)
    merged: dict[str, Any] = _merge(base, over, path, _MERGERS.at(path))
    return merged


def merge_resource(base: Any, over: Any, path: diagnostic.Path) -> Any:
    return _merge(base, over, path, _MERGERS.at(path))


def _merge(base: Any, over: Any, path: diagnostic.Path, rules: _Table | None) -> Any:
    if rules is not None and rules.rule is not None:
        return rules.rule(base, over, path)
    if over is None:
        return base
    if isinstance(base, dict):
        if not isinstance(over, dict):
            raise _conflict(base, over, path)
        return _mappings(base, over, path, rules)
    if isinstance(base, list):
        if not isinstance(over, list):
            raise _conflict(base, over, path)
        return base + over
    return over


def _conflict(base: Any, over: Any, path: diagnostic.Path) -> Conflict:
    return Conflict(
        path,
        f"`{diagnostic.dotted(path)}` is {scalars.describe(base)} before, and can't become {scalars.describe(over)}",
    )


def _mappings(base: dict[str, Any], over: dict[str, Any], path: diagnostic.Path, rules: _Table | None) -> Any:
    for name, value in over.items():
        if name in base:
            base[name] = _merge(base[name], value, (*path, name), rules.step(name) if rules is not None else None)
        else:
            base[name] = value
    return base


def _replace(_base: Any, over: Any, _path: diagnostic.Path) -> Any:
    return over


def _append(base: Any, over: Any, path: diagnostic.Path) -> Any:
    return _sequence(base, path) + _sequence(over, path)


def _sequence(value: Any, path: diagnostic.Path) -> list[Any]:
    """Text, a list, or a mapping as ``name=value`` in the order of names."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        found: list[Any] = []
        for name, item in value.items():
            if item is None:
                found.append(name)
            elif isinstance(item, list):
                found += [f"{name}={scalars.show(part)}" for part in item]
            else:
                found.append(f"{name}={scalars.show(item)}")
        return sorted(found)
    raise Conflict(path, f"`{diagnostic.dotted(path)}` can't be {scalars.describe(value)}")


def _mapping(value: Any, path: diagnostic.Path, default: Any = None) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: None if default is None else dict(default) for name in value}
    raise Conflict(path, f"`{diagnostic.dotted(path)}` can't be {scalars.describe(value)}")


def _hosts(base: Any, over: Any, path: diagnostic.Path) -> Any:
    first = _sequence(base, path)
    return first + [item for item in _sequence(over, path) if item not in first]


def _named(base: Any, over: Any, path: diagnostic.Path) -> Any:
    return _mappings(_mapping(base, path), _mapping(over, path), path, _MERGERS.at(path))


_STARTED = {"condition": "service_started", "required": True}


def _depends_on(base: Any, over: Any, path: diagnostic.Path) -> Any:
    return _mappings(_mapping(base, path, _STARTED), _mapping(over, path, _STARTED), path, None)


def _build(base: Any, over: Any, path: diagnostic.Path) -> Any:
    parts = [{"context": value} if isinstance(value, str) else value or {} for value in (base, over)]
    for part in parts:
        if not isinstance(part, dict):
            raise Conflict(path, f"`{diagnostic.dotted(path)}` can't be {scalars.describe(part)}")
    return _mappings(parts[0], parts[1], path, _MERGERS.at(path))


def _logging(base: Any, over: Any, path: diagnostic.Path) -> Any:
    """Options belong to their driver: another driver starts afresh."""
    first, second = _mapping(base, path), _mapping(over, path)
    if "driver" in first and "driver" in second and first["driver"] != second["driver"]:
        return second
    return _mappings(first, second, path, None)


def _pools(base: Any, over: Any, path: diagnostic.Path) -> Any:
    """Of `ipam.config`, entries of one subnet merge."""
    found: list[Any] = []
    for value in (base, over):
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise Conflict(path, f"`{diagnostic.dotted(path)}` must be a list of mappings")
    for pool in [*base, *over]:
        same = next((item for item in found if item.get("subnet") == pool.get("subnet")), None)
        if same is None:
            found.append(pool)
        else:
            _mappings(same, pool, path, None)
    return found


_each = str.split
_S = "services.*."
_MERGERS = _Table.of(
    {
        "networks.*.ipam.config": _pools,
        "networks.*.labels": _append,
        "volumes.*.labels": _append,
        **dict.fromkeys((_S + "command", _S + "entrypoint", _S + "healthcheck.test", _S + "ulimits.*"), _replace),
        **{
            _S + name: _append
            for name in _each(
                "annotations build.args build.additional_contexts build.labels deploy.labels dns dns_opt dns_search "
                "env_file label_file environment labels sysctls tmpfs volumes.*.volume.labels"
            )
        },
        _S + "build": _build,
        _S + "build.extra_hosts": _hosts,
        _S + "extra_hosts": _hosts,
        _S + "depends_on": _depends_on,
        _S + "logging": _logging,
        _S + "models": _named,
        _S + "networks": _named,
    }
)


def unique(value: dict[str, Any]) -> dict[str, Any]:
    """Of list entries that name the same thing keep the last, in the place of the first. Raises ``Conflict``."""
    for name, table in _KEYS.names.items():
        section = value.get(name)
        if isinstance(section, dict):
            for key, item in section.items():
                if isinstance(item, dict):
                    _unique(item, (name, key), table.names["*"])
    return value


def _unique(value: dict[str, Any], path: diagnostic.Path, table: _Table) -> None:
    for name, item in value.items():
        inner = table.step(name)
        if inner is None:
            continue
        if isinstance(item, dict):
            if inner.names:
                _unique(item, (*path, name), inner)
        elif isinstance(item, list) and inner.rule is not None and len(item) > 1:
            kept: dict[Any, Any] = {}
            for entry in item:
                kept[_hashable(inner.rule(entry))] = entry
            value[name] = list(kept.values())


def _hashable(key: Any) -> Any:
    """Shapes aren't checked yet, so a name may be anything."""
    plain = isinstance(key, str) or (type(key) is tuple and all(isinstance(part, str) for part in key))
    return key if plain else repr(key)


def _key_value(entry: Any) -> Any:
    return entry.partition("=")[0] if isinstance(entry, str) else repr(entry)


def _mount_target(entry: Any) -> Any:
    if isinstance(entry, str):
        # What isn't a mount is refused later, with its place.
        try:
            return mounts.parse(entry)["target"]
        except ValueError:
            return entry
    return entry.get("target", repr(entry)) if isinstance(entry, dict) else repr(entry)


def _device_target(entry: Any) -> Any:
    if isinstance(entry, str):
        parts = entry.split(":")
        return parts[0] if len(parts) == 1 else parts[1]
    return entry.get("target", entry.get("source")) if isinstance(entry, dict) else repr(entry)


def _file_target(default: str) -> Callable[[Any], Any]:
    def key(entry: Any) -> Any:
        if isinstance(entry, str):
            return f"{default}/{entry}"
        if isinstance(entry, dict):
            return entry.get("target") or f"{default}/{entry.get('source')}"
        return repr(entry)

    return key


def _port(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return scalars.show(entry) if isinstance(entry, int | float | str) else repr(entry)
    return (
        str(entry.get("host_ip", "0.0.0.0")),
        str(entry.get("published")),
        str(entry.get("target")),
        str(entry.get("protocol", "tcp")),
    )


def _env_file(entry: Any) -> Any:
    return entry.get("path") if isinstance(entry, dict) else entry if isinstance(entry, str) else repr(entry)


_KEYS = _Table.of(
    {
        "networks.*.labels": _key_value,
        "networks.*.ipam.options": _key_value,
        **{
            _S + name: _key_value
            for name in _each(
                "annotations build.args build.additional_contexts build.tags build.labels cap_add cap_drop "
                "deploy.labels dns dns_opt dns_search environment labels links networks.*.aliases "
                "networks.*.link_local_ips profiles sysctls tmpfs"
            )
        },
        _S + "devices": _device_target,
        _S + "configs": _file_target(""),
        _S + "secrets": _file_target("/run/secrets"),
        _S + "env_file": _env_file,
        _S + "expose": lambda entry: scalars.show(entry) if not isinstance(entry, list | dict) else repr(entry),
        _S + "ports": _port,
        _S + "volumes": _mount_target,
    }
)


def drop(value: dict[str, Any], paths: list[diagnostic.Path]) -> None:
    """Remove what ``!reset`` and ``!override`` of a later file name."""
    for path in paths:
        node: Any = value
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and path:
            node.pop(path[-1], None)
