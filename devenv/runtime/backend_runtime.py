"""The real runtime, as the monitor needs it: ``container``, ``exec`` and ``cgroup`` behind ``backend.Backend``."""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

from devenv import errors
from devenv.runtime import backend, bundle, cgroup, container, exec, foreign, joining, signals, userspace
from devenv.util import fs


class Runtime:
    def __init__(self) -> None:
        # `start` closes the wire; a second close could hit what has got its number since.
        self._wires: set[int] = set()
        self._spaces = userspace.Spaces()

    def create(
        self, folder: str, *, container_id: str, run_dir: str, stdio: tuple[int, int, int], terminal: bool
    ) -> container.Created | foreign.Pending:
        config = bundle.load(folder, name=container_id[:12])
        if foreign.named(config):
            return foreign.create(foreign.place(config, folder), config, stdio=stdio)
        made = container.create(folder, config, container_id=container_id, stdio=stdio, spaces=self._spaces)
        self._wires.add(made.start_fd)
        return made

    def start(self, created: Any) -> foreign.Pending | None:
        if isinstance(created, foreign.Created):
            return foreign.start(created.place)
        self._wires.discard(created.start_fd)
        container.start(created)
        return None

    def outlives_us(self, folder: str) -> bool:
        return _facts(folder).place is not None

    def forget(self, created: Any) -> None:
        if isinstance(created, foreign.Created):
            return
        if created.start_fd in self._wires:
            self._wires.discard(created.start_fd)
            os.close(created.start_fd)

    def execute(
        self, folder: str, values: dict[str, Any], process: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool
    ) -> backend.Executed:
        config = bundle.load(folder, name=os.path.basename(folder)[:12])
        described = joining.describe(
            config,
            process["args"],
            env=dict(text.partition("=")[::2] for text in process.get("env") or ()),
            user=process.get("user") or "",
            workdir=process.get("cwd") or "",
            privileged=bool(process.get("privileged")),
            tty=tty,
        )
        described["adopts"] = bool(process.get("adopts"))
        done = exec.exec_process(folder, config, described, stdio=stdio, tty=tty)
        return backend.Executed(done.pid, done.pidfd, done.tty_master_fd)

    def pids(self, folder: str, values: dict[str, Any]) -> list[int]:
        path = _path(folder)
        found = cgroup.pids(path) if path else []
        return found or _in_pid_namespace(values.get("pid"))

    def kill_all(self, folder: str, values: dict[str, Any], signal: int) -> None:
        for pid in self.pids(folder, values):
            try:
                os.kill(pid, signal)
            except ProcessLookupError:
                continue

    def freeze(self, folder: str, values: dict[str, Any]) -> None:
        cgroup.freeze(_needed(folder), frozen=True)

    def thaw(self, folder: str, values: dict[str, Any]) -> None:
        cgroup.freeze(_needed(folder), frozen=False)

    def oom_killed(self, folder: str, values: dict[str, Any]) -> bool:
        try:
            path = _path(folder)
        except OSError:
            return False  # no descriptor left to look with: that must not keep the container from its end
        return bool(path) and cgroup.oom_kills(path) > 0

    def destroy(self, folder: str, values: dict[str, Any]) -> None:
        try:
            facts = _facts(folder)
            if facts.place is not None:
                foreign.delete(facts.place, facts.cgroup)
            elif facts.cgroup:
                cgroup.destroy(facts.cgroup)
        except OSError as exc:
            backend.note(f"{os.path.basename(folder)[:12]}: its cgroup stays: {exc}")

    def parse_signal(self, text: str) -> int:
        return signals.parse(text)


def _in_pid_namespace(init: int | None) -> list[int]:
    """The container's processes where it could not be given a cgroup: an ordinary user without delegation."""
    if not init:
        return []
    found = []
    try:
        wanted = os.readlink(f"/proc/{init}/ns/pid")
        if not _is_first(init):
            return [init]  # `pid: host` or another's: the rest can't be told from everybody else's
    except OSError:
        return []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == wanted:
                found.append(int(name))
        except OSError:
            continue
    return found


def _is_first(pid: int) -> bool:
    """Whether it is PID 1 where it lives: the last of its numbers (proc_pid_status(5), NSpid)."""
    with open(f"/proc/{pid}/status") as file:
        numbers = next(line for line in file if line.startswith("NSpid:"))
    return numbers.split()[-1] == "1"


def _needed(folder: str) -> str:
    """Of the cgroup to freeze. SIGSTOP would be no stand-in: parents see their children stop, shells take the terminal
    back, and whatever is sent SIGCONT goes on."""
    # Without a path it would be devenv's own cgroup that is frozen.
    path = _path(folder)
    if not path or cgroup.place().version == 0:
        raise errors.ContainerError(
            f"a container without a cgroup of its own can't be paused: {cgroup.place().reason or 'it has none'}",
            hint="`devenv doctor` has the line that gives it one; `devenv stop` works",
        )
    return path


def _path(folder: str) -> str:
    return _facts(folder).cgroup


class _Facts(NamedTuple):
    """What is asked of a bundle again and again; reading one takes half a millisecond."""

    cgroup: str = ""
    place: foreign.Place | None = None


def _facts(folder: str) -> _Facts:
    try:
        found = os.stat(f"{folder}/config.json")
    except (FileNotFoundError, NotADirectoryError):
        return _Facts()
    return _read(folder, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=256)
def _read(folder: str, *_version: int) -> _Facts:
    config = fs.read_json(f"{folder}/config.json")
    linux = config.get("linux") if isinstance(config, dict) else None
    path = str(linux.get("cgroupsPath") or "") if isinstance(linux, dict) else ""
    return _Facts(path, foreign.place(config, folder) if foreign.named(config) else None)
