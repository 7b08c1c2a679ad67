"""The trees that a request's steps take files from: its context, and the folders it gives names to.

Opened when something is first taken of them, once a build, and closed with it.
"""

from __future__ import annotations

import contextlib
import os
import threading

from devenv import errors
from devenv.build import context, ignore, memory, request
from devenv.util import paths


class Sources:
    """Safe for threads."""

    def __init__(self, where: paths.Paths, given: request.Request, held: contextlib.ExitStack, dockerfile: str) -> None:
        """``dockerfile`` is the path of the file, for the ignore file beside it; "" where there is none."""
        self._where = where
        self._given = given
        self._dockerfile = dockerfile
        self._held = held
        self._guard = threading.Lock()
        self._trees: dict[str, context.Tree] = {}

    def main(self) -> context.Tree:
        with self._guard:
            if "" not in self._trees:
                self._trees[""] = self._open(self._given.context, self._dockerfile)
            return self._trees[""]

    def named(self, name: str) -> context.Tree:
        with self._guard:
            if name not in self._trees:
                self._trees[name] = self._open(self._given.contexts[name], "")
            return self._trees[name]

    def identity(self, tree: context.Tree) -> str:
        """The same for what is the same folder, seen in the same way."""
        patterns = [[each.text, each.exception] for each in tree.matcher.patterns] if tree.matcher else []
        return f"{os.path.realpath(tree.name)} {patterns}"

    def _open(self, given: str, dockerfile: str) -> context.Tree:
        if not given:
            empty = f"{self._where.data}/build/empty"
            os.makedirs(empty, mode=0o755, exist_ok=True)
            return self._held.enter_context(context.folder(empty))
        if "://" in given or given.startswith("git@"):
            raise errors.BuildError(f"`{given}`: contexts that have to be fetched are not there yet")
        matcher = ignore.load(given, dockerfile)
        known = memory.of_folder(self._where.data, given)
        return self._held.enter_context(context.folder(given, matcher=matcher, known=known))
