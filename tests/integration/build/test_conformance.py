"""Each feature of Dockerfiles against what must come of it, found out without devenv: ``tests.support.buildcases``."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest

from devenv import errors
from devenv.build import request
from devenv.image import saving
from tests.support import buildcases, building, imagetree, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

_IGNORED = "ignore"  # paths of a case that tools may differ in


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> imagetree.Tree:
    """The busybox's own files, as every case begins with them."""
    folder = tmp_path_factory.mktemp("base")
    made = building.Builder(folder)
    return _read(made, made.request("FROM busybox\n"), folder)[0]


def _read(
    builder: building.Builder, asked: request.Request, folder: pathlib.Path
) -> tuple[imagetree.Tree, dict[str, Any]]:
    (built,) = builder.solve(asked)
    with open(folder / "built.tar", "wb") as file:
        saving.write_archive(builder.where, [saving.Wanted(built.target._replace(platform=None))], file.write)
    return imagetree.read(f"{folder}/built.tar")


@pytest.mark.parametrize("name", buildcases.names())
def test_case(name: str, base: imagetree.Tree, builder: building.Builder, tmp_path: pathlib.Path) -> None:
    case = buildcases.lay_out(name, tmp_path / "case")
    expected = json.loads(case.expected.read_text())
    dockerfile = (tmp_path / "case" / "Dockerfile").read_text()
    arguments = {key: value.replace("busybox", builder.base) for key, value in case.arguments.items()}
    (tmp_path / "Dockerfile").write_text(re.sub("(?i)(from) busybox", rf"\1 {builder.base}", dockerfile))
    asked = request.Request(
        dockerfile=f"{tmp_path}/Dockerfile",
        context=str(tmp_path / "case" / "context"),
        target=case.target,
        arguments=arguments,
    )
    if "error" in expected:
        with pytest.raises(errors.BuildError) as raised:
            _read(builder, asked, tmp_path)
        assert expected["error"] in f"{raised.value.message} {raised.value.hint} {raised.value.note}"
        assert raised.value.line is not None
        return
    tree, config = _read(builder, asked, tmp_path)
    found = buildcases.changes(base, tree)
    ignored = set(expected.get(_IGNORED, ()))
    if "FROM scratch" in dockerfile:
        found["gone"], expected["gone"] = [], []
    assert {path: value for path, value in found["tree"].items() if path not in ignored} == expected["tree"]
    assert found["gone"] == expected["gone"]
    for key, value in expected.get("config", {}).items():
        assert _comparable(key, config.get(key)) == _comparable(key, value), key
    if expected["by"] == "buildah":
        assert set(config) == set(expected["config"])


def _comparable(key: str, value: Any) -> Any:
    """Variables in any order: what counts is what a process would get. The base's PATH need not be named by hand."""
    if key != "Env":
        return value
    found = dict(text.partition("=")[::2] for text in value or ())
    return {name: text for name, text in found.items() if (name, text) != ("PATH", "/bin:/usr/bin")}
