"""Whole Dockerfiles and what they are read as: ``testfiles/<case>/Dockerfile`` and its ``dump.json``."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from devenv.build.dockerfile import instructions, parser

CASES = sorted(each.parent for each in pathlib.Path(__file__).parent.glob("testfiles/*/Dockerfile"))


def plain(value: Any) -> Any:
    """Only what says something: no empty fields, and of a place its lines."""
    if isinstance(value, instructions.Place):
        return f"{value.line}-{value.last}" if value.last > value.line else f"{value.line}"
    if dataclasses.is_dataclass(value):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        shown = {
            name: found for name, found in fields.items() if found not in ("", None, False, []) and name != "flags"
        }
        return {"is": type(value).__name__, **shown}
    if hasattr(value, "_asdict"):
        return {name: plain(found) for name, found in value._asdict().items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def dump(dockerfile: instructions.Dockerfile) -> str:
    return json.dumps(plain(dockerfile._replace(file="")), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_is_read_as(case: pathlib.Path) -> None:
    read = dump(parser.parse((case / "Dockerfile").read_bytes(), file="Dockerfile"))
    assert read == (case / "dump.json").read_text()
