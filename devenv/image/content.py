"""An image's content before it is unpacked: its config, and where the bytes of its layers are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import config as image_config
from devenv.image import descriptor, platform, source

LAYER_LIMIT = 500  # OVL_MAX_STACK of overlayfs: an image of more layers can't be mounted


class Layer(NamedTuple):
    source: source.Source
    diff_id: str  # of the tar stream
    digest: str | None = None  # of the file, when somebody said and the source doesn't verify it by itself
    size: int | None = None


class Content(NamedTuple):
    digest: str  # of the config: the image's id
    config: image_config.ImageConfig
    layers: tuple[Layer, ...]  # the lowest first
    notes: tuple[str, ...] = ()


def read_file(path: str, *, what: str, limit: int = descriptor.JSON_LIMIT) -> bytes:
    """A small file, whole. Never waits for a fifo, never reads a device."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as exc:
        raise errors.ImageError(f"{what}: `{path}` is missing") from exc
    except OSError as exc:
        raise errors.ImageError(f"{what}: `{path}` can't be read: {exc.strerror}") from exc
    with open(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise errors.ImageError(f"{what}: `{path}` is not a regular file")
        if status.st_size > limit:
            raise errors.ImageError(f"{what}: `{path}` is larger than {limit} bytes")
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise errors.ImageError(f"{what}: `{path}` is larger than {limit} bytes")
    return data


def load_json(data: bytes, *, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise errors.ImageError(f"{what} is not JSON") from exc


def parse_json(data: bytes, *, what: str) -> Mapping[str, Any]:
    value = load_json(data, what=what)
    if not isinstance(value, Mapping):
        raise errors.ImageError(f"{what} is not a JSON object")
    return value


def parse_config(data: bytes, *, what: str) -> tuple[image_config.ImageConfig, list[str], tuple[str, ...]]:
    """The config, the diff_ids of its layers, and what is odd about it."""
    return parse_config_value(parse_json(data, what=f"{what}: its config"), what=what)


def parse_config_value(
    given: Mapping[str, Any], *, what: str
) -> tuple[image_config.ImageConfig, list[str], tuple[str, ...]]:
    rootfs = given.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list):
        raise errors.ImageError(f"{what}: `rootfs.diff_ids` of its config is not a list")
    checked = [descriptor.check_digest(diff_id, what=f"{what}: `rootfs.diff_ids`") for diff_id in diff_ids]
    return image_config.ImageConfig.parse(given.get("config"), what=what), checked, _notes(given)


def _notes(given: Mapping[str, Any]) -> tuple[str, ...]:
    system, machine = given.get("os") or "linux", given.get("architecture") or ""
    own, _ = platform.architecture()
    if system != "linux" or (machine and machine != own):
        return (f"the image is made for {system}/{machine}, this machine is linux/{own}",)
    return ()


def assemble(config_data: bytes, layers: list[Layer], *, what: str) -> Content:
    """Check that config and layers belong together; the diff_ids of ``layers`` are taken from the config."""
    config, diff_ids, notes = parse_config(config_data, what=what)
    if len(diff_ids) != len(layers):
        raise errors.ImageError(f"{what}: its manifest has {len(layers)} layers, its config {len(diff_ids)}")
    if len(layers) > LAYER_LIMIT:
        raise errors.ImageError(f"{what} has {len(layers)} layers; the kernel mounts up to {LAYER_LIMIT}")
    named = tuple(layer._replace(diff_id=diff_id) for layer, diff_id in zip(layers, diff_ids, strict=True))
    digest = "sha256:" + hashlib.sha256(config_data).hexdigest()
    return Content(digest, config, named, notes)
