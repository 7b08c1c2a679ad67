"""The process that forks a build's containers: a fresh interpreter, standard library only, single-threaded.

    builder ── SOCK_SEQPACKET ──▶ runner ─┬─ a step's init (own namespaces)
              ◀── exit codes ──           └─ …

It lives as long as its builder: when the connection ends, everything is killed and it goes. Requests are ``create``
(with the step's three streams), ``start``, ``kill`` and ``sweep``, each answered once; ``exit`` comes by itself.
Nothing is kept on disk: a step that lost its builder is worth nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
from typing import Any

from devenv.build import place
from devenv.linux import process
from devenv.runtime import bundle, cgroup, container, protocol, userspace


class _Step:
    def __init__(self, name: str, created: container.Created, path: str) -> None:
        self.name = name
        self.created = created
        self.path = path  # of its cgroup
        self.pidfd = os.pidfd_open(created.pid)
        self.waits = True  # for START


class Runner:
    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._spaces = userspace.Spaces()
        self._steps: dict[str, _Step] = {}
        self._ready = selectors.DefaultSelector()
        self._ready.register(wire, selectors.EVENT_READ, None)

    def run(self) -> None:
        while True:
            for key, _ in self._ready.select():
                if key.data is not None:
                    self._ended(key.data)
                elif not self._asked():
                    self._end_all()
                    return

    def _asked(self) -> bool:
        try:
            packet = protocol.receive(self._wire)
        except (ConnectionError, protocol.ProtocolError):
            return False
        if packet is None:
            return False
        name = str(packet.message["id"])
        reply: dict[str, Any] = {"id": name, "op": packet.message["op"]}
        try:
            reply |= getattr(self, f"_op_{packet.message['op']}")(name, packet)
        except Exception as exc:  # noqa: BLE001  whatever it is, the builder hears of it and we go on
            reply["error"] = protocol.error(exc)
        finally:
            protocol.close_all(packet.fds)
        return self._say(reply)

    def _say(self, message: dict[str, Any]) -> bool:
        try:
            protocol.send(self._wire, protocol.encode(message))
        except OSError:
            return False  # seen at once when it is read from
        return True

    # -- requests -------------------------------------------------------------------------------------------------

    def _op_create(self, name: str, packet: protocol.Packet) -> dict[str, Any]:
        folder = str(packet.message["folder"])
        config = bundle.load(folder, name=name)
        stdin, stdout, stderr = packet.fds
        created = container.create(
            folder, config, container_id=name, stdio=(stdin, stdout, stderr), spaces=self._spaces
        )
        step = _Step(name, created, config["linux"]["cgroupsPath"])
        self._steps[name] = step
        self._ready.register(step.pidfd, selectors.EVENT_READ, step)
        return {"pid": created.pid, "start_time": created.start_time}

    def _op_start(self, name: str, _packet: protocol.Packet) -> dict[str, Any]:
        step = self._steps[name]
        step.waits = False
        try:
            container.start(step.created)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(step.created.pid, signal.SIGKILL)
            raise
        return {}

    def _op_kill(self, name: str, _packet: protocol.Packet) -> dict[str, Any]:
        step = self._steps.get(name)
        if step is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(step.pidfd, signal.SIGKILL)
        return {}

    def _op_sweep(self, name: str, _packet: protocol.Packet) -> dict[str, Any]:
        cgroup.destroy(place.of_cgroup(name))
        return {}

    # -- ends -----------------------------------------------------------------------------------------------------

    def _ended(self, step: _Step) -> None:
        self._ready.unregister(step.pidfd)
        _, status = os.waitpid(step.created.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        out_of_memory = self._bury(step)
        self._say({"id": step.name, "op": "exit", "code": code if code >= 0 else 128 - code, "oom": out_of_memory})

    def _bury(self, step: _Step) -> bool:
        del self._steps[step.name]
        os.close(step.pidfd)
        if step.waits:
            os.close(step.created.start_fd)
        out_of_memory = cgroup.oom_kills(step.path) > 0
        try:
            cgroup.destroy(step.path)
        except OSError as exc:
            sys.stderr.write(f"the cgroup of step {step.name[:12]} stays: {exc}\n")
        return out_of_memory

    def _end_all(self) -> None:
        for step in list(self._steps.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(step.created.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(step.created.pid, 0)
            self._bury(step)


def main(arguments: list[str]) -> None:
    wire = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(wire.fileno(), False)
    # The terminal's Ctrl-C is the builder's to act upon.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o022)
    # One place for all builders, whichever session each was started from: one clears up after the other.
    cgroup.keep(arguments[1])
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    gc.freeze()
    Runner(wire).run()
