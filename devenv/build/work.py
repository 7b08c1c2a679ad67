"""What the vertices of a graph do: a command, files, a folder. ``graph.Work`` says what each of them answers."""

from __future__ import annotations

import dataclasses
import errno
import os
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import emulation, graph, inside, layers, mounts, request, run, scope
from devenv.build.dockerfile import instructions
from devenv.image import descriptor
from devenv.linux import namespace
from devenv.runtime import bundle
from devenv.runtime import user as users

SCRIPTS = "/dev/pipes"  # where a heredoc with an interpreter of its own is shown


class Script(NamedTuple):
    name: str
    content: str


def command(
    given: request.Request,
    *,
    args: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    user: str,
    at: instructions.Run,
) -> run.Command:
    """Raises ``BuildError`` for what the request doesn't allow."""
    network = at.network or given.network or "default"
    insecure = at.security == "insecure"
    for wanted, entitlement in ((network == "host", "network.host"), (insecure, "security.insecure")):
        if wanted and at_risk(given, at, entitlement):
            place = at.place
            raise errors.BuildError(
                f"`{'--network=host' if entitlement == 'network.host' else '--security=insecure'}` is not allowed",
                file=place.file,
                line=place.line,
                column=place.column,
                excerpt=place.excerpt,
                hint=f"devenv build --allow {entitlement}",
            )
    return run.Command(
        args=args,
        env=env,
        cwd=cwd,
        user=user,
        network=network,
        insecure=insecure or given.privileged,
        extra_hosts=given.extra_hosts,
        shm_size=given.shm_size,
        ulimits=given.ulimits,
    )


def at_risk(given: request.Request, at: instructions.Run, entitlement: str) -> bool:
    """Whether a Dockerfile, not the one who builds, asks for what nobody has allowed."""
    asked_by_request = given.network == "host" if entitlement == "network.host" else given.privileged
    return entitlement not in given.entitlements and not asked_by_request


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    command: run.Command
    hidden: frozenset[str]  # variables that the result doesn't depend on: proxies
    mounts: tuple[mounts.Mount, ...]
    script: Script | None
    request: request.Request
    platform: descriptor.Platform
    machine: run.Machine

    def describe(self) -> Any:
        return ["run", self._own(), [each.describe() for each in self.mounts]]

    def _own(self) -> dict[str, Any]:
        made = self.command
        return {
            "command": list(made.args),
            "environment": {name: value for name, value in made.env.items() if name not in self.hidden},
            "working directory": made.cwd,
            "user": made.user,
            "network": made.network,
            "security": "insecure" if made.insecure else "",
            "hosts": [list(each) for each in made.extra_hosts],
            "platform": str(self.platform),
            "script": list(self.script) if self.script else [],
        }

    def parts(self, tools: layers.Tools, inputs: graph.Inputs) -> graph.Parts:
        found: dict[str, Any] = {"kind": "run", **self._own()}
        states = self._states(inputs)
        for number, each in enumerate(self.mounts):
            found[f"mount {number} at `{each.target}`"] = each.parts(tools, states.get(number))
        return found

    def _states(self, inputs: graph.Inputs) -> dict[int, layers.State]:
        """By a mount's number: the inputs but the first are theirs, in their order."""
        owners = [number for number, each in enumerate(self.mounts) if each.origin and each.origin.vertex]
        return dict(zip(owners, inputs[1:], strict=True))

    def perform(self, room: graph.Room, inputs: graph.Inputs, lower: tuple[str, ...]) -> None:
        if not emulation.runs(self.platform, scope.own()):
            raise errors.BuildError(
                f"a command for {self.platform} can't run here: no emulator is registered for it",
                hint="apt install qemu-user-static binfmt-support, or COPY what another machine has made",
            )
        with mounts.prepared(self.mounts, self.request, room, self._states(inputs)) as found:
            mounted = found._replace(mounts=(*found.mounts, *self._script(room)))
            run.execute(self.machine, self.command, mounted, lower=lower, folder=room.folder, output=room.output)

    def _script(self, room: graph.Room) -> tuple[bundle.Mount, ...]:
        if self.script is None:
            return ()
        folder = f"{room.folder.path}/script"
        os.mkdir(folder, 0o755)
        path = f"{folder}/{self.script.name}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(self.script.content)
        os.chmod(path, 0o755)
        return (bundle.Mount("bind", folder, SCRIPTS, ("rbind", "rprivate", "ro")),)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workdir:
    path: str
    user: str

    def describe(self) -> Any:
        return ["workdir", self.path, self.user]

    def parts(self, tools: layers.Tools, inputs: graph.Inputs) -> graph.Parts:
        return {"kind": "workdir", "working directory": self.path, "user": self.user}

    def perform(self, room: graph.Room, inputs: graph.Inputs, lower: tuple[str, ...]) -> None:
        root = layers.writable(room.folder.path, lower)
        try:
            who = users.resolve(root, self.user or "0")
            parts = inside.canonical(root, self.path).split("/")
            for count in range(1, len(parts) + 1):
                path = "/".join(parts[:count])
                if not inside.exists(root, path):
                    _make_folder(root, path, uid=who.uid, gid=who.gid)
                elif not inside.is_folder(root, path):
                    raise errors.BuildError(f"`WORKDIR {self.path}` can't be: `/{path}` is no folder")
        finally:
            os.close(root)


def _make_folder(root: int, path: str, *, uid: int, gid: int) -> None:
    folder, name = posixpath.split(path)
    parent = inside.folder(root, folder)
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        try:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        except OSError as exc:
            # Ids that a user namespace does not map stay ours, as those of an image's files do.
            if exc.errno != errno.EINVAL or namespace.in_initial_user_namespace():
                raise
        os.chmod(name, 0o755, dir_fd=parent)
    finally:
        os.close(parent)
