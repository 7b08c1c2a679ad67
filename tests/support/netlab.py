"""A network namespace for the test alone, and small ones that stand for containers. Root only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from devenv.linux import netns
from devenv.network import manager, types
from devenv.util import identity

T = TypeVar("T")


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    """The calling thread, and whatever it starts, in a new network namespace with its loopback up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.unshare()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        netns.setns(before)
        os.close(before)


class Container:
    """A process that sleeps in a network namespace of its own."""

    def __init__(self, number: int) -> None:
        self.id = f"{number:064x}"
        # The function only calls the kernel, and no thread of a test holds a lock that it could need.
        argv = ["sleep", "1000"]
        self.process = subprocess.Popen(
            argv,
            preexec_fn=netns.unshare,  # noqa: PLW1509
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self.process.pid

    def backend(self, *addresses: str) -> types.Backend:
        return types.Backend(self.id, self.pid, identity.process_start_time(self.pid) or 0, addresses)

    def run(self, job: Callable[[], T]) -> T:
        """What ``job`` returns in a thread inside the container's namespace."""
        return inside(self.pid, job)

    def shell(self, command: str) -> str:
        argv = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "sh", "-c", command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def inside(pid: int, job: Callable[[], T]) -> T:
    result: list[T | BaseException] = []

    def body() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns.setns(descriptor)
            finally:
                os.close(descriptor)
            result.append(job())
        except BaseException as exc:  # noqa: BLE001 - raised in the caller
            result.append(exc)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def reaches(address: str, port: int = 7, *, patience: float = 3.5) -> bool:
    """Whether a TCP segment gets an answer, be it a refusal: so no server is needed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(patience)
        try:
            one.connect((address, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Outside:
    """A machine beyond this one: a namespace behind a link, with no route back to any container."""

    def __init__(self, box: Container) -> None:
        shell(f"ip link add up0 type veth peer name up0 netns {box.pid}; ip addr add 198.51.100.1/24 dev up0")
        shell("ip link set up0 up")
        box.shell("ip link set lo up; ip addr add 198.51.100.2/24 dev up0; ip link set up0 up")
        shell("ip route add default via 198.51.100.2")
        self.box = box


def shell(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def default(name: str = "shop_default", **wishes: object) -> types.NetworkSpec:
    return types.NetworkSpec(name=name, **wishes)  # type: ignore[arg-type]


def join(one: manager.NetworkManager, box: Container, *networks: str) -> list[types.Endpoint]:
    return one.attach(box.id, box.pid, [types.EndpointSpec(network=name) for name in networks or ("shop_default",)])
