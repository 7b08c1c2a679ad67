"""A registry for a team that has none: an existing program, run with a configuration that is made here.

    <folder>/config.yml    made anew at each start
    <folder>/htpasswd      the logins of `--user`
    <folder>/tls/          the certificate of `--self-signed`, and its key
    <folder>/images/       what was pushed
    <folder>/log           what it says in the background

Beyond this machine only TLS is spoken: without it a login could be read on its way, and devenv would send none.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.image.registry import addresses
from devenv.linux import crypt

PROGRAMS = ("docker-registry", "registry")
DAYS = 825  # what the strictest clients take
PATIENCE = 60.0


class Served(NamedTuple):
    folder: str
    host: str  # to listen on
    port: int
    htpasswd: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def local(self) -> bool:
        return addresses.is_loopback(self.host)


def listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`, with an IPv6 address in brackets. Raises ``UsageError``."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise errors.UsageError(f"`--listen {text}` is no ADDRESS:PORT", hint="such as 0.0.0.0:5000")
    return host, int(port)


def program() -> str:
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise errors.HostError("no program is here that serves a registry", hint="sudo apt-get install docker-registry")
    return found


@contextlib.contextmanager
def claimed(folder: str) -> Iterator[int]:
    """Makes it, for its owner alone, and keeps others from serving it, as long as anybody has the descriptor."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "name another with `--data`, or `devenv registry stop`"
            raise errors.UsageError(f"`{folder}` is being served already", hint=hint) from None
        yield held
    finally:
        os.close(held)


def add_user(folder: str, user: str, password: str) -> None:
    """In place of what that user had before. Raises ``HostError`` where there is no bcrypt."""
    if not user or ":" in user or not user.isprintable():
        raise errors.UsageError(f"`{user}` is no name for a login")
    hashed = crypt.bcrypt(password)
    if hashed is None:
        raise errors.HostError(
            "this machine's C library has no bcrypt", hint=f"htpasswd -B -c FILE {user}, and then `--htpasswd FILE`"
        )
    others = [line for line in _logins(folder) if line.partition(":")[0] != user]
    _write(f"{folder}/htpasswd", "".join(f"{line}\n" for line in [*others, f"{user}:{hashed}"]))


def knows(folder: str, user: str) -> bool:
    return any(line.partition(":")[0] == user for line in _logins(folder))


def _logins(folder: str) -> list[str]:
    try:
        with open(f"{folder}/htpasswd", encoding="utf-8") as file:
            return [line for line in file.read().splitlines() if line]
    except FileNotFoundError:
        return []


def certificate(folder: str, name: str) -> tuple[str, str]:
    """One that vouches for itself, made by openssl(1) once for each name. Raises ``HostError``."""
    made = f"{folder}/tls/{name}.crt", f"{folder}/tls/{name}.key"
    if all(os.path.exists(path) for path in made):
        return made
    if shutil.which("openssl") is None:
        raise errors.HostError("`--self-signed` needs openssl", hint="sudo apt-get install openssl")
    os.makedirs(f"{folder}/tls", mode=0o700, exist_ok=True)
    try:
        kind = f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        kind = f"DNS:{name}"
    settings = f"{folder}/tls/openssl.cnf"
    _write(
        settings,
        "[req]\nprompt=no\ndistinguished_name=who\nx509_extensions=what\n[who]\nCN=devenv registry\n[what]\n"
        f"subjectAltName={kind},DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=critical,CA:TRUE\n"
        "keyUsage=critical,digitalSignature,keyCertSign\nextendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\n",
    )
    kinds = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(DAYS)]
    arguments = ["openssl", "req", "-x509", "-config", settings, *kinds, "-out", made[0], "-keyout", made[1]]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise errors.HostError("openssl made no certificate", note=done.stderr.strip())
    return made


def configuration(wanted: Served) -> dict[str, Any]:
    address = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    http: dict[str, Any] = {"addr": f"{address}:{wanted.port}", "secret": secrets.token_hex(16)}
    if wanted.certificate:
        http["tls"] = {"certificate": wanted.certificate, "key": wanted.key}
    made: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},  # each 401 that asks for a login is a warning
        "storage": {"filesystem": {"rootdirectory": f"{wanted.folder}/images"}, "delete": {"enabled": True}},
        "http": http,
    }
    if wanted.htpasswd:
        made["auth"] = {"htpasswd": {"realm": "devenv", "path": wanted.htpasswd}}
    return made


@contextlib.contextmanager
def running(wanted: Served) -> Iterator[subprocess.Popen[bytes]]:
    """Answers when this yields, and ends with us. What it has to say goes to stderr. Raises ``HostError`` if it doesn't
    start."""
    process = _start(wanted, ["setpriv", "--pdeathsig", "TERM", "--"], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def detached(wanted: Served, held: int) -> int:
    """The same in the background; its pid. ``held`` is the claim to the folder, which from now on ends with it."""
    path = f"{wanted.folder}/log"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as log:
        begin = os.fstat(log.fileno()).st_size
        try:
            return _start(wanted, [], stdout=log, stderr=log, pass_fds=(held,)).pid
        except errors.HostError as exc:
            with open(path, "rb") as written:
                written.seek(begin)
                said = written.read(4096).decode(errors="replace").strip()
            raise errors.HostError(exc.message, hint=exc.hint, note=said or None) from exc


def _start(wanted: Served, before: list[str], **more: Any) -> subprocess.Popen[bytes]:
    found = program()
    if _answers(wanted):
        raise errors.HostError(f"somebody else listens on `{wanted.host}:{wanted.port}`")
    path = f"{wanted.folder}/config.yml"
    _write(path, json.dumps(configuration(wanted), indent=1))  # JSON is YAML
    # What is configured by REGISTRY_… in the environment would win.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    command = [*before, found, "serve", path]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environ, cwd="/", start_new_session=True, **more)
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(wanted):
            if process.poll() is not None or time.monotonic() > until:
                raise errors.HostError(f"`{found}` does not serve `{wanted.host}:{wanted.port}`")
            time.sleep(0.05)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process


def _answers(wanted: Served) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(wanted.host, wanted.host)
    with contextlib.suppress(OSError), socket.create_connection((host, wanted.port), 1):
        return True
    return False


def _write(path: str, text: str) -> None:
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    os.rename(temporary, path)
