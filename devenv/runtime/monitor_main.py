"""The monitor's beginning: from its command line to its loop."""

from __future__ import annotations

import gc
import os
import signal
import sys

from devenv.linux import descriptors, process
from devenv.runtime import backend as backends
from devenv.runtime import monitor, protocol
from devenv.util import lock, sockets

READY = b"ready\n"
HELD = b"held\n"  # another monitor has the lock


class Options:
    def __init__(self, arguments: list[str]) -> None:
        self.project_run = self.data = self.run = ""
        self.respawn: list[str] = []
        self.escrow: dict[str, dict[str, int]] = {}
        self.ready_fd = -1
        self.idle_seconds = monitor.IDLE_SECONDS
        import json

        values = iter(arguments)
        for name in values:
            value = next(values, "")
            if name == "--project-run":
                self.project_run = value
            elif name == "--data":
                self.data = value
            elif name == "--run":
                self.run = value
            elif name == "--respawn-supervisor":
                self.respawn = [str(word) for word in json.loads(value)]
            elif name == "--escrow":
                self.escrow = json.loads(value)
            elif name == "--ready-fd":
                self.ready_fd = int(value)
            elif name == "--idle-seconds":
                self.idle_seconds = float(value)
            else:
                raise SystemExit(f"monitor: unknown option {name}")
        if not (self.project_run and self.data and self.run):
            raise SystemExit("monitor: --project-run, --data and --run are needed")


def run(arguments: list[str], backend: backends.Backend | None = None) -> int:
    options = Options(arguments)
    for descriptor in (options.ready_fd, *(fd for fds in options.escrow.values() for fd in fds.values())):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    _daemonise(options)
    os.makedirs(options.project_run, mode=0o700, exist_ok=True)
    held = lock.acquire(f"{options.project_run}/monitor.lock", wait=False)
    if held is None:
        _tell(options, HELD)
        return 0
    # A child on its way to be a container must not keep the lock of a monitor that was killed meanwhile.
    locks = [held]
    os.register_at_fork(after_in_child=lambda: protocol.close_all([locks.pop()] if locks else []))
    os.umask(0o022)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    descriptors.raise_limit()  # five for each container
    if backend is None:
        from devenv.runtime import backend_runtime, cgroup

        cgroup.keep(f"{options.project_run}/cgroups.json")
        backend = backend_runtime.Runtime()
    listener = sockets.listen(f"{options.project_run}/monitor.sock", kind=protocol.KIND)
    watch = monitor.Monitor(
        project_id=os.path.basename(options.project_run),
        project_run=options.project_run,
        data=options.data,
        run=options.run,
        backend=backend,
        respawn_argv=options.respawn,
        idle_seconds=options.idle_seconds,
    )
    watch.adopt_all(options.escrow)
    watch.serve(listener)
    # What is there now stays for good: the collector need not look at it, nor a fork copy its pages.
    gc.freeze()
    backends.note(f"monitor {os.getpid()} of {watch.project_id}: {len(watch.containers)} containers")
    _tell(options, READY)
    watch.loop.run()
    os.unlink(f"{options.project_run}/monitor.sock")
    return 0


def _daemonise(options: Options) -> None:
    """A session of its own, no terminal, its messages in monitor.log; nobody has to wait for it."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(f"{options.project_run}/monitor.log", flags, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _tell(options: Options, word: bytes) -> None:
    if options.ready_fd < 0:
        return
    try:
        os.write(options.ready_fd, word)
    except OSError:
        pass  # whoever started us has gone
    os.close(options.ready_fd)
