"""Builds in this process, as root, and a look at what came of them without a look at how."""

from __future__ import annotations

import json
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

from devenv.build import layers, progress, request, result, solver
from devenv.image import config as image_config
from devenv.image import content, descriptor, manifest, snapshot
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout

TAG = "docker.io/library/built:latest"


class Builder:
    """``base`` is what to write after FROM for a busybox; contexts are folders of their own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.where = paths.Paths(f"{folder}/data", f"{folder}/run")
        paths.prepare(self.where)
        ocilayout.busybox_layout(folder / "busybox")
        self.base = f"oci:{folder}/busybox"
        self.context = folder / "context"
        self.context.mkdir()
        self.steps: list[progress.Step] = []

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, text in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)

    def request(self, dockerfile: str, **more: Any) -> request.Request:
        (self.context / "Dockerfile").write_text(dockerfile.replace("FROM busybox", f"FROM {self.base}"))
        given = {"context": str(self.context), "tags": (TAG,), "environ": {}, **more}
        return request.Request(**given)

    def build(self, dockerfile: str, **more: Any) -> Built:
        return self.solve(self.request(dockerfile, **more))[0]

    def solve(self, *requests: request.Request) -> list[Built]:
        self.steps = []
        store = image_store.ImageStore(self.where)
        try:
            results = solver.solve(requests, where=self.where, store=store, tell=self.steps.append)
            return [Built(self.where, store, each) for each in results]
        finally:
            store.close()

    def said(self, state: progress.State) -> list[str]:
        """What was told so, without the number of the step."""
        return [each.name.partition("] ")[2] for each in self.steps if each.state is state]

    @property
    def output(self) -> str:
        return "".join(each.text for each in self.steps if each.state is progress.State.OUTPUT)

    @property
    def leftovers(self) -> list[str]:
        """Of steps: folders, locks, what was in memory, and half of layers."""
        found = []
        for folder in (f"{self.where.data}/build/steps", f"{self.where.data}/stage", f"{self.where.run}/build"):
            if os.path.isdir(folder):
                found += [f"{folder}/{name}" for name in os.listdir(folder) if name != "cgroups.json"]
        return found


class Built:
    def __init__(self, where: paths.Paths, store: image_store.ImageStore, given: result.Result) -> None:
        self.result = given
        self._where = where
        assert given.target is not None
        self.target = given.target
        target = given.target._replace(platform=None)

        def read(each: descriptor.Descriptor) -> bytes:
            return store.blobs.read(each, what="built")

        self.manifest = manifest.find([target], read, what="built").manifest
        self.document: dict[str, Any] = json.loads(read(self.manifest.config))
        self._blobs = [store.blobs.source(each) for each in self.manifest.layers]

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["config"]
        return found

    @property
    def history(self) -> list[str]:
        return [each["created_by"] for each in self.document["history"]]

    @property
    def diff_ids(self) -> list[str]:
        found: list[str] = self.document["rootfs"]["diff_ids"]
        return found

    def unpacked(self, into: pathlib.Path) -> pathlib.Path:
        """The image's own layers, unpacked anew from their blobs into another store: the topmost folder."""
        from devenv.image import lease

        where = paths.Paths(f"{into}/data", f"{into}/run")
        paths.prepare(where)
        given = tuple(content.Layer(*pair) for pair in zip(self._blobs, self.diff_ids, strict=True))
        found = content.Content("", image_config.ImageConfig(), given)
        with lease.Lease(where) as held:
            return pathlib.Path(snapshot.prepare(where, found, held=held, what="built")[-1].folder)

    def look(self, path: str) -> os.stat_result | None:
        """What the image shows at a path none of whose folders is a link."""
        found = self._shown().find([os.fsencode(part) for part in path.strip("/").split("/")])
        return found.status if found else None

    def read(self, path: str) -> str:
        found = self._shown().find([os.fsencode(part) for part in path.strip("/").split("/")])
        assert found is not None, f"{path} is not in the image"
        assert stat.S_ISREG(found.status.st_mode)
        return pathlib.Path(os.fsdecode(found.path)).read_text()

    def _shown(self) -> Any:
        chain = snapshot.chain(self.diff_ids)
        return layers.look([f"{self._where.data}/layers/{each}/fs" for each in reversed(chain)])

    def top(self) -> set[str]:
        """The names in the topmost layer."""
        folder = f"{self._where.data}/layers/{snapshot.chain(self.diff_ids)[-1]}/fs"
        return {
            os.path.relpath(os.path.join(parent, name), folder)
            for parent, folders, files in os.walk(folder)
            for name in (*folders, *files)
        }
