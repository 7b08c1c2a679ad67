"""``-c`` of `import` and `commit`: Dockerfile instructions that change an image's config.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR, as Docker takes them.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from devenv import errors

Config = dict[str, Any]

_SECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_HEALTH = re.compile(r"--(interval|timeout|start-period|start-interval|retries)=(\S+)\s*")


def apply(config: Config, given: Sequence[str]) -> None:
    """Changes ``config``, in order. Raises ``UsageError``."""
    for text in given:
        word, _, rest = text.strip().partition(" ")
        change = _CHANGES.get(word.upper())
        if change is None:
            raise errors.UsageError(f"`--change {text}` is not understood", hint=f"it is one of {', '.join(_CHANGES)}")
        if not rest.strip():
            raise errors.UsageError(f"`--change {text}` says nothing after `{word}`")
        try:
            change(config, rest.strip())
        except ValueError as exc:
            raise errors.UsageError(f"`--change {text}` is not understood: {exc}") from exc


def _exec_form(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _command(text: str, config: Config) -> list[str]:
    found = _exec_form(text)
    return found if found is not None else [*(config.get("Shell") or ["/bin/sh", "-c"]), text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text, config)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text, config)
    # As in a Dockerfile: the base's command was meant for the base's entrypoint.
    config.pop("Cmd", None)


def _pairs(text: str) -> list[tuple[str, str]]:
    words = shlex.split(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise ValueError("it is NAME=VALUE")
        return [(name, value.strip())]
    if not all("=" in word for word in words):
        raise ValueError("it is NAME=VALUE …")
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


def _env(config: Config, text: str) -> None:
    values = dict(each.partition("=")[::2] for each in config.get("Env") or [])
    values.update(_pairs(text))
    config["Env"] = [f"{name}={value}" for name, value in values.items()]


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _expose(config: Config, text: str) -> None:
    ports: Config = {port if "/" in port else f"{port}/tcp": {} for port in text.split()}
    if not all(re.fullmatch(r"\d+(-\d+)?/(tcp|udp|sctp)", port) for port in ports):
        raise ValueError("it is PORT or PORT/PROTOCOL")
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volume(config: Config, text: str) -> None:
    given = _exec_form(text) or text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in given}}


def _workdir(config: Config, text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", text))


def _user(config: Config, text: str) -> None:
    config["User"] = text


def _stop_signal(config: Config, text: str) -> None:
    config["StopSignal"] = text


def _on_build(config: Config, text: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _healthcheck(config: Config, text: str) -> None:
    found: Config = {}
    names = {
        "interval": "Interval",
        "timeout": "Timeout",
        "start-period": "StartPeriod",
        "start-interval": "StartInterval",
    }
    while match := _HEALTH.match(text):
        if match[1] == "retries":
            found["Retries"] = int(match[2])
        else:
            found[names[match[1]]] = _nanoseconds(match[2])
        text = text[match.end() :]
    word, _, rest = text.partition(" ")
    if word.upper() == "NONE":
        found = {"Test": ["NONE"]}
    elif word.upper() == "CMD" and rest.strip():
        exec_form = _exec_form(rest.strip())
        found["Test"] = ["CMD", *exec_form] if exec_form is not None else ["CMD-SHELL", rest.strip()]
    else:
        raise ValueError("it is `CMD …` or `NONE`")
    config["Healthcheck"] = found


def _nanoseconds(text: str) -> int:
    parts = _SPAN.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"`{text}` is no span of time; write 30s or 1m30s")
    return round(sum(float(number) * _SECONDS[unit] for number, unit in parts))


_CHANGES: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
