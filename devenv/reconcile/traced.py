"""Rules by a Dockerfile: what each file of the context is to the image says what to do when it changes.

a file that lies in the image as it is                sync to its place, and restart what reads it but once
a file that a command of the build can have read      rebuild, from the step that copies it
the Dockerfile, its ignore file, a secret's file      rebuild
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence

from devenv import errors
from devenv.build import flow, modes, outline
from devenv.image import config as image_config
from devenv.image import reference
from devenv.image import store as image_store
from devenv.reconcile import building, convert, derived, desired
from devenv.spec import lockfile
from devenv.sync import ignore, reloading, rules


def make(environment: desired.Environment, name: str, machine: derived.Machine) -> list[rules.Rule]:
    """Raises ``DevenvError`` for a Dockerfile that can't be followed."""
    service = environment.services[name]
    given = building.make(
        environment.project,
        name,
        building.Wishes(single_platform=True, environ=machine.environ),
        directory=environment.directory,
        images=_images(environment, machine.store),
        pinned=building.pins({key: each.digest for key, each in lockfile.load(environment.directory).items()}),
    )
    if not outline.is_here(given):
        return []
    found = outline.read(given, where=machine.where, store=machine.store)
    maker = _Maker(name, environment.directory)
    secrets = [each.path for each in given.secrets if each.path]
    about = [*(maker.whole(path, "it says how the image is built") for path in found.files)]
    about += [maker.whole(os.path.realpath(path), "it is a secret of the build") for path in secrets]
    about += [maker.read(piece) for piece in found.pieces if piece.reader is not None]
    verdict = reloading.judge(*_started(service, found.config))
    lying = [piece for piece in found.pieces if piece.lies and piece.reader is None]
    read = rules.Scope("/", _Read(tuple(about)))
    mounted = _mounted(service)
    return about + [
        maker.synced(piece, verdict, (read, rules.Scope("/", _Covered(piece, lying[number + 1 :], mounted))))
        for number, piece in enumerate(lying)
    ]


def _images(environment: desired.Environment, store: image_store.ImageStore) -> dict[str, str]:
    """What services that are built have become, for those that are built upon them."""
    found = {}
    for name, service in environment.services.items():
        if building.is_built(service):
            image = building.image_name(str(environment.project["name"]), name, service)
            stored = store.index.find(reference.parse(image))
            if stored is not None:
                found[name] = stored.target.digest
    return found


def _started(service: convert.Service, config: Mapping[str, object]) -> tuple[Sequence[str], Mapping[str, str]]:
    image = image_config.ImageConfig.parse(config, what="the image")
    try:
        made = convert.process(service, image, hostname="")
    except errors.ContainerError:
        return (), {}
    return made.args, dict(each.partition("=")[::2] for each in made.env)


class _Maker:
    def __init__(self, service: str, directory: str) -> None:
        self._service = service
        self._directory = directory

    def whole(self, path: str, why: str) -> rules.Rule:
        return rules.Rule(service=self._service, action=rules.Action.REBUILD, path=path, why=why)

    def read(self, piece: flow.Piece) -> rules.Rule:
        """What is above the step that copies it stays; all else is done anew."""
        assert piece.reader is not None
        by = f"{_text(piece.reader.name)} ({self._place(piece.reader.place)})"
        return rules.Rule(
            service=self._service,
            action=rules.Action.REBUILD,
            path=piece.top,
            ignored=_scopes(piece),
            flat=piece.flat,
            step=_text(piece.step.name),
            place=self._place(piece.step.place),
            why=f"{by} {piece.why}",
        )

    def synced(self, piece: flow.Piece, verdict: reloading.Verdict, scopes: tuple[rules.Scope, ...]) -> rules.Rule:
        return rules.Rule(
            service=self._service,
            action=rules.Action.SYNC_RESTART if verdict.restart else rules.Action.SYNC,
            path=piece.top,
            target=piece.target.removesuffix("."),
            ignored=(*_scopes(piece), *scopes),
            initial_sync=True,
            flat=piece.flat,
            mode=_mode(piece.chmod),
            step=_text(piece.step.name),
            place=self._place(piece.step.place),
            why=f"no command of the build reads it, and {verdict.why}",
        )

    def _place(self, place: object) -> str:
        file, line = getattr(place, "file", ""), getattr(place, "line", 0)
        return f"{rules.below(self._directory, file) or file}:{line}"


def _text(name: str) -> str:
    """A step's own words, in one line that one can read."""
    text = name.partition("] ")[2] or name
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def _scopes(piece: flow.Piece) -> tuple[rules.Scope, ...]:
    editors = rules.Scope(piece.top, ignore.Patterns(ignore.ALWAYS))
    return (editors, *(rules.Scope(each.base, each.filter) for each in piece.scopes))


def _mode(chmod: Sequence[str]) -> rules.Mode | None:
    if not chmod:
        return None
    changes = [modes.read(text) for text in chmod]

    def applied(mode: int) -> int:
        for change in changes:
            mode = mode & ~0o7777 | change(mode)
        return mode

    return applied


class _Read:
    """What makes a rebuild is not synced besides."""

    def __init__(self, rebuilt: Sequence[rules.Rule]) -> None:
        self._rebuilt = rebuilt

    def match(self, path: str) -> bool:
        return any(rule.covers(f"/{path}") is not None for rule in self._rebuilt if not os.path.isdir(f"/{path}"))

    def prune(self, folder: str) -> bool:
        del folder
        return False


def _mounted(service: convert.Service) -> list[str]:
    """Where volumes hide what the image has: a rebuild would change nothing there either."""
    volumes = [each for each in service.get("volumes") or () if each.get("type") != "bind"]
    targets = [str(each["target"]) for each in volumes]
    tmpfs = service.get("tmpfs") or ()
    targets += [str(each).partition(":")[0] for each in ([tmpfs] if isinstance(tmpfs, str) else tmpfs)]
    return [posixpath.normpath(each) for each in targets]


class _Covered:
    """A later step puts something else there, or a volume lies over it."""

    def __init__(self, piece: flow.Piece, later: Sequence[flow.Piece], mounted: Sequence[str]) -> None:
        self._piece = piece
        self._later = later
        self._mounted = mounted

    def match(self, path: str) -> bool:
        own = f"/{path}"
        inner = rules.below(self._piece.top, own)
        if inner is None or not (self._later or self._mounted):
            return False
        place = _landed(self._piece, inner)
        if any(rules.below(target, place) is not None for target in self._mounted):
            return True
        return any(_is_at(each, place) for each in self._later)

    def prune(self, folder: str) -> bool:
        del folder
        return False


def _landed(piece: flow.Piece, inner: str) -> str:
    name = inner.rpartition("/")[2] if piece.flat else inner
    return f"{piece.place.rstrip('/')}/{name}" if name else piece.place


def _is_at(piece: flow.Piece, place: str) -> bool:
    """Whether one of its files lies there."""
    if not piece.is_folder:
        return piece.place == place
    inner = rules.below(piece.place, place)
    if not inner:
        return False
    path = f"{piece.top}/{inner}"
    there = os.path.lexists(path) and not os.path.isdir(path)
    return there and not any(rules.Scope(each.base, each.filter).match(path) for each in piece.scopes)
