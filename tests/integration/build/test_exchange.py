"""A cache for other machines: in a folder, with what cache mounts hold if that was asked for."""

from __future__ import annotations

import pathlib

import pytest

from devenv.build import progress, request
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

DOCKERFILE = """\
FROM base AS one
COPY a /a
RUN --mount=type=cache,target=/c echo kept >> /c/n; cat /a > /b
FROM base
COPY --from=one /b /b
RUN --mount=type=cache,target=/c wc -l < /c/n; date > /now
"""


def _machine(folder: pathlib.Path, name: str) -> building.Builder:
    (folder / name).mkdir()
    made = building.Builder(folder / name)
    made.write({"a": "1"})
    return made


def _built(made: building.Builder, **more: object) -> building.Built:
    return made.build(DOCKERFILE, contexts={"base": f"oci-layout://{made.folder}/busybox"}, **more)


def test_another_machine_starts_warm(tmp_path: pathlib.Path) -> None:
    one, two = _machine(tmp_path, "one"), _machine(tmp_path, "two")
    to = request.Exchange("local", {"dest": f"{tmp_path}/cache", "mounts": "true"})
    first = _built(one, cache_to=(to,))

    again = _built(two, cache_from=(request.Exchange("local", {"src": f"{tmp_path}/cache"}),))

    assert two.said(progress.State.STARTED) == []
    assert again.diff_ids == first.diff_ids
    assert again.result.id == first.result.id
    assert (again.unpacked(tmp_path / "unpacked") / "now").exists()
    _built(two, no_cache=True)
    assert two.output == "2\n"


def test_a_cache_that_is_not_there_is_no_error(tmp_path: pathlib.Path) -> None:
    made = _machine(tmp_path, "one")

    _built(made, cache_from=(request.Exchange("local", {"src": f"{tmp_path}/nothing"}),))

    assert [each.text for each in made.steps if each.state is progress.State.WARNING]


def test_a_cache_that_was_tampered_with_is_not_believed(tmp_path: pathlib.Path) -> None:
    one, two = _machine(tmp_path, "one"), _machine(tmp_path, "two")
    _built(one, cache_to=(request.Exchange("local", {"dest": f"{tmp_path}/cache"}),))
    for path in (tmp_path / "cache/blobs/sha256").iterdir():
        data = path.read_bytes()
        if not data.startswith(b"{"):
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    built = _built(two, cache_from=(request.Exchange("local", {"src": f"{tmp_path}/cache"}),))

    assert built.read("/b") == "1"
    assert built.result.cached == 0
