"""What the monitor and a container's first process say to each other, over one SOCK_SEQPACKET pair.

    monitor                     child A                      child B, to be the container's init
       | fork -------------------> |                              |
       |                           | joins cgroups                |
       | <------------------ USER -+ (with a user namespace of its own only)
       | MAPPED -----------------> | its ids are mapped           |
       |                           | joins, unshares              |
       |                           | fork ----------------------> |
       | <---------------- PID n --+ _exit                        |
       |  (waits for A; B is now the monitor's own child, because the monitor is a subreaper)
       | GO ----------------------------------------------------> |  dies with the monitor from now on
       |                                                          |  mounts
       | <----------------------------------------------- HOOKS --+  (if there are any, or devices to be given)
       | PASSED + state ----------------------------------------> |  ours have run, now its own
       |                                                          |  pivots, sets itself up
       | <------------------------------- READY [+ pty's master] -+
       |                                                          |  waits: `create` is done
       | START -------------------------------------------------> |  drops its rights
       | <--------------------------------- LISTENER + descriptor +  (only where its seccomp policy notifies)
       | <------------------------- end of file: it has executed -+

Where whoever creates doesn't stay (`devenv runtime create`), B waits at a listening socket instead, the *gate*: `start`
connects to it, and that connection is the wire from then on. Nobody can connect any more once B has executed, which is
how one tells "created" from "running".

Either child may say FAILED instead, with the step and the errno; then it is gone. A message out of turn is an error
that names both.
"""

from __future__ import annotations

import array
import json
import os
import socket
from enum import Enum
from typing import Any, NamedTuple

from devenv import errors

_LONGEST = 65536  # bytes of a message
_TOLD = 4096  # characters of an error's text


class Word(Enum):
    USER = "user"
    MAPPED = "mapped"
    PID = "pid"
    GO = "go"
    HOOKS = "hooks"
    PASSED = "passed"
    READY = "ready"
    START = "start"
    LISTENER = "listener"
    FAILED = "failed"


class Message(NamedTuple):
    word: Word
    values: dict[str, Any]
    fds: tuple[int, ...] = ()


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def say(to: socket.socket, word: Word, *, fds: tuple[int, ...] = (), **values: Any) -> None:
    data = json.dumps({"word": word.value, **values}).encode()
    if len(data) > _LONGEST:
        # Never cut: half a message may mean something else (CVE-2021-43784).
        raise errors.ContainerError(f"the container's configuration is too large: {len(data)} bytes in `{word.value}`")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    to.sendmsg([data], ancillary)


def hear(at: socket.socket) -> Message | None:
    """None at the end of file."""
    data, ancillary, _, _ = at.recvmsg(_LONGEST, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload)
    if not data:
        return None
    values = json.loads(data)
    return Message(Word(values.pop("word")), values, tuple(numbers))


def expect(at: socket.socket, *words: Word) -> Message:
    """Raises ``ContainerError`` for what the child could not do, and for anything else than one of ``words``."""
    wanted = "` or `".join(word.value for word in words)
    message = hear(at)
    if message is None:
        raise errors.ContainerError(f"the container's first process died before `{wanted}`")
    if message.word is Word.FAILED:
        raise failure(message.values)
    if message.word not in words:
        raise errors.ContainerError(f"the container said `{message.word.value}` where `{wanted}` was expected")
    return message


class CommandError(errors.ContainerError):
    """The command itself can't be run; ``container_exit_code`` is what a shell would say: 127 or 126."""

    code = "command"

    def __init__(self, message: str, *, hint: str | None = None, container_exit_code: int = 126) -> None:
        super().__init__(message, hint=hint)
        self.container_exit_code = container_exit_code


def failure(values: dict[str, Any]) -> errors.ContainerError:
    """The error of a FAILED message."""
    if "message" in values:
        return errors.ContainerError(values["message"], hint=values.get("hint"))
    number, doing = int(values.get("errno") or 0), str(values.get("doing") or "setting it up")
    if "command" in values:
        return _command_failure(values["command"], number, half=bool(values.get("half")))
    # The kernel's words for the number, or our own where they would not say enough.
    return errors.ContainerError(f"{doing}: {values.get('reason') or os.strerror(number)}" if number else doing)


def _command_failure(command: str, number: int, *, half: bool) -> errors.ContainerError:
    missing = number in {2, 20}  # ENOENT, ENOTDIR
    where = "the container" if "/" in command else "the container's PATH"
    # podman tells from these words what to exit with.
    text = f"exec `{command}`: {os.strerror(number).lower()}"
    if missing:
        text = f"`{command}`: executable file not found in {where}: no such file or directory"
    hint = None
    if half:
        text = f"exec {command}: no such file or directory"
        hint = "it is there, but the interpreter or the loader that it names is not"
    elif number == 13:
        hint = "it is not executable, or its file system forbids it: `chmod +x` it in the image"
    elif number == 8:
        hint = "it is no program for this machine; a script needs a first line as `#!/bin/sh`"
    return CommandError(text, hint=hint, container_exit_code=127 if missing else 126)


def confess(to: socket.socket, exc: BaseException) -> None:
    """In a child: say what went wrong, as well as can be told without importing anything."""
    if isinstance(exc, errors.DevenvError):
        say(to, Word.FAILED, message=exc.message[:_TOLD], hint=exc.hint)
    elif isinstance(exc, OSError):
        doing, reason = str(exc.filename or "setting the container up")[:_TOLD], (exc.strerror or str(exc))[:_TOLD]
        say(to, Word.FAILED, errno=exc.errno or 5, reason=reason, doing=doing)
    else:
        say(to, Word.FAILED, message=f"{type(exc).__name__}: {exc}"[:_TOLD])
