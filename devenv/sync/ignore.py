"""Which paths a rule is about: its patterns, matched by pathspec. A build's `.dockerignore` is ``devenv.build``'s.

What docker compose says of `ignore:` and `include:` is that they are written like a `.dockerignore`: a pattern
without `**` is anchored at the folder that it is for, where git would look for it at any depth. That is all in which
the two differ, so each pattern is anchored and then is one of git's. The last one that matches a path, or a folder
that it is in, decides.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable

import pathspec

# What docker compose ignores in every rule (docker/compose: pkg/watch/ephemeral.go, pkg/compose/watch.go): the
# repository itself, and what editors write beside a file while they save it.
ALWAYS = (
    "**/.git",
    "**/*___jb_old___",
    "**/*___jb_tmp___",
    "**/.idea/**",
    "**/.#*",
    "**/#*#",
    "**/4913",
    "**/*~",
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/.*.swn",
    "**/*.kate-swp",
    "**/*-go-tmp-umask",
    # And what our own side of a sync writes, should a container's folder be watched through a bind mount.
    "**/.devenv-sync-*",
    # What was changed on both sides, and is kept for somebody to look at.
    "**/*.from-container",
    "**/*.from-container-[0-9]*",
)


class Patterns:
    """A list of patterns for the paths beneath one folder."""

    def __init__(self, lines: Iterable[str]) -> None:
        anchored = [pattern for line in lines if (pattern := _anchored(line))]
        self._spec = pathspec.PathSpec.from_lines("gitignore", anchored) if anchored else None
        # A folder may only be left out whole if nothing in it can be called back.
        self._ways = [pattern.strip("/").split("/") for pattern in anchored if not pattern.startswith("!")]
        self._calls_back = any(pattern.startswith("!") for pattern in anchored)

    def __bool__(self) -> bool:
        return self._spec is not None

    def match(self, path: str) -> bool:
        """``path`` is relative to the folder that the patterns are for."""
        return self._spec is not None and self._spec.match_file(path)

    def prune(self, folder: str) -> bool:
        """Whether nothing in ``folder`` needs to be looked at."""
        return not self._calls_back and self.match(folder)

    def may_match_in(self, folder: str) -> bool:
        """Whether something in ``folder`` could match: False only where none does."""
        steps = folder.split("/")
        return any(_leads(way, steps) for way in self._ways)


def _leads(way: list[str], steps: list[str]) -> bool:
    for pattern, step in zip(way, steps, strict=False):
        if pattern == "**":
            return True
        if not fnmatch.fnmatchcase(step, pattern):
            return False
    return True


def _anchored(line: str) -> str:
    """A `.dockerignore` pattern in git's words; "" for one that says nothing."""
    pattern = line.strip()
    sign = "!" if pattern.startswith("!") else ""
    pattern = pattern.removeprefix("!").strip()
    if not pattern:
        return ""
    # As Docker cleans it: `./a//b/` is `a/b`, and a file of that name is meant as well as a folder.
    cleaned = posixpath.normpath(pattern).lstrip("/")
    return f"{sign}/{cleaned}" if cleaned not in {"", "."} else ""
