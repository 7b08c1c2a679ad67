"""Which images the store keeps, under which names.

    <data>/devenv.db          images, tags, and the repositories that are known to have them; SQLite, WAL
    <data>/devenv.db.lock     held by whoever changes something
    <data>/names.json         the same for people, and to make the database again if it is lost or broken

An image goes by the digest of what its name leads to, a manifest or an index, which is what a registry says too. A row
in ``images`` keeps its blobs and layers from garbage collection; one without tags stays until somebody prunes it.
``names.json`` is written before a change of them is committed, so its timestamp tells without the database whether a
name may have moved.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from devenv import errors
from devenv.image import descriptor, names, reference
from devenv.util import fs, lock, paths

if TYPE_CHECKING:
    import sqlite3

VERSION = 1

_T = TypeVar("_T")

_TABLES = """
CREATE TABLE IF NOT EXISTS images (
    digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, added REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tags (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE, checked REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS repositories (
    name TEXT NOT NULL, digest TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE, PRIMARY KEY (name, digest)
) STRICT;
"""


class Index:
    def __init__(self, where: paths.Paths) -> None:
        self._where = where
        self._path = f"{where.data}/devenv.db"
        self._names = names.path(where)

    # -- looking ----------------------------------------------------------------------------------------------

    def images(self) -> list[names.Stored]:
        """The newest first."""
        return self._read(_images)

    def find(self, wanted: reference.Reference) -> names.Stored | None:
        """By digest if the reference has one, which Docker too prefers to its tag."""
        repository = f"{wanted.registry}/{wanted.repository}"
        for image in self.images():
            if wanted.digest:
                if image.target.digest == wanted.digest and repository in image.repositories:
                    return image
            elif f"{repository}:{wanted.tag}" in image.tags:
                return image
        return None

    def checked(self, tag: str) -> float | None:
        """When it was last seen, in a registry or elsewhere, that the tag means what it means here."""

        def query(database: sqlite3.Connection) -> float | None:
            row = database.execute("SELECT checked FROM tags WHERE name = ?", (tag,)).fetchone()
            return None if row is None else float(row[0])

        return self._read(query)

    # -- changing ---------------------------------------------------------------------------------------------

    def put(
        self, target: descriptor.Descriptor, *, tags: Iterable[str] = (), repositories: Iterable[str] = ()
    ) -> dict[str, str]:
        """Keep an image, whose blobs are in the store under a lease. Tags that moved, with the digests they had."""
        with self._changing() as database:
            before = {tag: image.target.digest for image in _images(database) for tag in image.tags}
            wanted = tuple(tags)
            _insert(database, names.Stored(target, wanted, tuple(repositories), time.time()))
            return {tag: before[tag] for tag in wanted if before.get(tag, target.digest) != target.digest}

    def untag(self, tag: str) -> names.Stored | None:
        """What had it, as it was. The image itself stays."""
        with self._changing() as database:
            found = next((image for image in _images(database) if tag in image.tags), None)
            database.execute("DELETE FROM tags WHERE name = ?", (tag,))
        return found

    def remove(self, digest: str) -> None:
        """The image with all its names; what nothing else needs is left to the collector."""
        with self._changing() as database:
            database.execute("DELETE FROM images WHERE digest = ?", (digest,))

    # -- the database -----------------------------------------------------------------------------------------

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        import sqlite3

        if os.path.exists(self._path):
            try:
                with contextlib.closing(self._connect()) as database:
                    return query(database)
            except sqlite3.DatabaseError:
                pass  # looked at again with the lock, and mended
        with self._locked(), contextlib.closing(self._open()) as database:
            return query(database)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._locked(), contextlib.closing(self._open()) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                before = _images(database)
                yield database
                after = _images(database)
                if after != before or not os.path.exists(self._names):
                    fs.write_json(self._names, names.to_json(after), durable=True)
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._where.data, mode=0o700, exist_ok=True)
        with lock.held(f"{self._path}.lock"):
            yield

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        database.execute("PRAGMA foreign_keys = ON")
        return database

    def _open(self) -> sqlite3.Connection:
        """With the lock held: what is missing or broken is made again."""
        import sqlite3

        fresh = not os.path.exists(self._path)
        try:
            return self._prepared(fresh=fresh)
        except sqlite3.OperationalError as exc:
            raise errors.ImageError(f"`{self._path}` can't be used: {exc}", hint=f"df -h {self._where.data}") from exc
        except sqlite3.DatabaseError:
            aside = f"{self._path}.broken"
            os.replace(self._path, aside)
            for suffix in ("-wal", "-shm"):
                fs.remove(self._path + suffix)
            return self._prepared(fresh=True)

    def _prepared(self, *, fresh: bool) -> sqlite3.Connection:
        database = self._connect()
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise errors.ImageError(f"`{self._path}` was made by a newer devenv")
            if not fresh and version == VERSION:
                _check(database)
                return database
            # A database that was never finished holds nothing: all of it comes in one transaction.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";"):
                database.execute(statement)
            for image in names.find(self._where):
                _insert(database, image)
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database


def _check(database: sqlite3.Connection) -> None:
    import sqlite3

    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _images(database: sqlite3.Connection) -> list[names.Stored]:
    tags = _grouped(database.execute("SELECT digest, name FROM tags ORDER BY name"))
    repositories = _grouped(database.execute("SELECT digest, name FROM repositories ORDER BY name"))
    rows = database.execute("SELECT digest, media_type, size, added FROM images ORDER BY added DESC, digest")
    return [
        names.Stored(
            descriptor.Descriptor(media_type, digest, size),
            tuple(tags.get(digest, ())),
            tuple(repositories.get(digest, ())),
            added,
        )
        for digest, media_type, size, added in rows
    ]


def _grouped(rows: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for digest, name in rows:
        found.setdefault(digest, []).append(name)
    return found


def _insert(database: sqlite3.Connection, image: names.Stored) -> None:
    target = image.target
    database.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (target.digest, target.media_type, target.size, image.added),
    )
    for tag in image.tags:
        database.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (tag, target.digest, image.added))
    for name in image.repositories:
        database.execute("INSERT OR IGNORE INTO repositories VALUES (?, ?)", (name, target.digest))
