"""Network namespaces: setns(2) and unshare(2), which move the calling thread and no other."""

from __future__ import annotations

from devenv.linux import namespace


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace that ``fd`` refers to."""
    namespace.setns(fd, namespace.CLONE_NEWNET)


def unshare() -> None:
    """Give the calling thread a new network namespace, which holds nothing but a loopback that is down."""
    namespace.unshare(namespace.CLONE_NEWNET)
