"""The specification's hooks: programs at six points of a container's life, each with the state on its standard input.

prestart, createRuntime   by us, in our namespaces, when the container's are made and its mounts stand
createContainer           by the container's first process, in its namespaces, before pivot_root(2)
startContainer            by it, after pivot_root, just before the container's program
poststart                 by us, once the program runs
poststop                  by us, once the container is deleted
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.linux import descriptors
from devenv.linux import process as linux_process

NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def run(
    config: dict[str, Any],
    name: str,
    state: dict[str, Any],
    *,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run them in their order, in the bundle's folder; the first that fails ends it. Raises ``ContainerError``.

    ``env`` is what those have that are given no environment.
    """
    for number, hook in enumerate((config.get("hooks") or {}).get(name) or []):
        what = f"{name} hook #{number}: `{hook['path']}`"
        given = hook.get("env")
        if given is None:
            own = os.environ if env is None else env
        else:
            own = dict(each.partition("=")[::2] for each in given)
        _one(what, hook, json.dumps(state).encode(), str(state.get("bundle") or "/"), own)


def _one(what: str, hook: dict[str, Any], state: bytes, folder: str, env: Mapping[str, str]) -> None:
    timeout = hook.get("timeout")
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become(hook, read, folder, env)
    os.close(read)
    pidfd = os.pidfd_open(child)
    deadline = time.monotonic() + timeout if timeout is not None else None
    try:
        _feed(write, pidfd, state, deadline)
        if not _wait(pidfd, deadline):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise errors.ContainerError(f"error running {what} took longer than {timeout} s")
    finally:
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        how = f"exit status {code}" if code > 0 else f"signal {-code}"
        raise errors.ContainerError(f"error running {what} ended with {how}")


def _become(hook: dict[str, Any], standard_input: int, folder: str, env: Mapping[str, str]) -> None:
    """In the child. Only what a hook is to have: the state, our output, and no descriptor else."""
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(standard_input, 0)
        if os.path.isdir(folder):
            os.chdir(folder)
        linux_process.close_range(3, 0xFFFFFFFF)
        descriptors.give_back()
        os.execve(hook["path"], list(hook.get("args") or [hook["path"]]), env)
    except BaseException as exc:  # noqa: BLE001  nothing may unwind into the caller's code
        os.write(2, f"{hook['path']}: {exc}\n".encode())
    os._exit(127)


def _feed(pipe: int, pidfd: int, state: bytes, deadline: float | None) -> None:
    """A hook that doesn't read its input must not hold us."""
    os.set_blocking(pipe, False)
    previous = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    poll.register(pidfd, select.POLLIN)
    left = memoryview(state)
    try:
        while left:
            ready = dict(poll.poll(_left(deadline)))
            if not ready or pidfd in ready:
                return
            left = left[os.write(pipe, left) :]
    except BrokenPipeError:
        pass
    finally:
        signal.signal(signal.SIGPIPE, previous)
        os.close(pipe)


def _wait(pidfd: int, deadline: float | None) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(_left(deadline)))


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
