"""The limit of descriptors, raised for a process that has some for each container, and not for what it starts.

Shells grant 1024, so that programs which use select(2) do well: those in containers shall have it so.
"""

from __future__ import annotations

import os
import resource

# What was granted, for those of our processes that are started again by one that has raised its own.
_VARIABLE = "DEVENV_GRANTED_NOFILE"
_MOST = 1 << 20

_granted = -1


def raise_limit() -> None:
    """As far as this process may."""
    global _granted  # noqa: PLW0603
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard if hard != resource.RLIM_INFINITY else _MOST, _MOST)
    text = os.environ.get(_VARIABLE, "")
    _granted = int(text) if text.isdecimal() and 0 < int(text) <= soft else soft
    os.environ[_VARIABLE] = str(_granted)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_chosen() -> None:
    """In a child: it has a limit of its own, which stays."""
    global _granted  # noqa: PLW0603
    _granted = -1


def give_back() -> None:
    """In a child, before its execve(2): what was granted, unless it has a limit of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < _granted < soft or (_granted > 0 and soft == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_granted, hard))
