"""The canonical form: every value in its one type and spelling, what is empty left out.

A table says for each attribute how its value becomes canonical; it is what docker compose's types and their JSON
encoding amount to (durations as ``1m30s``, bytes as text, `command` always there, null when not given). Attributes
beginning with `x-` are kept when asked (`devenv config` in YAML shows them, in JSON it has only the top level's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devenv.spec import diagnostic, scalars

Convert = Callable[[Any], Any]
OMIT: Any = object()


class Table:
    """How the attributes of one kind of mapping become canonical."""

    def __init__(self, fields: dict[str, Any], *, always: dict[str, Any] | None = None) -> None:
        self.fields = fields
        self.always = always or {}


class Listed:
    def __init__(self, table: Table) -> None:
        self.table = table


class Named:
    """Free names, with values of one kind; None stays None."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Canonicaliser:
    def __init__(self, report: diagnostic.Report, *, extensions: bool = False) -> None:
        self.report = report
        self.extensions = extensions

    def table(self, value: dict[str, Any], table: Table, path: diagnostic.Path) -> dict[str, Any]:
        found: dict[str, Any] = {name: _fresh(default) for name, default in table.always.items()}
        for name, item in value.items():
            rule = table.fields.get(name)
            if rule is None:
                if name == "x-devenv" or (self.extensions and name.startswith("x-")):
                    found[name] = item
                continue
            made = self.apply(item, rule, (*path, name))
            if made is not OMIT:
                found[name] = made
        return found

    def apply(self, item: Any, rule: Any, path: diagnostic.Path) -> Any:
        if isinstance(rule, Table):
            return self.table(item, rule, path) if isinstance(item, dict) else OMIT
        if isinstance(rule, Listed):
            entries = [self.table(entry, rule.table, (*path, i)) for i, entry in enumerate(item or [])]
            return entries or OMIT
        if isinstance(rule, Named):
            return self._named(item, rule, path)
        try:
            return rule(item)
        except ValueError as problem:
            shown = item if isinstance(item, str) else None
            self.report.add(path, f"`{diagnostic.dotted(path)}`: {problem}", value=shown)
            return OMIT

    def _named(self, item: Any, rule: Named, path: diagnostic.Path) -> Any:
        found = {}
        for name, entry in (item or {}).items():
            made = None if entry is None else self.apply(entry, rule.inner, (*path, name))
            found[name] = None if made is OMIT else made
        return found or OMIT


def _fresh(default: Any) -> Any:
    return dict(default) if isinstance(default, dict) else default


def text(value: Any) -> Any:
    return OMIT if value is None or value == "" else scalars.show(value)


def flag(value: Any) -> Any:
    return True if _boolean(value) else OMIT


def flag_or_not(value: Any) -> Any:
    """Where false is not the same as nothing said."""
    return OMIT if value is None else _boolean(value)


def flag_or_text(value: Any) -> Any:
    """Either a yes or no, however it is written, or something that is neither."""
    if value is None or value == "":
        return OMIT
    try:
        return value if isinstance(value, bool) else scalars.boolean(scalars.show(value))
    except ValueError:
        return scalars.show(value)


def opt_out(value: Any) -> Any:
    return OMIT if value is None or _boolean(value) else False


def _boolean(value: Any) -> bool:
    return scalars.boolean(value) if isinstance(value, str) else bool(value)


def whole_or_zero(value: Any) -> int:
    if isinstance(value, str):
        return scalars.whole(value)
    if isinstance(value, float) and not abs(value) < 2**63:
        raise ValueError(f"`{value}` is not a whole number")
    return int(value or 0)


def whole(value: Any) -> Any:
    return whole_or_zero(value) or OMIT


def counted(value: Any) -> Any:
    """A number that isn't negative, where zero is not the same as nothing said."""
    if value is None:
        return OMIT
    number = whole_or_zero(value)
    if number < 0:
        raise ValueError(f"must be 0 or more, not {number}")
    return number


def whole_given(value: Any) -> Any:
    return OMIT if value is None else whole_or_zero(value)


def real(value: Any) -> Any:
    number = scalars.float32(scalars.real(value) if isinstance(value, str) else float(value or 0))
    return number or OMIT


def size(value: Any) -> Any:
    number = 0 if value is None else scalars.size(value)
    return str(number) if number else OMIT


def size_given(value: Any) -> Any:
    """Where zero is not the same as nothing said."""
    return OMIT if value is None else size_always(value)


