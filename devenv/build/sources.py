"""The trees that a request's steps take files from: its context, and the folders it gives names to.

A folder is read in place; what lies elsewhere is fetched into one first. Opened when something is first taken of them,
once a build, and closed with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import NamedTuple

from devenv.build import context, copying, ignore, memory, request, secrets
from devenv.util import paths, tree


class Place(NamedTuple):
    folder: str  # whose files are read in place; "" where nothing but a Dockerfile came
    dockerfile: str | None  # the text, if that is all that came


class Sources:
    """Safe for threads."""

    def __init__(self, where: paths.Paths, given: request.Request, held: contextlib.ExitStack) -> None:
        self._where = where
        self._given = given
        self._held = held
        self._guard = threading.RLock()
        self._trees: dict[str, context.Tree] = {}
        self._fetching: copying.Fetching | None = None
        self._found: Place | None = None
        self.dockerfile = ""  # its path, for the ignore file beside it

    def fetching(self) -> copying.Fetching:
        with self._guard:
            if self._fetching is None:
                from devenv.build import fetch, git

                environ = self._given.environ

                def secret(name: str) -> bytes | None:
                    return secrets.find(self._given, name)

                fetcher = fetch.Fetcher(self._where.data, environ, secret=secret)
                self._held.callback(fetcher.close)
                repositories = git.Repositories(self._where.data, environ, secret=secret, agent=self._agent())
                self._fetching = copying.Fetching(fetcher, repositories)
            return self._fetching

    def _agent(self) -> str:
        """Where git's ssh finds keys: at the request's own agent, else at that of who asks."""
        environ = self._given.environ
        given = next((each for each in self._given.ssh if each.id == "default"), None)
        if given is None:
            return environ.get("SSH_AUTH_SOCK", "")
        from devenv.build import agents

        path = f"{self._where.run}/git-agent.{os.urandom(6).hex()}"
        return self._held.enter_context(agents.reached(given, path, environ=environ))

    def place(self) -> Place:
        """Where the request's own context is on this machine; fetched, if it is not there yet."""
        with self._guard:
            if self._found is None:
                self._found = self._locate(self._given.context)
            return self._found

    def main(self) -> context.Tree:
        with self._guard:
            if "" not in self._trees:
                self._trees[""] = self._open(self.place().folder, self.dockerfile)
            return self._trees[""]

    def named(self, name: str) -> context.Tree:
        with self._guard:
            if name not in self._trees:
                self._trees[name] = self._open(self._locate(self._given.contexts[name]).folder, "")
            return self._trees[name]

    def identity(self, found: context.Tree) -> str:
        """The same for what is the same folder, seen in the same way."""
        patterns = [[each.text, each.exception] for each in found.matcher.patterns] if found.matcher else []
        return f"{os.path.realpath(found.name)} {patterns}"

    def _locate(self, given: str) -> Place:
        if not given or os.path.isdir(given):
            return Place(given, None)
        # HTTP and git cost 25 ms that a build of what is here shall not pay.
        from devenv.build import remote

        if given == "-":
            folder = f"{self._where.data}/build/received/{os.urandom(8).hex()}"
            os.makedirs(folder, mode=0o700)
            self._held.callback(tree.remove, folder)
            received = remote.received(0, folder)
            return Place(received.folder, received.dockerfile)
        if remote.is_remote(given):
            tools = self.fetching()
            fetched = remote.opened(given, fetcher=tools.fetcher, repositories=tools.repositories)
            return Place(fetched.folder, fetched.dockerfile)
        return Place(given, None)

    def _open(self, folder: str, dockerfile: str) -> context.Tree:
        if not folder:
            empty = f"{self._where.data}/build/empty"
            os.makedirs(empty, mode=0o755, exist_ok=True)
            return self._held.enter_context(context.folder(empty))
        matcher = ignore.load(folder, dockerfile)
        known = memory.of_folder(self._where.data, folder)
        return self._held.enter_context(context.folder(folder, matcher=matcher, known=known))
