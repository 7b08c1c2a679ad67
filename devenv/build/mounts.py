"""``RUN --mount``: what each of them shows in the container, and what of it a result depends on.

bind     files of the context, a stage or an image; what is written there is thrown away
cache    a folder of devenv's own that outlives builds, no part of any layer: ``cachemounts``
tmpfs    memory
secret   a file in memory, or a variable; no part of any layer, key or log
ssh      a socket that leads to an agent: ``agents``
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devenv import errors
from devenv.build import cachemounts, copying, graph, layers, request, run, secrets, selection, transfer
from devenv.build.dockerfile import instructions
from devenv.build.dockerfile import mounts as mount
from devenv.linux import namespace
from devenv.runtime import bundle
from devenv.runtime import overlay as overlay_

_MODES = {"cache": 0o755, "secret": 0o400, "ssh": 0o600}
_FILE, _FOLDER = ("bind", "rprivate"), ("rbind", "rprivate")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    kind: str
    target: str  # absolute; "" for a secret that is a variable alone
    source: str = "/"
    origin: copying.Origin | None = None
    writable: bool = False
    id: str = ""
    sharing: str = cachemounts.SHARED
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    required: bool = False
    variable: str = ""
    size: int = 0
    at: instructions.Instruction | None = None

    def describe(self) -> Any:
        origin = self.origin.describe() if self.origin else ""
        return [self.kind, self.target, self.source, origin, self.writable, self.id, self.variable]

    def parts(self, tools: layers.Tools, state: layers.State | None) -> Any:
        """``state``: of the origin, if that is a root filesystem."""
        if self.kind != "bind":
            return [self.kind, self.target, self.variable]
        assert self.origin is not None
        return [self.kind, self.source, self.writable, copying.digest(self.origin, [self.source], state, tools)]


def read(given: mount.Settled, origin: copying.Origin | None, at: instructions.Instruction, *, folder: str) -> Mount:
    """``folder`` is the working directory. Raises ``BuildError`` with the line to blame."""
    path = posixpath.normpath(posixpath.join("/", folder, given.target)) if given.target else ""
    name = given.id
    if given.kind == "secret":
        name = name or given.source or posixpath.basename(path)
        if not path and given.variable is None:
            path = f"/run/secrets/{posixpath.basename(name)}"
    elif given.kind == "ssh":
        name = name or "default"
        path = path or "/run/buildkit/ssh_agent.0"
    elif path in {"", "/"}:
        what = "can't be mounted on `/`" if path else "needs a target"
        raise errors.BuildError(f"`--mount=type={given.kind}` {what}", **_placed(at))
    elif given.kind == "cache":
        name = name or path
    return Mount(
        kind=given.kind,
        target=path,
        source=given.source or "/",
        origin=origin,
        writable=given.writable,
        id=name,
        sharing=given.sharing or cachemounts.SHARED,
        mode=given.mode if given.mode is not None else _MODES.get(given.kind, 0o755),
        uid=given.uid or 0,
        gid=given.gid or 0,
        required=given.required,
        variable="" if given.variable is None else given.variable or name,
        size=given.size or 0,
        at=at,
    )


def _placed(at: instructions.Instruction | None) -> dict[str, Any]:
    if at is None:
        return {}
    return {"file": at.place.file, "line": at.place.line, "column": at.place.column, "excerpt": at.place.excerpt}


# -- for one step that runs -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def prepared(
    mounts: Sequence[Mount],
    given: request.Request,
    room: graph.Room,
    states: Mapping[int, layers.State],
) -> Iterator[run.Mounted]:
    """``states``: by a mount's number, of the root filesystems that they are from."""
    with contextlib.ExitStack() as held:
        maker = _Maker(given, room, held)
        for number, each in enumerate(mounts):
            maker.make(number, each, states.get(number))
        yield run.Mounted(tuple(maker.mounts), tuple(maker.overlays), maker.env)


