"""What a Dockerfile takes from elsewhere: files and repositories of a web server, archives, fetched contexts."""

from __future__ import annotations

import functools
import http.server
import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator

import pytest

from devenv import errors
from devenv.build import content, progress, request
from tests.support import building

pytestmark = pytest.mark.root

if shutil.which("git") is None:
    pytest.skip("git(1) is not here", allow_module_level=True)


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/private") and self.headers.get("Authorization") != "Bearer token":
            self.send_error(401)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Web:
    def __init__(self, folder: pathlib.Path, address: str) -> None:
        self.folder = folder
        self.address = address

    def repository(self, name: str, **files: str) -> str:
        """A commit more."""
        work, bare = self.folder.with_name(f"{name}.work"), self.folder / f"{name}.git"
        work.mkdir(exist_ok=True)
        for path, text in files.items():
            (work / path).write_text(text)
        identity = "-c user.name=a -c user.email=a@b"
        script = f"""git init -q -b main; git add -A; git {identity} commit -qm x
            git push -q {bare} main; git -C {bare} update-server-info"""
        if not bare.exists():
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare], check=True)
        subprocess.run(["sh", "-ec", script], cwd=work, check=True)
        return f"{self.address}/{name}.git"


@pytest.fixture
def web(short_path: pathlib.Path) -> Iterator[Web]:
    folder = short_path / "web"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Web(folder, f"http://127.0.0.1:{listening.server_address[1]}")
        listening.shutdown()
        thread.join()


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def read(built: building.Built, folder: pathlib.Path, path: str) -> str:
    return (built.unpacked(folder) / path).read_text()


def test_files_and_archives(builder: building.Builder, web: Web, short_path: pathlib.Path) -> None:
    (web.folder / "file.txt").write_text("one")
    (web.folder / "a.tgz").write_bytes(archive(inner="2"))
    builder.write({"local.tgz": archive(inside="3")})
    dockerfile = f"""FROM scratch
ADD {web.address}/file.txt {web.address}/a.tgz local.tgz /x/
"""
    built = builder.build(dockerfile)
    x = built.unpacked(short_path / "out") / "x"
    assert sorted(os.listdir(x)) == ["a.tgz", "file.txt", "inside"]
    assert oct((x / "file.txt").stat().st_mode & 0o777) == "0o600"
    assert f"{web.address}/file.txt" in built.history[-1]
    builder.build(dockerfile)
    assert builder.said(progress.State.CACHED)
    (web.folder / "file.txt").write_text("another")
    assert read(builder.build(dockerfile), short_path / "again", "x/file.txt") == "another"


def test_unpack_says_which_archives_are(builder: building.Builder, web: Web, short_path: pathlib.Path) -> None:
    (web.folder / "a.tgz").write_bytes(archive(inner="2"))
    builder.write({"local.tgz": archive(inside="3")})
    built = builder.build(f"""FROM scratch
ADD --unpack=true {web.address}/a.tgz /x/
ADD --unpack=false local.tgz /x/
""")
    folders = [built.look(f"/x/{name}") is not None for name in ("inner", "a.tgz")]
    assert folders == [True, False]
    assert built.look("/x/local.tgz") is not None


def test_a_checksum_that_is_not_met_is_told_with_its_line(builder: building.Builder, web: Web) -> None:
    (web.folder / "file").write_text("one")
    with pytest.raises(errors.BuildError, match="is not what its checksum says") as caught:
        builder.build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {web.address}/file /\n")
    assert caught.value.line == 2
    with pytest.raises(errors.BuildError, match="`--checksum` is for one source") as caught:
        builder.build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} local /\n")
    assert caught.value.line == 2


def test_a_secret_opens_what_is_private(builder: building.Builder, web: Web, short_path: pathlib.Path) -> None:
    (web.folder / "private").write_text("one")
    dockerfile = f"FROM scratch\nADD {web.address}/private /\n"
    with pytest.raises(errors.BuildError, match="the server answers 401"):
        builder.build(dockerfile)
    secrets = (request.Secret("HTTP_AUTH_TOKEN_127.0.0.1", value=b"token"),)
    assert read(builder.build(dockerfile, secrets=secrets), short_path / "out", "private") == "one"


