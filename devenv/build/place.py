"""Where a step's cgroup is. By itself, since the process that forks containers imports as little as it can."""

from __future__ import annotations


def of_cgroup(name: str) -> str:
    """Relative to devenv's own place in each hierarchy."""
    return f"devenv/devenv-build/{name}"
