"""The project's own network namespace, for engines that run in a user namespace.

    host's namespace            project's namespace                     container's
    engine, port proxy          holder (sleeps), bridges, nftables       eth0
    pasta or slirp4netns ──tap── eth0/tap0 ── masquerade ── dv-…  ──veth── eth0

A user namespace may not add a bridge to the machine's network, so bridges live in a namespace that a tiny process
holds: it has to outlive the supervisor and to be found again by the next one, from ``<run>/projects/<id>/netns.json``.
Outbound traffic goes through a program that turns packets into ordinary sockets of the user's, when one is installed.
Nothing in here touches the machine's own network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import netns
from devenv.util import fs, identity

TUN = "/dev/net/tun"
PATIENCE = 10.0


class Process(NamedTuple):
    pid: int
    start_time: int  # clock ticks since boot: a pid alone proves nothing

    def alive(self) -> bool:
        return self.pid > 0 and identity.process_start_time(self.pid) == self.start_time


class Outbound(NamedTuple):
    """How packets leave the project; ``program`` is empty and ``note`` says why when they can't."""

    program: str
    process: Process
    note: str
    host: str = ""  # the address that leads to this machine itself, once that is asked for


class Holder(NamedTuple):
    process: Process
    outbound: Outbound

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"


NOBODY = Process(0, 0)


def in_user_namespace() -> bool:
    """Whether this process is in another user namespace than the machine's first one: user_namespaces(7)."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read().split() != [b"0", b"0", b"4294967295"]
    except FileNotFoundError:
        return False


def load(project_run: str) -> Holder | None:
    data = fs.read_json(f"{project_run}/netns.json")
    try:
        outbound = data["outbound"]
        return Holder(
            Process(data["pid"], data["start_time"]),
            Outbound(
                outbound["program"],
                Process(outbound["pid"], outbound["start_time"]),
                outbound["note"],
                outbound.get("host") or "",
            ),
        )
    except (KeyError, TypeError):
        return None


def _save(project_run: str, holder: Holder) -> None:
    outbound = holder.outbound
    data: dict[str, Any] = {
        **holder.process._asdict(),
        "outbound": {
            **outbound.process._asdict(),
            "program": outbound.program,
            "note": outbound.note,
            "host": outbound.host,
        },
    }
    os.makedirs(project_run, mode=0o700, exist_ok=True)
    fs.write_json(f"{project_run}/netns.json", data)


def ensure(project_run: str, spawn: Callable[[], Process], *, host: bool = False) -> Holder:
    """The project's namespace, held and with a way out; ``spawn`` starts a holder in it when there is none.

    ``host``: with a way to the machine itself, too. One that has been opened stays: the way out is begun anew for it.
    Called in a thread that stands in the host's namespace, which the way out is started in.
    """
    holder = load(project_run)
    if holder is None or not holder.process.alive():
        if holder is not None:
            _end(holder.outbound.process)
        process = spawn()
        # Written before the way out is tried: a crash in between must not leave a holder that nobody knows.
        holder = Holder(process, Outbound("", NOBODY, ""))
        _save(project_run, holder)
        holder = holder._replace(outbound=_connect(project_run, process, host=host))
        _save(project_run, holder)
    elif holder.outbound.program:
        opens = host and not holder.outbound.host
        if opens:
            _end(holder.outbound.process)
        if opens or not holder.outbound.process.alive():
            host = host or bool(holder.outbound.host)
            holder = holder._replace(outbound=_connect(project_run, holder.process, host=host))
            _save(project_run, holder)
    return holder


def spawn_in_new_namespace() -> Process:
    """A holder in a namespace of its own. The thread that makes it ends with it: there is no way back for it."""
    made: list[Process | BaseException] = []

    def run() -> None:
        try:
            netns.unshare()
            made.append(spawn_here())
        except BaseException as exc:  # noqa: BLE001 - handed to the caller
            made.append(exc)

    thread = threading.Thread(target=run, name="holder")
    thread.start()
    thread.join()
    if isinstance(made[0], BaseException):
        raise errors.NetworkError(
            f"can't make a network namespace: {made[0]}",
            hint="check that `user.max_net_namespaces` is not 0 (`sysctl user.max_net_namespaces`)",
        ) from made[0]
    return made[0]


def spawn_here() -> Process:
    """A holder in the calling thread's network namespace: a process inherits that of the thread that forks it."""
    program = shutil.which("sleep") or "/bin/sleep"
    return _started([program, "infinity"])


def _started(argv: Sequence[str], *, pass_fds: Sequence[int] = (), log: int = subprocess.DEVNULL) -> Process:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )
    # Its own session is all it shares with us; the object would warn that it was never waited for.
    process.returncode = 0
    started = identity.process_start_time(process.pid)
    return Process(process.pid, started or 0)


