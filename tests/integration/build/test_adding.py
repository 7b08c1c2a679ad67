"""ADD's sources that are fetched, both from one web server: a file, and a repository by git's plain protocol."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devenv import errors
from devenv.build import adding, fetch, git, transfer

pytestmark = pytest.mark.root

if shutil.which("git") is None:
    pytest.skip("git(1) is not here", allow_module_level=True)


Find = Callable[..., adding.Sources]


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Find]:
    data, environ = str(tmp_path / "data"), {"PATH": os.environ["PATH"]}
    fetcher = fetch.Fetcher(data, environ)
    yield functools.partial(adding.sources, fetcher=fetcher, repositories=git.Repositories(data, environ))
    fetcher.close()


@pytest.fixture
def repository(tmp_path: Path, address: str) -> str:
    work, bare = tmp_path / "work", tmp_path / "web" / "app.git"
    (work / "sub").mkdir(parents=True)
    (work / "sub" / "file").write_text("1")
    (work / "note.md").write_text("2")
    script = f"""git init -q -b main && git add -A && git -c user.name=a -c user.email=a@b commit -qm x
        git clone -q --bare . {bare} && git -C {bare} update-server-info"""
    subprocess.run(["sh", "-ec", script], cwd=work, check=True)
    return f"{address}/app.git"


def put(source: adding.Source, image: Path, target: str, **options: object) -> list[str]:
    image.mkdir()
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    chosen = source.selection(**options)  # type: ignore[arg-type]
    assert chosen.tree is not None
    with chosen.tree:
        transfer.copy(chosen, root, target)
    os.close(root)
    return sorted(str(path.relative_to(image)) for path in image.rglob("*") if ".git/" not in str(path))


def test_kinds_are_told_apart(find: Find) -> None:
    found = find(["a", "http://a/b", "https://a/b.git", "c.git", "git@a:b"])
    assert found.local == ("a", "c.git")
    assert [type(each).__name__ for each in found.remote] == ["_File", "_Repository", "_Repository"]


def test_a_file(tmp_path: Path, address: str, find: Find) -> None:
    (tmp_path / "web" / "[a]*.tar").write_text("x")
    (source,) = find([f"{address}/%5Ba%5D*.tar"]).remote
    key = source.key()
    assert put(source, tmp_path / "image", "/x/") == ["x", "x/[a]*.tar"]
    assert oct((tmp_path / "image/x/[a]*.tar").stat().st_mode & 0o777) == "0o600"
    (tmp_path / "web" / "[a]*.tar").write_text("other")
    assert find([f"{address}/%5Ba%5D*.tar"]).remote[0].key() != key


def test_a_repository(tmp_path: Path, repository: str, find: Find) -> None:
    (source,) = find([repository]).remote
    (kept,) = find([repository], keep_git_dir=True).remote
    (part,) = find([f"{repository}#main:sub"]).remote
    assert len({source.key(), kept.key(), part.key()}) == 3
    assert not (tmp_path / "data" / "build" / "git").exists()  # a key is only asked for
    assert put(source, tmp_path / "one", "/x", excludes=["*.md"]) == ["x", "x/sub", "x/sub/file"]
    assert put(kept, tmp_path / "two", "/x") == ["x", "x/.git", "x/note.md", "x/sub", "x/sub/file"]
    assert put(part, tmp_path / "three", "/x/") == ["x", "x/file"]


def test_checksums(repository: str, find: Find) -> None:
    (source,) = find([repository], checksum="0123").remote
    with pytest.raises(errors.BuildError, match="and not 0123"):
        source.key()
    with pytest.raises(errors.BuildError, match="asks for the commit 4567"):
        find([f"{repository}?checksum=4567"], checksum="0123")
    with pytest.raises(errors.BuildError, match="`--checksum` is for one source"):
        find(["local"], checksum="0123")
