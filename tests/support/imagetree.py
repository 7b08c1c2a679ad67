"""What an image archive holds, read by a few lines of the tests' own: files as seen from the top, and the config."""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from typing import Any

Tree = dict[str, list[Any]]  # path -> kind, mode, uid, gid, and content or target

# Where tools put files of their own while a step runs, and may leave an empty place.
_PLACES = {
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "run/.containerenv",
    "run/secrets",
    "run",
    "proc",
    "sys",
    "dev",
}
_KEPT = ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Shell")
_NOT_OCI = ("Healthcheck", "OnBuild")


def read(path: str) -> tuple[Tree, dict[str, Any]]:
    """Of an OCI archive with one image in it."""
    with tarfile.open(path) as archive:
        blobs = {member.name.removeprefix("./"): member for member in archive.getmembers()}

        def blob(digest: str) -> Any:
            file = archive.extractfile(blobs["blobs/" + digest.replace(":", "/")])
            assert file is not None
            return file

        index = archive.extractfile(blobs["index.json"])
        assert index is not None
        (entry,) = json.load(index)["manifests"]
        manifest = json.load(blob(entry["digest"]))
        config = json.load(blob(manifest["config"]["digest"]))
        tree: Tree = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"])) as opened:
                _apply(tree, opened)
    return {name: value for name, value in sorted(tree.items()) if name not in _PLACES}, _config(config)


def _apply(tree: Tree, layer: tarfile.TarFile) -> None:
    members = [(posixpath.normpath(member.name).lstrip("/"), member) for member in layer.getmembers()]
    for name, _ in members:
        folder, base = posixpath.split(name)
        if base == ".wh..wh..opq":
            _remove(tree, folder, itself=False)
        elif base.startswith(".wh."):
            _remove(tree, posixpath.join(folder, base.removeprefix(".wh.")), itself=True)
    for name, member in members:
        if name in {".", ""} or posixpath.basename(name).startswith(".wh."):
            continue
        if member.islnk():
            tree[name] = tree[posixpath.normpath(member.linkname).lstrip("/")]
            continue
        if name in tree and not (member.isdir() and tree[name][0] == "folder"):
            _remove(tree, name, itself=True)
        tree[name] = _entry(layer, member)


def _remove(tree: Tree, path: str, *, itself: bool) -> None:
    for name in [each for each in tree if each.startswith(f"{path}/") or (itself and each == path)]:
        del tree[name]


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> list[Any]:
    owner = [f"{member.mode & 0o7777:04o}", member.uid, member.gid]
    if member.isdir():
        return ["folder", *owner]
    if member.issym():
        return ["link", member.uid, member.gid, member.linkname]
    if not member.isfile():
        return ["special", *owner]
    file = layer.extractfile(member)
    assert file is not None
    data = file.read()
    try:
        text = data.decode() if len(data) <= 400 else ""
    except UnicodeDecodeError:
        text = ""
    return ["file", *owner, text or ("sha256:" + hashlib.sha256(data).hexdigest() if data else "")]


def _config(document: dict[str, Any]) -> dict[str, Any]:
    given = document.get("config") or {}
    found = {name: given[name] for name in (*_KEPT, *_NOT_OCI) if given.get(name)}
    labels = {name: value for name, value in (found.get("Labels") or {}).items() if not name.startswith("io.buildah.")}
    if labels:
        found["Labels"] = labels
    else:
        found.pop("Labels", None)
    if document.get("author"):
        found["Author"] = document["author"]
    return found
