"""Which folder has which host port."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devenv.network import allotment
from devenv.util import fs, identity, paths


@pytest.fixture
def where(tmp_path: Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield int(one.getsockname()[1])


def folder(tmp_path: Path, name: str) -> identity.Project:
    (tmp_path / name).mkdir(exist_ok=True)
    return identity.project("shop", str(tmp_path / name))


def ask(port: int, key: str = "web/80/0") -> allotment.Ask:
    return allotment.Ask(key, "tcp", "127.0.0.1", port)


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_the_first_folder_has_the_port_and_the_second_another(where: paths.Paths, tmp_path: Path) -> None:
    port = free()
    one, two = folder(tmp_path, "one"), folder(tmp_path, "two")
    assert allotment.allot(where, one, [ask(port)]) == [port]
    (other,) = allotment.allot(where, two, [ask(port)])
    assert allotment.FIRST <= other <= allotment.LAST
    # Both keep what they have, in whatever order they ask.
    assert allotment.allot(where, two, [ask(port)]) == [other]
    assert allotment.allot(where, one, [ask(port)]) == [port]


def test_what_a_stranger_listens_on_is_left_to_it(where: paths.Paths, tmp_path: Path, taken: int) -> None:
    (other,) = allotment.allot(where, folder(tmp_path, "one"), [ask(taken)])
    assert other != taken


def test_what_listens_for_the_project_itself_is_not_a_strangers(where: paths.Paths, tmp_path: Path, taken: int) -> None:
    one = folder(tmp_path, "one")
    Path(where.project_run(one.id)).mkdir(parents=True)
    publication = {"target": 80, "first": taken, "last": taken, "host_ip": "127.0.0.1", "protocol": "tcp"}
    fs.write_json(
        f"{where.project_run(one.id)}/ports.json",
        [{"key": "", "container": "c", "publication": publication, "port": taken}],
    )
    assert allotment.allot(where, one, [ask(taken)]) == [taken]


def test_a_folder_that_is_gone_gives_its_ports_back(where: paths.Paths, tmp_path: Path) -> None:
    port = free()
    assert allotment.allot(where, folder(tmp_path, "one"), [ask(port)]) == [port]
    (tmp_path / "one").rmdir()
    assert allotment.allot(where, folder(tmp_path, "two"), [ask(port)]) == [port]


def test_without_the_file_the_same_port_is_found_again(where: paths.Paths, tmp_path: Path, taken: int) -> None:
    one = folder(tmp_path, "one")
    before = allotment.allot(where, one, [ask(taken), ask(0, "api/80/0")])
    assert len(set(before)) == 2
    Path(where.data, "ports.json").write_text("rubbish")
    assert allotment.allot(where, one, [ask(taken), ask(0, "api/80/0")]) == before


def test_protocols_have_ports_of_their_own(where: paths.Paths, tmp_path: Path) -> None:
    port = free()
    one = folder(tmp_path, "one")
    asks = [ask(port), allotment.Ask("dns/53/0", "udp", "127.0.0.1", port)]
    assert allotment.allot(where, one, asks) == [port, port]
    assert sorted(json.loads(Path(where.data, "ports.json").read_text())) == [f"tcp/{port}", f"udp/{port}"]
