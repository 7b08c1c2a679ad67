"""Images that a rebuild has left without a name and without a container."""

from __future__ import annotations

from collections.abc import Collection

from devenv.image import catalog, gc
from devenv.image import store as image_store
from devenv.reconcile import record
from devenv.util import paths


def remove(where: paths.Paths, store: image_store.ImageStore, ids: Collection[str]) -> None:
    """Of ``ids``, which containers had before; one that still has a name, or is used by any project's, stays."""
    used = {image_id for made in record.load_all(where) for image_id in made.image_ids}
    left = set(ids) - used
    gone = [
        entry.stored.target.digest
        for entry in (catalog.Catalog(where, store).entries() if left else ())
        if entry.id in left and not entry.stored.tags
    ]
    for digest in gone:
        store.index.remove(digest)
    if gone:
        gc.collect(where)
