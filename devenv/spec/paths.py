"""Relative paths to absolute ones, below the folder of the file that they stand in."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from typing import Any

_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@")
_WINDOWS = re.compile(r"[a-zA-Z]:[\\/]|\\\\")


def join(base: str, path: str) -> str:
    """Cleaned, and still relative when ``base`` is."""
    joined = posixpath.normpath(posixpath.join(base, path) if base else path)
    return joined[1:] if joined.startswith("//") else joined


class Resolver:
    def __init__(self, base: str, environ: Mapping[str, str]) -> None:
        self.base = base
        self.home = environ.get("HOME", "")

    def path(self, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        value = self.user(value)
        return value if value.startswith("/") else join(self.base, value)

    def local(self, value: Any) -> Any:
        """Also an absolute path of Windows is absolute; nothing at all is the folder itself."""
        if not isinstance(value, str):
            return value
        value = self.user(value)
        if value.startswith("/") or _WINDOWS.match(value):
            return value
        return join(self.base, value)

    def user(self, value: str) -> str:
        return join(self.home, value[1:].lstrip("/")) if value.startswith("~") and self.home else value

    def context(self, value: Any) -> Any:
        """A build context: a folder, or anything that a builder fetches."""
        if not isinstance(value, str) or "://" in value or value.startswith("service:") or value.startswith(_REMOTE):
            return value
        return self.path(value)

    def linked(self, value: Any) -> Any:
        """A watched path: the first symbolic link on the way is followed, since events come from behind it."""
        value = self.path(value)
        if not isinstance(value, str) or not value.startswith("/"):
            return value
        current = ""
        for part in value.split("/")[1:]:
            current = f"{current}/{part}"
            if part and os.path.islink(current):
                return value.replace(current, os.path.realpath(current), 1)
        return value

    def spec(self, spec: dict[str, Any]) -> None:
        for service in (spec.get("services") or {}).values():
            if isinstance(service, dict):
                self.service(service)
        for section in ("configs", "secrets"):
            for item in (spec.get(section) or {}).values():
                if isinstance(item, dict) and "file" in item:
                    item["file"] = self.local(item["file"])
        for volume in (spec.get("volumes") or {}).values():
            if isinstance(volume, dict) and volume.get("driver") == "local":
                options = volume.get("driver_opts")
                if isinstance(options, dict) and options.get("o") == "bind" and "device" in options:
                    options["device"] = self.local(options["device"])

    def service(self, service: dict[str, Any]) -> None:
        self._build(service.get("build"))
        for entry in _list(service.get("env_file")):
            if isinstance(entry, dict) and "path" in entry:
                entry["path"] = self.path(entry["path"])
        if isinstance(service.get("label_file"), list):
            service["label_file"] = [self.path(entry) for entry in service["label_file"]]
        extends = service.get("extends")
        if isinstance(extends, dict) and "file" in extends:
            extends["file"] = self.path(extends["file"])
        develop = service.get("develop")
        for rule in _list(develop.get("watch")) if isinstance(develop, dict) else []:
            if isinstance(rule, dict) and "path" in rule:
                rule["path"] = self.linked(rule["path"])
        for mount in _list(service.get("volumes")):
            if isinstance(mount, dict) and mount.get("type") == "bind" and "source" in mount:
                mount["source"] = self.local(mount["source"])

    def _build(self, build: Any) -> None:
        if not isinstance(build, dict):
            return
        if "context" in build:
            build["context"] = self.context(build["context"])
        contexts = build.get("additional_contexts")
        if isinstance(contexts, dict):
            for name, value in contexts.items():
                contexts[name] = self.context(value)
        ssh = build.get("ssh")
        if isinstance(ssh, dict):
            for name, value in ssh.items():
                ssh[name] = self.local(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
