"""RUN: a command in a container of the built-in runtime, on the layers so far with a fresh one on top.

As Docker has it: its capabilities, its filter of system calls, masked paths, and setuid programs that work. What is
mounted, /etc/hosts and its like included, is not part of the layer, and neither are the places made for it.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import dataclasses
import os
import selectors
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from devenv import errors
from devenv.build import layers, network, place, request, running, steps
from devenv.network import hosts, resolv
from devenv.runtime import bundle
from devenv.runtime import seccomp as runtime_seccomp
from devenv.util import fs

HOSTNAME = "buildkitsandbox"  # what Dockerfiles have been built in for years
LAST_LINES = 30
CHUNK = 1 << 16

Output = Callable[[str, bool], None]  # a piece of text, and whether it went to stderr


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    user: str = ""
    network: str = "default"  # default, none, host
    insecure: bool = False
    extra_hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[request.Ulimit, ...] = ()


class Mounted(NamedTuple):
    """What ``--mount`` came to."""

    mounts: tuple[bundle.Mount, ...] = ()
    overlays: tuple[bundle.Overlay, ...] = ()
    env: Mapping[str, str] = {}


class Failed(errors.ContainerError):
    """The command ran, and said no."""

    def __init__(self, message: str, *, code: int, lines: tuple[str, ...]) -> None:
        super().__init__(message)
        self.code_of_command = code
        self.lines = lines  # the last of what it wrote


class Machine(NamedTuple):
    """What steps run on."""

    running: running.Running
    network: network.Network


def execute(
    machine: Machine,
    command: Command,
    mounted: Mounted,
    *,
    lower: tuple[str, ...],
    folder: steps.Folder,
    output: Output,
) -> None:
    """Afterwards ``<folder>/upper`` holds what it changed. Raises ``Failed``, ``ContainerError``, ``NetworkError``."""
    networked = command.network == "default"
    _write_files(machine, command, folder)
    config = bundle.build(_options(command, mounted, lower=lower, folder=folder))
    shown = layers.look(lower)
    targets = [*(str(each["destination"]) for each in config["mounts"]), *(each.target for each in mounted.overlays)]
    made = [parts for target in targets for parts in layers.missing(shown, target)]
    fs.write_json(f"{folder.private}/config.json", config)
    try:
        with _streams() as streams:
            pid, start_time = machine.running.create(folder.id, folder.private, streams.child)
            streams.close_child()
            steps.remember(folder, pid=pid, start_time=start_time)
            try:
                if networked:
                    machine.network.attach(folder.id, pid)
                machine.running.start(folder.id)
            except BaseException:
                machine.running.kill(folder.id)
                machine.running.wait(folder.id)
                raise
            lines = streams.pump(output)
        ended = machine.running.wait(folder.id)
    finally:
        if networked:
            machine.network.release(folder.id)
    if ended.code:
        what = "was killed: out of memory" if ended.out_of_memory else f"exit code: {ended.code}"
        raise Failed(what, code=ended.code, lines=lines)
    layers.remove_places(f"{folder.path}/upper", shown, made)


def _options(command: Command, mounted: Mounted, *, lower: tuple[str, ...], folder: steps.Folder) -> bundle.Options:
    path = folder.path
    own = [
        bundle.Mount(type="bind", source=f"{path}/{name}", target=f"/etc/{name}", options=("bind", "rprivate"))
        for name in ("hosts", "hostname", "resolv.conf")
        if not (command.network == "host" and name == "hosts" and not command.extra_hosts)
    ]
    root = bundle.Overlay(target="/", lower=lower, upper=f"{path}/upper", work=f"{path}/work")
    options = bundle.Options(
        args=command.args,
        rootfs=bundle.Rootfs(overlays=(root, *mounted.overlays)),
        env=tuple(f"{name}={value}" for name, value in {**command.env, **mounted.env}.items()),
        cwd=command.cwd,
        user=command.user,
        hostname="" if command.network == "host" else HOSTNAME,
        mounts=(*own, *mounted.mounts),
        privileged=command.insecure,
        # `sudo` and `su` are part of many a Dockerfile.
        no_new_privileges=False,
        seccomp="default" if not command.insecure and not runtime_seccomp.available() else None,
        rlimits={each.name: (each.soft, each.hard) for each in command.ulimits},
        network="host" if command.network == "host" else "",
        uts="host" if command.network == "host" else "",
        cgroup_path=place.of_cgroup(folder.id),
    )
    return options._replace(shm_size=command.shm_size) if command.shm_size else options


def _write_files(machine: Machine, command: Command, folder: steps.Folder) -> None:
    extra: dict[str, list[str]] = {}
    for name, address in command.extra_hosts:
        extra.setdefault(name, []).append(address)
    networked = command.network == "default"
    gateway = (
        machine.network.gateway()
        if networked and any(address == hosts.HOST_GATEWAY for _, address in command.extra_hosts)
        else ""
    )
    host = hosts.Host(hostname=HOSTNAME, extra_hosts=extra, host_gateway=gateway)
    resolver = network.resolver() if networked else resolv.content()
    for name, text in (
        ("hosts", hosts.render(host)),
        ("hostname", f"{HOSTNAME}\n"),
        ("resolv.conf", resolver),
    ):
        with open(f"{folder.path}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(f"{folder.path}/{name}", 0o644)


class _Streams:
    def __init__(self, opened: contextlib.ExitStack) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        out, out_writer = os.pipe2(os.O_CLOEXEC)
        err, err_writer = os.pipe2(os.O_CLOEXEC)
        self.child = (null, out_writer, err_writer)
        self._readers = {out: False, err: True}
        self._children = contextlib.ExitStack()
        for each in self.child:
            self._children.callback(os.close, each)
        opened.callback(self.close_child)
        for each in self._readers:
            opened.callback(os.close, each)

    def close_child(self) -> None:
        self._children.close()

    def pump(self, output: Output) -> tuple[str, ...]:
        """Until the last process that could write has gone."""
        decoders = {each: codecs.getincrementaldecoder("utf-8")("replace") for each in self._readers}
        tail = _Tail()
        with selectors.DefaultSelector() as ready:
            for each in self._readers:
                ready.register(each, selectors.EVENT_READ)
            while ready.get_map():
                for key, _ in ready.select():
                    data = os.read(key.fd, CHUNK)
                    if not data:
                        ready.unregister(key.fd)
                    text = decoders[key.fd].decode(data, final=not data)
                    if text:
                        tail.add(text)
                        output(text, self._readers[key.fd])
        return tail.lines()


class _Tail:
    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._open = ""

    def add(self, text: str) -> None:
        *whole, self._open = (self._open + text).split("\n")
        self._lines.extend(whole)
        self._open = self._open[-CHUNK:]

    def lines(self) -> tuple[str, ...]:
        return tuple([*self._lines, self._open] if self._open else self._lines)


@contextlib.contextmanager
def _streams() -> Iterator[_Streams]:
    with contextlib.ExitStack() as opened:
        yield _Streams(opened)
