"""``registry serve``: a registry with TLS and a login, as a teammate uses it, by the lines that it prints."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import socket

import pytest

from tests import ocilayout
from tests.support import distribution, machine, runner
from tests.support.polling import eventually

pytestmark = [
    pytest.mark.root,
    distribution.needed,
    machine.needs_binary("openssl"),
]


def provide(devenv: runner.Devenv) -> dict[str, str]:
    """An environment in which the program is found by whoever may not enter this checkout."""
    program = distribution.program()
    assert program is not None
    folder = pathlib.Path(devenv.folder, "bin")
    folder.mkdir()
    shutil.copy(program, folder)
    return {"PATH": f"{folder}:{devenv.environment()['PATH']}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def load(devenv: runner.Devenv, name: str) -> str:
    layout = pathlib.Path(devenv.folder, "layout")
    ocilayout.write_layout(layout, layers=[{"etc": ocilayout.folder(), "etc/a": "one\n"}], config={"Cmd": ["sh"]})
    devenv("image", "load", "-i", str(layout))
    found: str = devenv("image", "ls", "-q", "--no-trunc").stdout.strip()
    devenv("image", "tag", found, name)
    return found


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_with_tls_and_a_login(anyone: runner.Devenv) -> None:
    port, home = free_port(), f"{anyone.folder}/home"
    anyone.env = provide(anyone) | {"HOME": home}
    registry = f"127.0.0.1:{port}"
    served = anyone.start("registry", "serve", "--listen", registry, "--self-signed", "--user", "team")
    try:
        assert served.stdout is not None
        # The registry's own log comes in between.
        lines = ""
        certificate = password = None
        while certificate is None or password is None:
            line = served.stdout.readline()
            assert line, lines
            lines += line
            certificate = certificate or re.search(r"copy (\S+) to", lines)
            password = password or re.search(r"password: (\S+)", lines)
        place = pathlib.Path(home, ".config/devenv/certs.d", registry)
        place.mkdir(parents=True)
        shutil.copy(certificate[1], place / "ca.crt")
        if anyone.user is not None:
            for path in (pathlib.Path(home), *pathlib.Path(home).rglob("*")):
                shutil.chown(path, anyone.user.uid, anyone.user.uid)
        image = load(anyone, f"{registry}/app:1")
        assert "401" in anyone("image", "push", f"{registry}/app:1", code=4).stderr
        anyone("registry", "login", registry, "-u", "team", "--password-stdin", input=password[1])
        anyone("image", "push", f"{registry}/app:1")
        anyone("image", "rm", image, "-f")
        anyone("image", "pull", f"{registry}/app:1")
        assert anyone("image", "ls", "-q", "--no-trunc").stdout.strip() == image
        again = anyone("registry", "serve", "--listen", registry, code=2).stderr
        assert "being served already" in again
        served.send_signal(signal.SIGINT)
        assert served.wait(30) == 130
    finally:
        served.terminate()
        served.communicate()


def test_it_needs_tls_where_others_listen(devenv: runner.Devenv) -> None:
    devenv.env = provide(devenv)
    said = devenv("registry", "serve", "--listen", "0.0.0.0:5000", "--user", "team", code=2).stderr
    assert "takes TLS" in said
    assert "--self-signed" in said
    assert not pathlib.Path(devenv.data, "registry").exists()


def test_without_a_program_the_line_to_install_one(devenv: runner.Devenv, tmp_path: pathlib.Path) -> None:
    assert "apt-get install docker-registry" in devenv("registry", "serve", env={"PATH": str(tmp_path)}, code=3).stderr


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_in_the_background(anyone: runner.Devenv) -> None:
    """It outlives its terminal, is found again after a crash, and goes on as before."""
    port, home = free_port(), f"{anyone.folder}/home"
    anyone.env = provide(anyone) | {"HOME": home}
    registry = f"127.0.0.1:{port}"
    assert "no registry is served" in anyone("registry", "stop", code=2).stderr
    told = anyone("registry", "serve", "-d", "--listen", registry).stdout
    try:
        assert f"devenv image push {registry}/IMAGE" in told
        load(anyone, f"{registry}/app:1")
        anyone("image", "push", f"{registry}/app:1")
        assert shown(anyone) == f"{registry} running no no"
        assert "runs already" in anyone("registry", "serve", "-d").stderr
        assert "being served already" in anyone("registry", "serve", "-d", "--user", "x", code=2).stderr
        assert "being served already" in anyone("registry", "serve", code=2).stderr
        pid = int(anyone("registry", "ls", "--format", "{{.Pid}}").stdout)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: shown(anyone) == f"{registry} exited no no", 30)
        anyone("registry", "serve", "-d")
        assert shown(anyone) == f"{registry} running no no"
        anyone("image", "pull", f"{registry}/app:1")
    finally:
        assert anyone("registry", "stop", registry).stdout == f"{registry}\n"
    assert shown(anyone) == ""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)


def test_what_does_not_start_in_the_background_says_why(devenv: runner.Devenv) -> None:
    devenv.env = provide(devenv)
    folder = pathlib.Path(devenv.folder, "registry")
    folder.mkdir()
    (folder / "images").write_text("no folder")
    (folder / "htpasswd").write_text("x")
    (folder / "log").write_text("of last year\n")
    port = free_port()
    bad = [
        "--listen",
        f"127.0.0.1:{port}",
        "--tls-cert",
        str(folder / "htpasswd"),
        "--tls-key",
        str(folder / "htpasswd"),
    ]
    said = devenv("registry", "serve", "-d", "--data", str(folder), *bad, code=3).stderr
    assert f"does not serve `127.0.0.1:{port}`" in said
    assert "note: " in said
    assert "of last year" not in said
    assert shown(devenv) == ""
    with socket.create_server(("127.0.0.1", port)):
        said = devenv("registry", "serve", "-d", "--listen", f"127.0.0.1:{port}", code=3).stderr
    assert "somebody else listens" in said


def shown(devenv: runner.Devenv) -> str:
    return devenv("registry", "ls", "--format", "{{.Name}} {{.Status}} {{.TLS}} {{.Login}}").stdout.strip()