def size_always(value: Any) -> str:
    return str(scalars.size(value))


def duration(value: Any) -> Any:
    return OMIT if value is None else scalars.duration(scalars.show(value))


def duration_or_not(value: Any) -> Any:
    spelled = duration(value)
    return OMIT if spelled == "0s" else spelled


def strings(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return [scalars.show(item) for item in value or []] or OMIT


def command(value: Any) -> Any:
    if value is None:
        return None
    return scalars.words(value) if isinstance(value, str) else list(value)


def health_test(value: Any) -> Any:
    test = ["CMD-SHELL", value] if isinstance(value, str) else list(value or [])
    return test or OMIT


def mapping(value: Any) -> Any:
    """``name: value`` or ``name=value``; nothing is empty text."""
    if isinstance(value, list):
        pairs = (scalars.show(entry).partition("=") for entry in value)
        return {name: rest for name, _, rest in pairs} or OMIT
    return {name: "" if item is None else scalars.show(item) for name, item in (value or {}).items()} or OMIT


def environment(value: Any) -> Any:
    """As ``mapping``, but a name alone is not the same as an empty value."""
    if isinstance(value, list):
        found: dict[str, str | None] = {}
        for entry in value:
            name, equals, rest = scalars.show(entry).partition("=")
            if name and name[-1].isspace():
                raise ValueError(f"the variable `{name}` has a space at the end of its name")
            found[name] = rest if equals else None
        return found or OMIT
    return {name: None if item is None else scalars.show(item) for name, item in (value or {}).items()} or OMIT


def multi_options(value: Any) -> Any:
    found = {
        name: [scalars.show(part) for part in item] if isinstance(item, list) else [scalars.show(item)]
        for name, item in (value or {}).items()
    }
    return found or OMIT


def hosts(value: Any) -> Any:
    """``["name=address", …]`` in order."""
    pairs: list[tuple[str, str]] = []
    if isinstance(value, list):
        for entry in value:
            separator = "=" if "=" in entry else ":"
            name, found, addresses = entry.partition(separator)
            if not found:
                raise ValueError(f"`{entry}` has no address: write NAME=ADDRESS")
            pairs += [(name, address) for address in addresses.split(",")]
    else:
        for name, item in (value or {}).items():
            pairs += [(name, scalars.show(part)) for part in (item if isinstance(item, list) else [item or ""])]
    for name, _ in pairs:
        if not name or ":" in name or "=" in name:
            raise ValueError(f"`{name}` is no name of a host")
    return sorted(f"{name}={_bare(address)}" for name, address in pairs) or OMIT


def _bare(address: str) -> str:
    return address[1:-1] if len(address) > 2 and address.startswith("[") and address.endswith("]") else address


def file_mode(value: Any) -> Any:
    """Text is octal as people write it; a number is what YAML made of 0440."""
    if value is None:
        return OMIT
    if isinstance(value, str):
        try:
            number = int(value, 8)
        except ValueError:
            raise ValueError(f"`{value}` is no file mode: write it like 0440") from None
        value = -1 if "_" in value or "o" in value.lower() else number
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"`{value}` is no file mode: write it like 0440")
    if not 0 <= int(value) < 2**31:
        raise ValueError(f"`{value}` is no file mode: write it like 0440")
    return f"0{int(value):o}"


def tmpfs_mode(value: Any) -> Any:
    number = whole_or_zero(value)
    if not 0 <= number < 2**32:
        raise ValueError(f"`{value}` is no file mode")
    return number or OMIT


def port(value: Any) -> Any:
    number = whole_or_zero(value)
    if not 0 <= number <= 65535:
        raise ValueError(f"{number} is no port, they end at 65535")
    return number or OMIT


def device_count(value: Any) -> Any:
    if isinstance(value, str) and value.lower() == "all":
        return -1
    return whole(value)


def ssh(value: Any) -> Any:
    if isinstance(value, list):
        return list(value) or OMIT
    pairs = [name if path in {None, ""} else f"{name}={path}" for name, path in sorted((value or {}).items())]
    return pairs or OMIT


def ulimit(value: Any) -> Any:
    if isinstance(value, dict):
        limits = {name: whole_or_zero(value[name]) for name in ("soft", "hard") if name in value}
        return {name: number for name, number in limits.items() if number}
    return whole_or_zero(value) or {}


def anything(value: Any) -> Any:
    return OMIT if value is None else value
