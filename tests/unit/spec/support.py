"""Loading a spec from text."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

from devenv import errors
from devenv.spec import loader

CORPUS = pathlib.Path(__file__).parent / "corpus"
HOME = {"HOME": "/home/u"}


def write(folder: pathlib.Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)


def load(folder: pathlib.Path, text: str | bytes | None = None, **options: Any) -> loader.Loaded:
    """What ``text`` as ``compose.yaml`` of the folder comes to."""
    if text is not None:
        write(folder, {"compose.yaml": text})
    environ = {**HOME, **options.pop("environ", {})}
    return loader.load(loader.LoadOptions(environ=environ, cwd=str(folder), **options))


def service(folder: pathlib.Path, text: str, name: str = "web", **options: Any) -> dict[str, Any]:
    """The canonical service of a spec."""
    found: dict[str, Any] = load(folder, text, **options).canonical["services"][name]
    return found


def refused(folder: pathlib.Path, text: str | bytes | None = None, **options: Any) -> errors.SpecError:
    """The error that the spec ends with."""
    with pytest.raises(errors.SpecError) as caught:
        load(folder, text, **options)
    return caught.value
