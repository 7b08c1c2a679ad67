"""Contexts from the web and from standard input."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from devenv import errors
from devenv.build import fetch, git, remote


def archive(mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as packed:  # type: ignore[call-overload]
        for name in ("Dockerfile", "sub/file"):
            info = tarfile.TarInfo(name)
            info.size, info.uid = 4, 4242
            packed.addfile(info, io.BytesIO(b"text"))
    return out.getvalue()


def opened(tmp_path: Path, text: str) -> remote.Context:
    fetcher = fetch.Fetcher(str(tmp_path / "data"), {})
    try:
        return remote.opened(text, fetcher=fetcher, repositories=git.Repositories(str(tmp_path / "data"), {}))
    finally:
        fetcher.close()


def test_an_archive_on_the_web(tmp_path: Path, address: str) -> None:
    (tmp_path / "web" / "context").write_bytes(archive())
    first, again = (opened(tmp_path, f"{address}/context") for _ in range(2))
    assert first == again
    assert first.dockerfile is None
    assert (Path(first.folder) / "sub" / "file").read_text() == "text"
    assert (Path(first.folder) / "sub" / "file").stat().st_uid == os.geteuid()
    (tmp_path / "web" / "context").write_bytes(archive("w"))
    assert opened(tmp_path, f"{address}/context").key != first.key


def test_a_dockerfile_on_the_web(tmp_path: Path, address: str) -> None:
    (tmp_path / "web" / "any").write_text("FROM scratch\n")
    found = opened(tmp_path, f"{address}/any")
    assert (found.folder, found.dockerfile) == ("", "FROM scratch\n")


def test_what_is_neither(tmp_path: Path, address: str) -> None:
    (tmp_path / "web" / "any").write_bytes(b"\0\1")
    with pytest.raises(errors.BuildError, match="neither an archive nor a Dockerfile"):
        opened(tmp_path, f"{address}/any")


def _written(file: int, data: bytes) -> None:
    with open(file, "wb") as out:
        out.write(data)


@pytest.mark.parametrize("data", [archive(), archive("w"), archive("w:xz"), b"FROM scratch\n"])
def test_standard_input(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "received"
    folder.mkdir()
    read, write = os.pipe()
    writer = threading.Thread(target=_written, args=(write, data))
    writer.start()
    try:
        found = remote.received(read, str(folder))
    finally:
        writer.join()
        os.close(read)
    if data.startswith(b"FROM"):
        assert (found.folder, found.dockerfile) == ("", "FROM scratch\n")
        assert os.listdir(folder) == []
    else:
        assert sorted(os.listdir(found.folder)) == ["Dockerfile", "sub"]


def test_what_is_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "git@host:x").mkdir()
    names = ["-", "http://a/b", "https://a/b.git", "git@other:x", "github.com/a/b", "git@host:x", ".", "none"]
    assert [remote.is_remote(name) for name in names] == [True] * 5 + [False] * 3