def _connect(project_run: str, holder: Process, *, host: bool) -> Outbound:
    """Start the way out, or say in one sentence why there is none."""
    found = shutil.which("pasta") or shutil.which("slirp4netns")
    if found is None:
        return Outbound(
            "",
            NOBODY,
            "services can't reach the outside: neither `pasta` nor `slirp4netns` is installed (`apt install passt`)",
        )
    if not os.access(TUN, os.R_OK | os.W_OK):
        return Outbound(
            "",
            NOBODY,
            f"services can't reach the outside: `{TUN}` can't be opened (as root: `chmod 0666 {TUN}`)",
        )
    name = os.path.basename(found)
    try:
        if name == "pasta":
            return _pasta(found, project_run, holder, host=host)
        return _slirp4netns(found, holder, host=host)
    except (OSError, subprocess.SubprocessError) as exc:
        detail = getattr(exc, "stderr", None) or str(exc)
        text = detail.decode(errors="replace") if isinstance(detail, bytes) else detail
        reason = text.strip().splitlines()[-1] if text.strip() else "no reason given"
        return Outbound("", NOBODY, f"services can't reach the outside: `{name}` failed: {reason}")


def _pasta(program: str, project_run: str, holder: Process, *, host: bool) -> Outbound:
    pid_file = f"{project_run}/pasta.pid"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pid_file)
    # It goes to the background by itself once the namespace is configured, so its end is the sign of success.
    # Ports are the port proxy's business, so it forwards none; nor does it lead to the host, unless that is asked for:
    # by an address of its own, and before passt of 2024-08 by the gateway's, which means the host's loopback.
    arguments = ["--config-net", "--quiet", "--netns-only", "--no-netns-quit"]
    maps = host and "--map-guest-addr" in _help(program)
    arguments += ["--map-guest-addr", _HOST] if maps else []
    arguments += [] if host and not maps else ["--no-map-gw"]
    arguments += ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    with open(f"/proc/{holder.pid}/ns/net", "rb") as namespace:
        # It gives up CAP_SYS_PTRACE before it opens the namespace, and then may not look into /proc/PID of a process
        # with more capabilities than its own. Its standard input is the one descriptor that it leaves open.
        subprocess.run(
            [program, *arguments, "--pid", pid_file, "--netns", "/proc/self/fd/0"],
            stdin=namespace,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=True,
            cwd="/",
        )
    with open(pid_file, encoding="ascii") as file:
        pid = int(file.read())
    way = _HOST if maps else _gateway(holder) if host else ""
    return Outbound("pasta", Process(pid, identity.process_start_time(pid) or 0), "", way)


# Link-local, so that it hides nobody's.
_HOST = "169.254.1.2"


def _help(program: str) -> str:
    done = subprocess.run([program, "--help"], capture_output=True, timeout=PATIENCE, check=False, cwd="/")
    return (done.stdout + done.stderr).decode(errors="replace")


def _gateway(holder: Process) -> str:
    """Where the default route of the holder's namespace leads: proc_net(5), route."""
    with open(f"/proc/{holder.pid}/net/route", encoding="ascii") as file:
        for line in file.read().splitlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000" and fields[7] == "00000000":
                return socket.inet_ntoa(int(fields[2], 16).to_bytes(4, sys.byteorder))
    return ""


def _slirp4netns(program: str, holder: Process, *, host: bool) -> Outbound:
    ready, child = os.pipe()
    try:
        arguments = ["--configure", "--mtu=65520", f"--ready-fd={child}"]
        arguments += [] if host else ["--disable-host-loopback"]
        argv = [program, *arguments, "--netns-type=path", f"/proc/{holder.pid}/ns/net", "tap0"]
        process = _started(argv, pass_fds=(child,))
        os.close(child)
        child = -1
        if os.read(ready, 1) != b"1":
            raise OSError(0, "it ended before its tap device was up")
    finally:
        os.close(ready)
        if child >= 0:
            os.close(child)
    return Outbound("slirp4netns", process, "", "10.0.2.2" if host else "")


def end(project_run: str) -> None:
    """Let the namespace go, with all that is in it."""
    holder = load(project_run)
    if holder is not None:
        _end(holder.outbound.process)
        _end(holder.process)
    for name in ("netns.json", "pasta.pid"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{project_run}/{name}")


def _end(process: Process) -> None:
    if not process.alive():
        return
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process.pid)
        try:
            # Once more: the number may have been handed on before the descriptor was had.
            if process.alive():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    deadline = time.monotonic() + PATIENCE
    while process.alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    # If it is a child of ours, it stays a zombie until somebody asks.
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(process.pid, os.WNOHANG)
