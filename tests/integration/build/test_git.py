"""Git sources, from git's own daemon on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from devenv import errors
from devenv.build import git, gitaddress

if shutil.which("git") is None or not os.path.exists("/usr/lib/git-core/git-daemon"):
    pytest.skip("git(1) and its daemon are not here", allow_module_level=True)

_IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_COMMITTER_DATE": "1600000000 +0000",
    "GIT_AUTHOR_DATE": "1600000000 +0000",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "HOME": os.devnull,
    "PATH": os.environ["PATH"],
}


def run(where: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=where, env=_IDENTITY, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Remote(NamedTuple):
    path: Path
    address: str  # of the folder that the repositories are in

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run(self.path, "add", "-A")
        run(self.path, "commit", "-qm", "message")
        return run(self.path, "rev-parse", "HEAD")


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    path = tmp_path / "served" / "app.git"
    path.mkdir(parents=True)
    run(path, "init", "-q", "-b", "main")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["/usr/lib/git-core/git-daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all"]
    daemon = subprocess.Popen(
        [*words, f"--base-path={tmp_path / 'served'}", str(tmp_path / "served")],
        env={**_IDENTITY, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
    )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.01)
        yield Remote(path, f"git://127.0.0.1:{port}")
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.fixture
def repositories(tmp_path: Path) -> git.Repositories:
    return git.Repositories(str(tmp_path / "data"), {"PATH": os.environ["PATH"]})


def address(text: str) -> gitaddress.Address:
    found = gitaddress.parse(text)
    assert found is not None
    return found


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if ".git/" not in str(path))


def test_branches_tags_and_commits(remote: Remote, repositories: git.Repositories) -> None:
    first = remote.commit(a="1", sub__b="2")
    run(remote.path, "tag", "light")
    run(remote.path, "tag", "-a", "-m", "x", "heavy")
    run(remote.path, "checkout", "-qb", "feature/x")
    second = remote.commit(c="3")
    run(remote.path, "checkout", "-q", "main")
    base = f"{remote.address}/app.git"
    expected = {
        base: first,
        f"{base}#main": first,
        f"{base}#light": first,
        f"{base}#heavy": first,
        f"{base}?tag=heavy": first,
        f"{base}#refs/tags/light": first,
        f"{base}#feature/x": second,
        f"{base}?branch=feature/x": second,
        f"{base}#{second}": second,
    }
    found = {text: repositories.checkout(address(text), repositories.resolve(address(text))) for text in expected}
    assert {text: each.commit for text, each in found.items()} == expected
    assert len({each.folder for each in found.values()}) == 2
    assert files(found[base].folder) == ["a", "sub", "sub/b"]
    assert files(found[f"{base}#feature/x"].folder) == ["a", "c", "sub", "sub/b"]


def test_modes_and_links(remote: Remote, repositories: git.Repositories) -> None:
    remote.commit(a="1")
    (remote.path / "run").write_text("#!/bin/sh\n")
    (remote.path / "run").chmod(0o755)
    (remote.path / "link").symlink_to("/etc/passwd")
    remote.commit()
    where = address(f"{remote.address}/app.git")
    before = os.umask(0o077)
    try:
        folder = repositories.checkout(where, repositories.resolve(where)).folder
    finally:
        os.umask(before)
    assert [oct(os.lstat(f"{folder}/{name}").st_mode & 0o777) for name in ("a", "run")] == ["0o644", "0o755"]
    assert os.readlink(f"{folder}/link") == "/etc/passwd"


def test_a_branch_that_moves(remote: Remote, repositories: git.Repositories) -> None:
    where = address(f"{remote.address}/app.git#main")
    remote.commit(a="1")
    old = repositories.resolve(where)
    remote.commit(a="2")
    new = repositories.resolve(where)
    assert old.commit != new.commit
    # What was resolved is what comes, though the branch has moved on meanwhile.
    contents = [Path(repositories.checkout(where, each).folder, "a").read_text() for each in (old, new)]
    assert contents == ["1", "2"]


def test_a_checkout_that_is_here_asks_nobody(remote: Remote, repositories: git.Repositories) -> None:
    commit = remote.commit(a="1")
    where = address(f"{remote.address}/app.git#{commit}")
    first = repositories.checkout(where, repositories.resolve(where))
    remote.path.rename(remote.path.with_name("gone"))
    assert repositories.checkout(where, repositories.resolve(where)) == first


def test_checksums(remote: Remote, repositories: git.Repositories) -> None:
    commit = remote.commit(a="1")
    base = f"{remote.address}/app.git"
    assert repositories.resolve(address(f"{base}?checksum={commit[:10]}")).commit == commit
    with pytest.raises(errors.BuildError, match=f"has the commit {commit} and not abcdef"):
        repositories.resolve(address(f"{base}?checksum=abcdef"))
    with pytest.raises(errors.BuildError, match="is no commit"):
        repositories.resolve(address(f"{base}?checksum=main"))


def test_a_folder_of_it(remote: Remote, repositories: git.Repositories) -> None:
    (remote.path / "link").symlink_to("sub")
    remote.commit(sub__deep__x="1")
    where = address(f"{remote.address}/app.git#:sub/deep")
    assert files(repositories.checkout(where, repositories.resolve(where)).folder) == ["x"]
    for folder in ("link/deep", "none"):
        where = address(f"{remote.address}/app.git#main:{folder}")
        with pytest.raises(errors.BuildError, match=f"has no folder `{folder}`"):
            repositories.checkout(where, repositories.resolve(where))


def test_the_git_folder_is_kept_on_demand(remote: Remote, repositories: git.Repositories) -> None:
    commit = remote.commit(a="1")
    where = address(f"{remote.address}/app.git")
    resolved = repositories.resolve(where)
    plain = repositories.checkout(where, resolved)
    kept = repositories.checkout(where, resolved, keep_git_dir=True)
    assert plain.key != kept.key
    assert not os.path.exists(f"{plain.folder}/.git")
    assert run(Path(kept.folder), "-c", "safe.directory=*", "rev-parse", "HEAD", "main") == f"{commit}\n{commit}"
    assert run(Path(kept.folder), "remote", "get-url", "origin") == where.remote


def test_submodules(remote: Remote, repositories: git.Repositories) -> None:
    library = Remote(remote.path.with_name("library.git"), remote.address)
    library.path.mkdir()
    run(library.path, "init", "-q", "-b", "main")
    library.commit(lib="1")
    remote.commit(a="1")
    run(remote.path, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "vendor")
    run(remote.path, "config", "-f", ".gitmodules", "submodule.vendor.url", "../library.git")
    remote.commit()
    base = f"{remote.address}/app.git"
    found = [
        repositories.checkout(address(text), repositories.resolve(address(text))).folder
        for text in (base, f"{base}?submodules=false", f"{base}?keep-git-dir=true")
    ]
    assert [name for name in files(found[0]) if "vendor" in name] == ["vendor", "vendor/lib"]
    assert [name for name in files(found[1]) if "vendor" in name] == ["vendor"]
    assert [name for name in files(found[2]) if "vendor" in name] == ["vendor", "vendor/.git", "vendor/lib"]


def test_a_submodule_is_never_of_this_machine(remote: Remote, repositories: git.Repositories) -> None:
    library = Remote(remote.path.parent.with_name("private"), remote.address)
    library.path.mkdir()
    run(library.path, "init", "-q", "-b", "main")
    library.commit(secret="1")
    remote.commit(a="1")
    words = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"file://{library.path}", "vendor"]
    run(remote.path, *words)
    remote.commit()
    where = address(f"{remote.address}/app.git")
    with pytest.raises(errors.BuildError, match="transport 'file' not allowed"):
        repositories.checkout(where, repositories.resolve(where))


def test_times_of_the_commit(remote: Remote, repositories: git.Repositories) -> None:
    remote.commit(a="1", sub__b="2")
    where = address(f"{remote.address}/app.git?mtime=commit")
    folder = repositories.checkout(where, repositories.resolve(where)).folder
    assert {os.stat(f"{folder}/{name}").st_mtime for name in ("", "a", "sub", "sub/b")} == {1600000000.0}


def test_what_is_not_there(remote: Remote, repositories: git.Repositories) -> None:
    remote.commit(a="1")
    with pytest.raises(errors.BuildError, match="has no branch and no tag `none`"):
        repositories.resolve(address(f"{remote.address}/app.git#none"))
    with pytest.raises(errors.BuildError, match="git says:"):
        repositories.resolve(address(f"{remote.address}/none.git"))
    where = address(f"{remote.address}/app.git#{'0' * 39}1")
    with pytest.raises(errors.BuildError, match=r"does not have the commit|git says:"):
        repositories.checkout(where, repositories.resolve(where))


def test_secrets_are_in_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in git's place tells what it was given."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" > "$0.words"\nenv > "$0.environ"\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/home/of/the/user")
    made = git.Repositories(
        str(tmp_path / "data"),
        {"PATH": f"{fake.parent}:/usr/bin:/bin", "GIT_DIR": "/evil", "https_proxy": "http://p"},
        secret={"GIT_AUTH_TOKEN": b"token"}.get,
        agent="/agent",
    )
    with pytest.raises(errors.BuildError):
        made.resolve(address("https://example.com/x.git"))
    environ = dict(line.split("=", 1) for line in fake.with_suffix(".environ").read_text().splitlines())
    assert "token" not in fake.with_suffix(".words").read_text()
    assert "Authorization: basic eC1hY2Nlc3MtdG9rZW46dG9rZW4=" in environ.values()
    assert "http.https://example.com/x.git.extraHeader" in environ.values()
    assert (environ["SSH_AUTH_SOCK"], environ["https_proxy"], environ["GIT_CONFIG_GLOBAL"]) == (
        "/agent",
        "http://p",
        os.devnull,
    )
    assert "GIT_DIR" not in environ
