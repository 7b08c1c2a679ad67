"""What the commands about images share: the store, opened as whoever may write in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from devenv.cli import terminal
from devenv.image import catalog, descriptor, naming, reference, store
from devenv.supervisor import engine, launch
from devenv.util import paths


class Images(NamedTuple):
    where: paths.Paths
    store: store.ImageStore
    catalog: catalog.Catalog

    @classmethod
    def open(cls) -> Images:
        """To look. Nothing is made but an empty index."""
        where = paths.locate()
        launch.make_folders(where)
        opened = store.ImageStore(where)
        return cls(where, opened, catalog.Catalog(where, opened))

    @classmethod
    def change(cls) -> Images:
        """Also to unpack and to remove what is unpacked, which takes the user namespace that it belongs to."""
        where = paths.locate()
        launch.make_folders(where)
        engine.share_user_namespace(where)
        opened = store.ImageStore(where)
        return cls(where, opened, catalog.Catalog(where, opened))

    def keep(self, target: descriptor.Descriptor, name: reference.Reference | None) -> None:
        """An image that was made, under its name if it has one. Prints its id. The caller holds its lease."""
        warn_moved(self.store.index.put(target, tags=[str(name)] if name else []))
        print(next(each.id for each in self.catalog.entries() if each.stored.target.digest == target.digest))


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def warn_moved(moved: Mapping[str, str]) -> None:
    """Of names that another image had: tag -> its digest."""
    for tag, digest in sorted(moved.items()):
        terminal.warn(naming.moved(tag, digest))
