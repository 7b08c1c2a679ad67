"""Containers and a supervisor made of plain values."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from devenv.cli import inventory
from devenv.reconcile import record

PROJECT_ID = "shop-12345678"


def made(name: str, /, **more: Any) -> record.Record:
    service, _, number = name.rpartition("-")
    values: dict[str, Any] = {
        "id": name.encode().hex().ljust(64, "0"),
        "name": f"shop-{name}",
        "project": "shop",
        "project_id": PROJECT_ID,
        "project_dir": "/srv/shop",
        "config_files": ("/srv/shop/devenv.yaml",),
        "service": service,
        "number": int(number),
        "oneoff": False,
        "image": "host:",
        "image_id": "sha256:" + "a" * 64,
        "config_digest": "",
        "sections": {},
        "created": 1000.0,
        "command": ("sleep", "1000"),
        "labels": {"b": "2", "a": "1"},
        "restart": {"condition": "none"},
        "networks": {"default": {}},
    }
    empty = {"str": "", "int": 0, "float": 0.0, "bool": False, "dict": {}, "tuple": ()}
    for field in dataclasses.fields(record.Record):
        if field.default is dataclasses.MISSING:
            values.setdefault(field.name, empty.get(str(field.type).partition("[")[0]))
    return record.Record(**{**values, **more})


def container(
    name: str, /, state: str = "running", *, folder: pathlib.Path | str = "", **more: Any
) -> inventory.Container:
    values: dict[str, Any] = {
        "pid": None,
        "started": 1000.0,
        "finished": None,
        "exit_code": None,
        "oom_killed": False,
        "health": "",
    }
    given = {key: more.pop(key) for key in list(more) if key in values}
    return inventory.Container(record=made(name, **more), state=state, folder=str(folder), **{**values, **given})


def write_log(folder: pathlib.Path, *lines: str) -> pathlib.Path:
    """``lines`` are ``stdout text`` or ``stderr text``, a nanosecond apart."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with open(folder / "logs" / "container.log", "ab") as file:
        for number, line in enumerate(lines):
            stream, _, text = line.partition(" ")
            stamp = f"2030-01-01T00:00:00.{number:09d}Z"
            file.write(f"{stamp} {stream} F {text}\n".encode(errors="surrogateescape"))
    return folder


class Supervisor:
    """Answers each request with what the test has put there, and remembers what it was asked."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, op: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        self.asked.append((op, params or {}))
        for message in self.answers.get(op, [{"result": None}]):
            if isinstance(message, BaseException):
                raise message
            if callable(message):
                message()
                continue
            yield message
