"""``--ssh``: an agent of the user's, reached from within a step by a socket of its own.

The step's user has no right to the user's socket, and the machine's shall not have to be opened for it. So bytes are
carried between the two, for as long as the step runs. From key files an agent is made, and ended with the step.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping

from devenv import errors
from devenv.build import request
from devenv.util import sockets

CHUNK = 1 << 16


@contextlib.contextmanager
def forwarded(agent: request.Agent, path: str, *, environ: Mapping[str, str]) -> Iterator[None]:
    """A socket at ``path`` that leads to the agent. Raises ``BuildError``."""
    with contextlib.ExitStack() as held:
        target = _socket_of(agent, environ) or held.enter_context(_made(agent, f"{path}.agent", environ))
        listener = held.enter_context(sockets.listen(path))
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        held.callback(os.close, stop)
        thread = threading.Thread(target=_serve, args=(listener, target, stop), name="ssh agent", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(stop, 1)
            thread.join()


@contextlib.contextmanager
def reached(agent: request.Agent, path: str, *, environ: Mapping[str, str]) -> Iterator[str]:
    """The agent's own socket, for a program of ours; one that has to be made listens at ``path``. Raises
    ``BuildError``."""
    with contextlib.ExitStack() as held:
        yield _socket_of(agent, environ) or held.enter_context(_made(agent, path, environ))


def _socket_of(agent: request.Agent, environ: Mapping[str, str]) -> str:
    """Of an agent that runs; "" if there are keys to make one of."""
    if not agent.paths:
        found = environ.get("SSH_AUTH_SOCK", "")
        if not found:
            raise errors.BuildError(
                f"`--ssh {agent.id}` needs an agent, and SSH_AUTH_SOCK names none", hint="eval $(ssh-agent); ssh-add"
            )
        return found
    try:
        is_socket = len(agent.paths) == 1 and stat.S_ISSOCK(os.stat(agent.paths[0]).st_mode)
    except OSError as exc:
        raise errors.BuildError(f"`--ssh {agent.id}`: `{agent.paths[0]}`: {exc.strerror}") from exc
    return agent.paths[0] if is_socket else ""


@contextlib.contextmanager
def _made(agent: request.Agent, path: str, environ: Mapping[str, str]) -> Iterator[str]:
    try:
        process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as exc:
        raise errors.HostError(
            "keys for `--ssh` need ssh-agent, which isn't here", hint="apt install openssh-client"
        ) from exc
    try:
        with process:
            try:
                _add_keys(agent, path, environ)
                yield path
            finally:
                process.terminate()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _add_keys(agent: request.Agent, path: str, environ: Mapping[str, str]) -> None:
    for _ in range(200):
        done = subprocess.run(
            ["ssh-add", *agent.paths],
            env={**environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        if done.returncode != 2:  # 2: the agent doesn't listen yet (ssh-add(1))
            raise errors.BuildError(f"`--ssh {agent.id}`: {done.stderr.strip()}")
    raise errors.BuildError(f"`--ssh {agent.id}`: its agent doesn't start")


def _serve(listener: socket.socket, target: str, stop: int) -> None:
    with selectors.DefaultSelector() as ready, contextlib.ExitStack() as held:
        ready.register(listener, selectors.EVENT_READ, None)
        ready.register(stop, selectors.EVENT_READ, None)
        while True:
            for key, _ in ready.select():
                if key.fd == stop:
                    return
                if key.data is None:
                    _join(ready, held, listener.accept()[0], target)
                else:
                    _carry(ready, *key.data)


def _join(ready: selectors.BaseSelector, held: contextlib.ExitStack, client: socket.socket, target: str) -> None:
    held.enter_context(client)
    try:
        agent = sockets.connect(target)
    except OSError:
        client.close()
        return
    held.enter_context(agent)
    ready.register(client, selectors.EVENT_READ, (client, agent))
    ready.register(agent, selectors.EVENT_READ, (agent, client))


def _carry(ready: selectors.BaseSelector, one: socket.socket, other: socket.socket) -> None:
    try:
        data = one.recv(CHUNK)
        if data:
            other.sendall(data)
            return
    except OSError:
        pass
    for each in (one, other):
        with contextlib.suppress(KeyError, ValueError):
            ready.unregister(each)
        each.close()
