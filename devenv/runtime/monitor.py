"""The monitor: one small process a project that forks its containers, waits for them and keeps their output.

    python -I -S -c '…; monitor.main(sys.argv[1:])' --project-run DIR --data DIR --run DIR

It decides nothing. What it knows is on disk as well (``state.json``, the logs, the pipes' names), so that it may be
killed at any moment: the containers go on, and the next monitor adopts them. It holds a lock for as long as it lives,
so there is never a second one. It goes by itself when nothing runs and nobody has been connected for a while.

``docs/monitor.md`` tells the whole of it: the processes, the messages, what happens when which of them is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from devenv import errors
from devenv.runtime import backend as backends
from devenv.runtime import clients, executions, fifo, logwriter, protocol, respawn, waiting, watched
from devenv.runtime import loop as loops
from devenv.util import fs

# Setting up a container takes 5 ms. What takes this long hangs, as a mount of a dead network filesystem does.
CREATE_SECONDS = 10
IDLE_SECONDS = 30.0
_AGAIN_SECONDS = 0.05

Reply = dict[str, Any]
Later = Callable[[Reply], None]


class Deadline(errors.ContainerError):
    """Something that takes milliseconds took far too long."""


class Monitor:
    def __init__(
        self,
        *,
        project_id: str,
        project_run: str,
        data: str,
        run: str,
        backend: backends.Backend,
        respawn_argv: list[str],
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.project_id = project_id
        self.loop = loops.Loop()
        self.containers: dict[str, watched.Container] = {}
        self._data = data
        self._run = run
        self._backend = backend
        self._idle_seconds = idle_seconds
        self._idle: loops.Timer | None = None
        self._boot_id = boot_id()
        self._server: clients.Server | None = None
        self._executions = executions.Executions(self.loop, backend, self._emit)
        self._respawner = respawn.Respawner(
            self.loop, respawn_argv, log=f"{project_run}/supervisor.log", needed=self._busy
        )
        self._ops: dict[str, Callable[[clients.Client, protocol.Packet], Reply | None]] = {
            name[4:]: getattr(self, name) for name in dir(self) if name.startswith("_op_")
        }

    def serve(self, listener: Any) -> None:
        self._server = clients.Server(self.loop, listener, on_packet=self._on_packet, on_close=self._on_close)
        self._catch_children()
        self._consider_idle()

    # -- taking over --

    def adopt_all(self, escrow: dict[str, dict[str, int]]) -> None:
        """Every container of the project that is on disk: run on with what runs, bring the rest to its end."""
        folder = f"{self._data}/containers"
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        for name in names:
            record = fs.read_json(f"{folder}/{name}/container.json")
            state = watched.read_state(f"{folder}/{name}")
            if not isinstance(record, dict) or record.get("project_id") != self.project_id:
                continue
            fs.remove_temporaries(f"{folder}/{name}/state.json")
            if state:
                try:
                    self._adopt(name, record, state, escrow.pop(name, {}))
                except Exception as exc:  # noqa: BLE001  one that is broken must not cost the others
                    backends.note(f"{name[:12]}: not adopted: {type(exc).__name__}: {exc}")
        for fds in escrow.values():
            protocol.close_all(list(fds.values()))

    def _adopt(self, name: str, record: dict[str, Any], state: dict[str, Any], escrow: dict[str, int]) -> None:
        container = self._new(name)
        container.state = state
        limits = logwriter.Limits.from_logging(record.get("logging"))
        held = escrow.pop("pidfd", -1)
        if state.get("status") == "stopped":
            if os.path.exists(f"{container.run_dir}/journal"):
                container.catch_up(limits)
            self._backend.destroy(container.folder, state)
        else:
            pid, start_time = state.get("pid"), state.get("start_time")
            same_boot = state.get("boot_id") == self._boot_id
            known = isinstance(pid, int) and isinstance(start_time, int) and same_boot
            pidfd = waiting.open_process(int(pid or 0), int(start_time or 0)) if known else None
            unstarted = state.get("status") in {"creating", "created"}
            if pidfd is not None and unstarted and self._backend.outlives_us(container.folder):
                signal_process(pidfd, signal.SIGKILL)
            if pidfd is not None and unstarted and waiting.dies(pidfd):
                os.close(pidfd)
                pidfd = None
            if pidfd is not None:
                container.adopt(pidfd, escrow, limits)
                backends.note(f"{name[:12]}: adopted, pid {pid}")
            else:
                self._bury(container, held, limits)
        protocol.close_all([held, *escrow.values()] if held >= 0 else list(escrow.values()))
        self.containers[name] = container

    def _bury(self, container: watched.Container, held: int, limits: logwriter.Limits) -> None:
        found, error = waiting.UNKNOWN, None
        if container.state.get("status") in {"creating", "created"}:
            error = "its monitor was killed before it was started"
        elif held >= 0:
            found = waiting.peek_stranger(held, pid=0, start_time=0, reaped=True) or waiting.UNKNOWN
        backends.note(f"{container.id[:12]}: had ended, exit code {found.code}")
        container.bury(found, error=error, limits=limits)

    # -- requests --

    def _on_packet(self, client: clients.Client, packet: protocol.Packet) -> None:
        message = packet.message
        seq = message.get("seq")
        try:
            operation = self._ops.get(str(message.get("op")))
            if operation is None:
                raise errors.ContainerError(f"the monitor knows no operation `{message.get('op')}`")
            reply = operation(client, packet)
        except Exception as exc:  # noqa: BLE001  whatever it is, the client hears of it and we go on
            content = protocol.error(exc)
            if content["code"] == "internal":
                backends.note(f"{message.get('op')}: {content['message']}")
            client.send({"seq": seq, "error": content})
        else:
            if reply is not None:
                fds = reply.pop("fds", ())
                client.send({"seq": seq, "ok": True, **reply}, fds)
        finally:
            protocol.close_all(packet.fds)

    def _op_hello(self, client: clients.Client, packet: protocol.Packet) -> Reply:
        client.role = str(packet.message.get("role") or "")
        if client.role == "supervisor":
            self._respawner.greeted()
        return {
            "version": protocol.VERSION,
            "pid": os.getpid(),
            "project_id": self.project_id,
            "containers": len(self.containers),
            "user_namespace": user_namespace(),
        }

    def _op_bye(self, client: clients.Client, _packet: protocol.Packet) -> Reply:
        client.said_bye = True
        return {}

    def _op_subscribe(self, client: clients.Client, packet: protocol.Packet) -> None:
        # The reply before the first event.
        client.send({"seq": packet.message.get("seq"), "ok": True})
        client.subscribed = True
        client.escrow = bool(packet.message.get("escrow"))
        if client.escrow:
            for container in self.containers.values():
                self._give_escrow(client, container)

    def _op_list(self, _client: clients.Client, _packet: protocol.Packet) -> Reply:
        return {
            "containers": {
                name: {key: container.state.get(key) for key in ("status", "pid", "exit_code", "error")}
                for name, container in self.containers.items()
            },
            "execs": self._executions.running(),
        }

    def _op_create(self, client: clients.Client, packet: protocol.Packet) -> Reply | None:
        message = packet.message
        container = self._known(message) or self._new(container_id(message))
        if container.making:
            self._again(client, packet)
            return None
        if container.alive:
            raise errors.ContainerError(
                f"container `{container.id[:12]}` is there already, {container.state['status']}"
            )
        record = fs.read_json(f"{container.folder}/container.json")
        if not isinstance(record, dict):
            raise errors.ContainerError(f"`{container.folder}` has no container.json")
        container.prepare()
        self.containers[container.id] = container
        default = "null" if not record.get("stdin_open") else "once" if record.get("oneoff") else "open"
        limits = logwriter.Limits.from_logging(record.get("logging"))
        stdio: fifo.Stdio | None = None
        try:
            container.begin(boot_id=self._boot_id, restarts=int(message.get("restarts") or 0))
            terminal = bool(record.get("tty"))
            stdio = fifo.prepare(container.run_dir, stdin=str(message.get("stdin") or default), terminal=terminal)
            made = self._make(container, stdio, terminal=terminal)
            if not isinstance(made, backends.Pending):
                return self._made(container, made, stdio, limits)
        except Exception as exc:
            self._not_made(container, stdio, exc)
            raise
        container.making = True
        pipes = stdio
        self._reply_later(
            client,
            packet,
            made,
            then=lambda created: self._made(container, created, pipes, limits),
            failed=lambda exc: self._not_made(container, pipes, exc),
        )
        return None

    def _make(self, container: watched.Container, stdio: fifo.Stdio, *, terminal: bool) -> Any:
        try:
            with deadline(CREATE_SECONDS):
                return self._backend.create(
                    container.folder,
                    container_id=container.id,
                    run_dir=container.run_dir,
                    stdio=stdio.child,
                    terminal=terminal,
                )
        except Deadline:
            raise errors.ContainerError(
                f"setting up the container took over {CREATE_SECONDS} s and was given up",
                hint="a mount that doesn't answer (a network or FUSE filesystem) is the usual reason",
            ) from None
        finally:
            protocol.close_all(stdio.child)

    def _made(self, container: watched.Container, created: Any, stdio: fifo.Stdio, limits: logwriter.Limits) -> Reply:
        container.making = False
        container.created_as(created, stdio, limits)
        self._emit("create", container.id)
        for client in tuple(self._server.clients) if self._server is not None else ():
            if client.escrow:
                self._give_escrow(client, container)
        return {"pid": container.pid, "start_time": container.state["start_time"]}

    def _not_made(self, container: watched.Container, stdio: fifo.Stdio | None, exc: Exception) -> None:
        container.making = False
        if stdio is not None and container.output is None:
            # They were nobody's yet.
            protocol.close_all(list(stdio.outputs.values()))
            if stdio.stdin_writer >= 0 and container.stdin_writer < 0:
                os.close(stdio.stdin_writer)
        text = exc.message if isinstance(exc, errors.DevenvError) else str(exc)
        container.abandon(text, getattr(exc, "container_exit_code", None))
        self._backend.destroy(container.folder, container.state)

    def _op_start(self, client: clients.Client, packet: protocol.Packet) -> Reply | None:
        container = self._living(packet.message)
        if container.created is None or container.state.get("status") != "created":
            raise errors.ContainerError(f"container `{container.id[:12]}` is {container.state['status']}, not created")
        try:
            with deadline(CREATE_SECONDS):
                pending = self._backend.start(container.created)
        except Exception as exc:
            self._not_started(container, exc)
            raise
        if pending is None:
            return self._started(container)
        container.hold()
        self._reply_later(
            client,
            packet,
            pending,
            then=lambda _: self._started(container),
            failed=lambda exc: self._not_started(container, exc),
        )
        return None

    def _started(self, container: watched.Container) -> Reply:
        pid = container.pid
        container.started()
        self._emit("start", container.id)
        container.let_go()
        return {"pid": pid}

    def _not_started(self, container: watched.Container, exc: Exception) -> None:
        container.failure = (str(exc), getattr(exc, "container_exit_code", None))
        signal_process(container.pidfd, signal.SIGKILL)
        container.let_go()
        if container.alive and waiting.dies(container.pidfd):
            container.check(loops.READ)

    def _reply_later(
        self,
        client: clients.Client,
        packet: protocol.Packet,
        pending: backends.Pending,
        *,
        then: Callable[[Any], Reply],
        failed: Callable[[Exception], None],
    ) -> None:
        """What takes a program of its own is not waited for: the answer is sent when it is there."""
        seq, descriptor = packet.message.get("seq"), pending.fileno()

        def ready(_mask: int) -> None:
            timer.cancel()
            self.loop.remove(descriptor)
            try:
                reply = then(pending.finish())
            except Exception as exc:  # noqa: BLE001  as in `_on_packet`
                failed(exc)
                client.send({"seq": seq, "error": protocol.error(exc)})
            else:
                client.send({"seq": seq, "ok": True, **reply})
            self._reap_strays()

        timer = self.loop.later(CREATE_SECONDS, pending.give_up)
        self.loop.add(descriptor, loops.READ, ready)

    def _again(self, client: clients.Client, packet: protocol.Packet) -> None:
        """Asked while it is being made, on behalf of somebody who was killed since: answered once that is decided."""
        self.loop.later(_AGAIN_SECONDS, lambda: self._on_packet(client, packet))

    def _op_kill(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        container = self._living(packet.message)
        number = self._backend.parse_signal(str(packet.message.get("signal", "SIGKILL")))
        if packet.message.get("all"):
            self._backend.kill_all(container.folder, container.state, number)
        else:
            signal_process(container.pidfd, number)
        if number == signal.SIGKILL and container.state.get("status") == "paused":
            # A frozen process of cgroup v1 doesn't die before it is thawed.
            self._backend.thaw(container.folder, container.state)
        return {}

    def _op_pause(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        return self._freeze(packet.message, wanted="running", then="paused", event="pause")

    def _op_resume(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        return self._freeze(packet.message, wanted="paused", then="running", event="unpause")

    def _freeze(self, message: protocol.Message, *, wanted: str, then: str, event: str) -> Reply:
        container = self._living(message)
        if container.state["status"] != wanted:
            raise errors.ContainerError(f"container `{container.id[:12]}` is {container.state['status']}, not {wanted}")
        change = self._backend.freeze if then == "paused" else self._backend.thaw
        change(container.folder, container.state)
        container.save(status=then)
        self._emit(event, container.id)
        return {}

    def _op_delete(self, client: clients.Client, packet: protocol.Packet) -> Reply | None:
        container = self._known(packet.message)
        if container is None:
            # Also for what this monitor has never seen: deleting twice is no error.
            fifo.remove(f"{self._run}/containers/{container_id(packet.message)}")
            return {}
        if container.making:
            self._again(client, packet)
            return None
        if not container.alive:
            self._delete(container)
            return {}
        if not packet.message.get("force"):
            raise errors.ContainerError(
                f"container `{container.id[:12]}` is {container.state['status']}", hint="stop it first, or use force"
            )
        seq = packet.message.get("seq")

        def stopped() -> None:
            self._delete(container)
            client.send({"seq": seq, "ok": True})

        container.on_stopped.append(stopped)
        signal_process(container.pidfd, signal.SIGKILL)
        if container.state.get("status") == "paused":
            self._backend.thaw(container.folder, container.state)
        return None

    def _delete(self, container: watched.Container) -> None:
        self._backend.destroy(container.folder, container.state)
        container.end_output()
        fifo.remove(container.run_dir)
        self.containers.pop(container.id, None)
        self._consider_idle()

    def _op_exec(self, client: clients.Client, packet: protocol.Packet) -> Reply:
        message = packet.message
        container = self._living(message)
        if container.state["status"] != "running":
            raise errors.ContainerError(f"container `{container.id[:12]}` is {container.state['status']}, not running")
        if len(packet.fds) != 3:
            raise errors.ContainerError(f"exec needs 3 descriptors, not {len(packet.fds)}")
        with deadline(CREATE_SECONDS):
            return self._executions.begin(
                container,
                message.get("process") or {},
                stdio=(packet.fds[0], packet.fds[1], packet.fds[2]),
                tty=bool(message.get("tty")),
                seq=message.get("seq"),
                owner=client if message.get("bound") else None,
            )

    def _op_exec_kill(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        number = self._backend.parse_signal(str(packet.message.get("signal", "SIGKILL")))
        self._executions.kill(int(packet.message.get("exec") or 0), number)
        return {}

    def _op_attach(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        """With descriptors: the first gets a copy of what comes (both streams, or stdout if there is a second)."""
        container = self._living(packet.message)
        if container.output is not None and packet.fds:
            both = ("stdout", "stderr")
            plans = [both] if len(packet.fds) == 1 else [("stdout",), ("stderr",)]
            for descriptor, streams in zip(packet.fds[:2], plans, strict=True):
                container.output.tap(os.dup(descriptor), streams)
        fds = [descriptor for descriptor in (container.terminal, container.stdin_writer) if descriptor >= 0]
        reply = {
            "tty": container.terminal >= 0,
            "stdin": fifo.path(container.run_dir, "stdin"),
            "stdin_writer": container.stdin_writer >= 0,
            # Duplicates: the reply is sent after the one of "once" has been given away.
            "fds": tuple(fds),
        }
        if container.stdin_writer >= 0:
            writer, container.stdin_writer = container.stdin_writer, -1
            self.loop.later(0, lambda: os.close(writer))
        return reply

    def _op_resize(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        container = self._living(packet.message)
        if container.terminal < 0:
            raise errors.ContainerError(f"container `{container.id[:12]}` has no terminal")
        rows, columns = int(packet.message["rows"]), int(packet.message["cols"])
        executions.set_window_size(container.terminal, rows=rows, columns=columns)
        return {}

    def _op_adopt_tty(self, _client: clients.Client, packet: protocol.Packet) -> Reply:
        container = self._living(packet.message)
        if container.terminal < 0 and packet.fds:
            container.take_terminal(os.dup(packet.fds[0]), self._limits(container))
        return {}

    def _op_shutdown(self, client: clients.Client, packet: protocol.Packet) -> None:
        running = [name for name, container in self.containers.items() if container.alive or container.making]
        if running:
            raise errors.ContainerError(f"{len(running)} containers are still there", hint="stop them first")
        client.send({"seq": packet.message.get("seq"), "ok": True})
        self.loop.stop()

    # -- the rest --

    def _emit(self, event: str, name: str, **details: Any) -> None:
        if self._server is not None:
            self._server.broadcast({"event": event, "id": name, "time": now(), **details})
        if event in {"exit", "exec_exit"}:
            self._consider_idle()

    def _give_escrow(self, client: clients.Client, container: watched.Container) -> None:
        """What a next monitor can't open by itself, for the supervisor to hold: see docs/monitor.md."""
        held = container.escrow()
        if held:
            client.send({"event": "escrow", "id": container.id, "kinds": list(held)}, tuple(held.values()))

    def _on_close(self, client: clients.Client) -> None:
        self._executions.abandon(client)
        if client.role == "supervisor":
            self._respawner.gone(said_bye=client.said_bye)
        self._consider_idle()

    def _busy(self) -> bool:
        return any(one.alive or one.making for one in self.containers.values()) or bool(self._executions.running())

    def _consider_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.later(self._idle_seconds, self._idle_over)

    def _idle_over(self) -> None:
        self._idle = None
        if not self._busy() and self._server is not None and not self._server.clients:
            backends.note("nothing runs and nobody is connected: done")
            self.loop.stop()

    def _new(self, name: str) -> watched.Container:
        return watched.Container(
            name,
            folder=f"{self._data}/containers/{name}",
            run_dir=f"{self._run}/containers/{name}",
            loop=self.loop,
            backend=self._backend,
            emit=self._emit,
        )

    def _known(self, message: protocol.Message) -> watched.Container | None:
        return self.containers.get(container_id(message))

    def _living(self, message: protocol.Message) -> watched.Container:
        container = self._known(message)
        if container is None:
            raise errors.ContainerError(f"there is no container `{container_id(message)[:12]}`")
        if not container.alive:
            raise errors.ContainerError(f"container `{container.id[:12]}` is not running")
        return container

    def _limits(self, container: watched.Container) -> logwriter.Limits:
        record = fs.read_json(f"{container.folder}/container.json")
        return logwriter.Limits.from_logging(record.get("logging") if isinstance(record, dict) else None)

    def _catch_children(self) -> None:
        """As a subreaper we inherit what containers and execs leave behind; each must be waited for by someone."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

        def woken(_mask: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
            self._reap_strays()

        self.loop.add(reader, loops.READ, woken)

    def _reap_strays(self) -> None:
        for _ in range(1000):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            container = next((c for c in self.containers.values() if c.alive and c.pid == found.si_pid), None)
            if container is not None:
                container.check(loops.READ)
                if container.alive:
                    return  # it can't be told yet how it ended; its pidfd says when
            elif not self._executions.check_pid(found.si_pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)


def container_id(message: protocol.Message) -> str:
    """It becomes part of a path."""
    name = message.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= 128 or not name.replace("-", "").replace("_", "").isalnum():
        raise errors.ContainerError(f"`{name}` is no container id")
    return name


def signal_process(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def user_namespace() -> int:
    return os.stat("/proc/self/ns/user").st_ino


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def now() -> float:
    return time.time()


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise ``Deadline`` in the middle of whatever system call waits. A forked child doesn't inherit the timer."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Deadline(f"given up after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again: what the failure does to clean up may wait as well.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: list[str]) -> None:
    from devenv.runtime import monitor_main

    sys.exit(monitor_main.run(arguments))