class _Maker:
    def __init__(self, given: request.Request, room: graph.Room, held: contextlib.ExitStack) -> None:
        self._request = given
        self._room = room
        self._held = held
        self.mounts: list[bundle.Mount] = []
        self.overlays: list[bundle.Overlay] = []
        self.env: dict[str, str] = {}

    def make(self, number: int, each: Mount, state: layers.State | None) -> None:
        if each.kind == "bind":
            self._bind(number, each, state)
        elif each.kind == "cache":
            self._cache(each, state)
        elif each.kind == "tmpfs":
            size = (f"size={each.size}",) if each.size else ()
            self.mounts.append(bundle.Mount("tmpfs", "tmpfs", each.target, ("nosuid", "nodev", *size)))
        elif each.kind == "secret":
            self._secret(number, each)
        else:
            self._ssh(number, each)

    # -- bind -----------------------------------------------------------------------------------------------------

    def _bind(self, number: int, each: Mount, state: layers.State | None) -> None:
        assert each.origin is not None
        if state is not None:
            self._of_state(number, each, state)
            return
        folder = self._scratch(number)
        found = _copied(each, state, self._room.tools, folder)
        self._add_bind(found, each)

    def _of_state(self, number: int, each: Mount, state: layers.State) -> None:
        lower = layers.lower(self._room.tools, state)
        shown = layers.look(lower)
        parts = layers.resolve(shown, each.source)
        found = shown.find(parts)
        if found is None:
            raise errors.BuildError(f"`{each.source}` is not in `{each.origin.name if each.origin else ''}`")
        if not stat.S_ISDIR(found.status.st_mode):
            folder = self._scratch(number)
            self._add_bind(_copied(each, state, self._room.tools, folder), each)
            return
        folders = layers.beneath(lower, parts)
        if each.writable or not self._add_shown(folders, each.target):
            folder = self._scratch(number)
            for name in ("upper", "work"):
                os.mkdir(f"{folder}/{name}", 0o755)
            self.overlays.append(bundle.Overlay(each.target, folders, f"{folder}/upper", f"{folder}/work"))

    def _add_shown(self, folders: tuple[str, ...], target: str) -> bool:
        """Read-only, without a layer of its own; not if there are more of them than one mount(2) takes."""
        if len(folders) == 1:
            self.mounts.append(bundle.Mount("bind", folders[0], target, (*_FOLDER, "ro")))
            return True
        options = ["ro", f"lowerdir={':'.join(folders)}"]
        options += [] if namespace.in_initial_user_namespace() else ["userxattr"]
        self.mounts.append(bundle.Mount("overlay", "overlay", target, tuple(options)))
        return len(options[1]) < overlay_.PAGE

    def _add_bind(self, source: str, each: Mount) -> None:
        flags = _FOLDER if os.path.isdir(source) else _FILE
        self.mounts.append(bundle.Mount("bind", source, each.target, flags if each.writable else (*flags, "ro")))

    def _scratch(self, number: int) -> str:
        folder = f"{self._room.folder.path}/mounts/{number}"
        os.makedirs(folder, mode=0o755)
        return folder

    # -- the others -----------------------------------------------------------------------------------------------

    def _cache(self, each: Mount, state: layers.State | None) -> None:
        def fill(folder: str) -> None:
            if each.origin is not None:
                _copied(each, state, self._room.tools, folder)
            os.chown(folder, each.uid, each.gid)
            os.chmod(folder, each.mode)

        where = self._room.tools.where
        found = self._held.enter_context(cachemounts.held(where, each.id, sharing=each.sharing, fill=fill))
        self._add_bind(found, each)

    def _secret(self, number: int, each: Mount) -> None:
        value = secrets.find(self._request, each.id)
        if value is None:
            if each.required:
                raise errors.BuildError(
                    f"the secret `{each.id}` is required and nobody gave it",
                    hint=f"devenv build --secret id={each.id},src=FILE",
                )
            return
        if each.variable:
            self.env[each.variable] = value.decode("utf-8", "surrogateescape")
        if each.target:
            path = f"{self._room.folder.private}/secret.{number}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(value)
            os.chown(path, each.uid, each.gid)
            os.chmod(path, each.mode)
            self.mounts.append(bundle.Mount("bind", path, each.target, (*_FILE, "ro")))

    def _ssh(self, number: int, each: Mount) -> None:
        found = next((one for one in self._request.ssh if one.id == each.id), None)
        if found is None:
            if each.required:
                raise errors.BuildError(
                    f"the SSH agent `{each.id}` is required and nobody gave it",
                    hint="devenv build --ssh default, with an agent in $SSH_AUTH_SOCK",
                )
            return
        path = f"{self._room.folder.private}/ssh.{number}"
        from devenv.build import agents

        self._held.enter_context(agents.forwarded(found, path, environ=self._request.environ))
        os.chown(path, each.uid, each.gid)
        os.chmod(path, each.mode)
        self.mounts.append(bundle.Mount("bind", path, each.target, _FILE))
        self.env.setdefault("SSH_AUTH_SOCK", each.target)


def _copied(each: Mount, state: layers.State | None, tools: layers.Tools, folder: str) -> str:
    """The files that ``source`` names, in ``folder``; the path of what was named."""
    assert each.origin is not None
    with copying.opened(each.origin, state, tools) as tree:
        found, status = tree.find(each.source, follow=True)
        chosen = selection.select(tree, [each.source])
        root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            transfer.copy(chosen, root, "/")
        finally:
            os.close(root)
    if stat.S_ISDIR(status.st_mode):
        return folder
    return f"{folder}/{posixpath.basename(found)}"