def test_a_repository(builder: building.Builder, web: Web, short_path: pathlib.Path) -> None:
    address = web.repository("app", file="one")
    dockerfile = f"FROM scratch\nADD {address}#main /x\nADD --keep-git-dir {address} /kept\n"
    environ = {"PATH": os.environ["PATH"]}
    built = builder.build(dockerfile, environ=environ)
    out = built.unpacked(short_path / "out")
    assert [os.path.exists(out / path) for path in ("kept/file", "kept/.git/HEAD")] == [True, True]
    assert built.look("/x/file") is not None
    assert built.look("/x/.git") is None
    builder.build(dockerfile, environ=environ)
    assert len(builder.said(progress.State.CACHED)) == 2
    web.repository("app", file="two")
    assert read(builder.build(dockerfile, environ=environ), short_path / "again", "kept/file") == "two"


def test_contexts_that_are_fetched(builder: building.Builder, web: Web, short_path: pathlib.Path) -> None:
    address = web.repository("app", Dockerfile="FROM scratch\nCOPY . /x\n", file="one", **{".dockerignore": "Docker*"})
    (web.folder / "context").write_bytes(archive(Dockerfile="FROM scratch\nCOPY --from=other a /\n"))
    (web.folder / "other.tar").write_bytes(archive(a="named"))
    (web.folder / "Dockerfile").write_text("FROM scratch\nCOPY <<EOF /only\ntext\nEOF\n")
    environ = {"PATH": os.environ["PATH"]}

    def build(context: str, **more: object) -> building.Built:
        return builder.solve(request.Request(context=context, environ=environ, **more))[0]  # type: ignore[arg-type]

    repository = build(address)
    assert repository.look("/x/file") is not None
    assert repository.look("/x/Dockerfile") is None
    other = build(f"{web.address}/context", contexts={"other": f"{web.address}/other.tar"})
    assert read(other, short_path / "out", "a") == "named"
    assert read(build(f"{web.address}/Dockerfile"), short_path / "only", "only") == "text\n"


def test_an_agent_made_of_the_requests_keys_serves_git(builder: building.Builder, short_path: pathlib.Path) -> None:
    """A program in ssh's place asks the agent that it was given for its keys."""
    if shutil.which("ssh-agent") is None:
        pytest.skip("ssh-agent(1) is not here")
    programs = short_path / "programs"
    programs.mkdir()
    script = (
        f'#!/bin/sh\n/usr/bin/env ssh-add -l > {programs}/keys\necho "Permission denied (publickey)." >&2; exit 255\n'
    )
    (programs / "ssh").write_text(script)
    (programs / "ssh").chmod(0o755)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "our key", "-f", programs / "key"], check=True)
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
    ssh = (request.Agent("default", (str(programs / "key"),)),)
    with pytest.raises(errors.BuildError, match="Permission denied") as caught:
        builder.build("FROM scratch\nADD git@example.com:app.git /x\n", environ=environ, ssh=ssh)
    assert caught.value.hint == "give an agent with a key: --ssh default"
    assert "our key" in (programs / "keys").read_text()
    assert not [name for name in os.listdir(builder.where.run) if name.startswith("git-agent")]


@pytest.mark.parametrize("often", [1, 99])
def test_a_file_that_is_written_meanwhile(
    builder: building.Builder, short_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, often: int
) -> None:
    """What is built is what the cache says: the step looks again, and gives up on a file that never rests."""
    builder.write({"file": "0"})
    original = content.copy
    written: list[int] = []

    def copy(source: int, target: int, status: os.stat_result) -> int:
        if len(written) < often:
            written.append(1)
            builder.write({"file": str(len(written))})
        return original(source, target, status)

    monkeypatch.setattr("devenv.build.content.copy", copy)
    dockerfile = "FROM scratch\nCOPY file /\n"
    if often > 1:
        with pytest.raises(errors.BuildError, match="`file` was changed while it was copied") as caught:
            builder.build(dockerfile)
        assert (caught.value.line, len(written)) == (2, 3)
    else:
        assert read(builder.build(dockerfile), short_path / "out", "file") == "1"
        builder.build(dockerfile)
        assert builder.said(progress.State.CACHED) == ["COPY file /"]
