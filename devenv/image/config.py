"""What an image says about how it is run: the ``config`` part of an OCI or Docker image config.

Tools leave out what they don't know or write ``null``; both mean "nothing said". A value of a wrong type is an error,
since guessing at a user or a command is how containers end up as root.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from devenv import errors

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True, slots=True)
class ImageConfig:
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # K=V
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()  # 80/tcp
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Mapping[str, Any] | None = None  # Compose's names, times in seconds
    shell: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: Any, *, what: str) -> ImageConfig:
        """``given`` is the ``config`` object; ``what`` is the image in errors."""
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise _wrong(what, "config", "an object")
        return cls(
            entrypoint=_strings(given, "Entrypoint", what),
            cmd=_strings(given, "Cmd", what),
            env=tuple(item for item in _strings(given, "Env", what) if _is_assignment(item, what)),
            user=_string(given, "User", what),
            working_dir=_string(given, "WorkingDir", what),
            exposed_ports=_keys(given, "ExposedPorts", what),
            volumes=_keys(given, "Volumes", what),
            labels=_labels(given, what),
            stop_signal=_string(given, "StopSignal", what),
            healthcheck=_healthcheck(given, what),
            shell=_strings(given, "Shell", what),
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ImageConfig:
        """What ``to_json`` gave, read back."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**values)


def _wrong(what: str, name: str, wanted: str) -> errors.ImageError:
    return errors.ImageError(f"{what} has a broken config: `{name}` is not {wanted}")


def _clean(text: str, name: str, what: str) -> str:
    # execve(2) takes strings that end at the first NUL: what follows would be dropped without a word.
    if "\0" in text:
        raise errors.ImageError(f"{what} has a broken config: `{name}` holds a NUL byte")
    return text


def _string(given: Mapping[str, Any], name: str, what: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(what, name, "a string")
    return _clean(value, name, what)


def _strings(given: Mapping[str, Any], name: str, what: str) -> tuple[str, ...]:
    value = given.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(what, name, "a list of strings")
    return tuple(_clean(item, name, what) for item in value)


def _is_assignment(item: str, what: str) -> bool:
    if item.startswith("="):
        raise errors.ImageError(f"{what} has a broken config: `Env` holds `{item}`, which has no name")
    return "=" in item  # Docker drops a name without a value


def _keys(given: Mapping[str, Any], name: str, what: str) -> tuple[str, ...]:
    """A set is written as an object with empty values; some tools write a list."""
    value = given.get(name)
    if value is None:
        return ()
    if isinstance(value, list):
        return _strings(given, name, what)
    if not isinstance(value, Mapping):
        raise _wrong(what, name, "an object")
    return tuple(_clean(key, name, what) for key in value)


def _labels(given: Mapping[str, Any], what: str) -> Mapping[str, str]:
    value = given.get("Labels")
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise _wrong(what, "Labels", "an object of strings")
    return dict(value)


def _healthcheck(given: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    value = given.get("Healthcheck")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _wrong(what, "Healthcheck", "an object")
    found: dict[str, Any] = {}
    if test := _strings(value, "Test", what):
        found["test"] = list(test)
    for name, key in (
        ("Interval", "interval"),
        ("Timeout", "timeout"),
        ("StartPeriod", "start_period"),
        ("StartInterval", "start_interval"),
    ):
        nanoseconds = _number(value, name, what)
        if nanoseconds:
            found[key] = nanoseconds / 1e9
    if retries := _number(value, "Retries", what):
        found["retries"] = retries
    return found or None


def _number(given: Mapping[str, Any], name: str, what: str) -> int:
    value = given.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(what, f"Healthcheck.{name}", "a whole number")
    return value
