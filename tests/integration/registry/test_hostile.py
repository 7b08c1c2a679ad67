"""A registry that wants to do harm, and accidents that look the same: whatever it sends, the store is as it was."""

from __future__ import annotations

import functools
import gzip
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devenv import errors
from devenv.cli import settings, transfers
from devenv.image import descriptor, pull
from devenv.image import store as image_store
from devenv.image.registry import client, connections, fetcher
from devenv.util import paths
from tests import ocilayout
from tests.integration.registry import conftest
from tests.support import fake_registry, runner
from tests.support.polling import eventually

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TAR = ocilayout.tar({"etc/motd": "hello\n", "noise": os.urandom(200_000).hex()})
DATA = gzip.compress(TAR, 1, mtime=0)
ZERO = "sha256:" + "0" * 64


class Image:
    """A good image in a registry, before something is changed."""

    def __init__(self, registry: fake_registry.Registry) -> None:
        self.registry = registry
        self.layer = registry.add_blob(DATA, LAYER)
        config = {
            "architecture": ocilayout.architecture(),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [fake_registry.digest(TAR)]},
        }
        self.config = registry.add_blob(json.dumps(config).encode(), descriptor.OCI_CONFIG)
        self.manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": descriptor.OCI_MANIFEST,
            "config": self.config,
            "layers": [self.layer],
        }

    def offer(self, **changes: Any) -> dict[str, Any]:
        return self.registry.add_manifest({**self.manifest, **changes}, tag="1")

    def index(self, entries: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        value = {"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": entries, **more}
        return self.registry.add_manifest(value, tag="1", kind=descriptor.OCI_INDEX)


@pytest.fixture
def image(registry: fake_registry.Registry) -> Image:
    return Image(registry)


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))


@pytest.fixture
def take(where: paths.Paths, environ: dict[str, str], registry: fake_registry.Registry) -> Iterator[Callable[[], Any]]:
    store = image_store.ImageStore(where)

    def pull_it() -> Any:
        talk = client.Client(environ, policy=conftest.QUICK)
        try:
            pull.Puller(where, store, talk).pull(f"{registry.host}/x:1")
            return store.resolve(f"{registry.host}/x:1", base="/")
        finally:
            talk.close()

    yield pull_it
    store.close()


def files(where: paths.Paths, folder: str) -> list[str]:
    path = f"{where.data}/{folder}"
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def assert_clean(where: paths.Paths) -> None:
    """No name, no unpacked layer, nothing half made."""
    assert image_store.ImageStore(where).index.images() == []
    assert files(where, "layers") == []
    assert files(where, "stage") == []


def test_the_good_one(image: Image, take: Callable[[], Any]) -> None:
    image.offer()
    assert pathlib.Path(take().lower[0], "etc/motd").read_text() == "hello\n"


def test_the_same_layer_twice(image: Image, take: Callable[[], Any]) -> None:
    config = json.loads(image.registry.blobs[image.config["digest"]])
    config["rootfs"]["diff_ids"] *= 2
    twice = image.registry.add_blob(json.dumps(config).encode(), descriptor.OCI_CONFIG)
    image.offer(config=twice, layers=[image.layer, image.layer])
    assert pathlib.Path(take().lower[0], "etc/motd").read_text() == "hello\n"
    assert len([path for path in image.registry.paths() if image.layer["digest"] in path]) == 1


def swap(image: Image, wanted: dict[str, Any], data: bytes) -> None:
    image.registry.blobs[wanted["digest"]] = data


def other_layer(image: Image) -> None:
    swap(image, image.layer, DATA[:-1] + b"x")
    image.offer()


def other_config(image: Image) -> None:
    swap(image, image.config, b" " * image.config["size"])
    image.offer()


def longer_layer(image: Image) -> None:
    swap(image, image.layer, DATA + b"x")
    image.offer()


def diff_id(image: Image) -> None:
    config = json.loads(image.registry.blobs[image.config["digest"]])
    config["rootfs"]["diff_ids"] = [ZERO]
    image.offer(config=image.registry.add_blob(json.dumps(config).encode(), descriptor.OCI_CONFIG))


def escape(image: Image) -> None:
    stream = ocilayout.tar({"../../escape": "x"})
    config = json.loads(image.registry.blobs[image.config["digest"]])
    config["rootfs"]["diff_ids"] = [fake_registry.digest(stream)]
    layer = image.registry.add_blob(gzip.compress(stream), LAYER)
    image.offer(config=image.registry.add_blob(json.dumps(config).encode(), descriptor.OCI_CONFIG), layers=[layer])


def nested(image: Image) -> None:
    entry = image.offer()
    for _ in range(6):
        entry = image.index([entry])


def index_for_manifest(image: Image) -> None:
    image.index([{**image.index([image.offer()]), "mediaType": descriptor.OCI_MANIFEST}])


CASES: dict[str, tuple[Callable[[Image], Any], str]] = {
    "another layer": (other_layer, "what arrived has the digest"),
    "another config": (other_config, "what arrived has the digest"),
    "a longer layer": (longer_layer, "its descriptor says"),
    "another tar stream": (diff_id, "unpacks to"),
    "a way out": (escape, "is refused"),
    "deep indexes": (nested, "nested more than 4 deep"),
    "an index called a manifest": (index_for_manifest, "says different things"),
    "manifest and index": (lambda image: image.offer(manifests=[]), "a manifest and an index at once"),
    "index and manifest": (lambda image: image.index([image.offer()], layers=[]), "an index and a manifest at once"),
    "no platform": (lambda image: image.index([]), "no image for linux/"),
    "an artifact": (
        lambda image: image.offer(config={**image.config, "mediaType": "application/vnd.x"}),
        "not a container image|unknown media type|is no image",
    ),
    "10,000 layers": (lambda image: image.offer(layers=[image.layer] * 10_001), "of a reasonable length"),
    "more layers than said": (lambda image: image.offer(layers=[image.layer] * 600), "has 600 layers"),
    "another algorithm": (
        lambda image: image.offer(layers=[{**image.layer, "digest": "md5:x"}]),
        "not a sha256 digest",
    ),
    "a path": (lambda image: image.offer(layers=[{**image.layer, "digest": "sha256:../../x"}]), "not a sha256 digest"),
    "a layer that lacks": (lambda image: image.offer(layers=[{**image.layer, "digest": ZERO}]), "has no blob"),
    "a config that lacks": (lambda image: image.offer(config={**image.config, "digest": ZERO}), "has no blob"),
    "a size that lies": (lambda image: image.offer(layers=[{**image.layer, "size": 1 << 50}]), "its descriptor says"),
    "a huge config": (lambda image: image.offer(config={**image.config, "size": 1 << 30}), "larger than"),
    "two sizes": (
        lambda image: image.offer(layers=[image.layer, {**image.layer, "size": 7}]),
        "two sizes|has 2 layers",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_and_nothing_is_left(
    image: Image, take: Callable[[], Any], where: paths.Paths, case: str, tmp_path: pathlib.Path
) -> None:
    change, message = CASES[case]
    change(image)
    with pytest.raises(errors.ImageError, match=message) as caught:
        take()
    assert caught.value.message.startswith(f"image `{image.registry.host}/x:1`")
    assert_clean(where)
    assert not (tmp_path / "escape").exists()


def test_a_name_stays_what_it_was_when_the_new_one_is_bad(
    image: Image, take: Callable[[], Any], where: paths.Paths
) -> None:
    good = image.offer()
    take()
    image.offer(layers=[{**image.layer, "digest": ZERO}])
    with pytest.raises(errors.ImageError):
        take()
    (kept,) = image_store.ImageStore(where).index.images()
    assert (kept.target.digest, kept.tags) == (good["digest"], (f"{image.registry.host}/x:1",))


def test_wrong_bytes_of_a_mirror_come_from_the_registry(
    image: Image, take: Callable[[], Any], environ: dict[str, str]
) -> None:
    image.offer()
    with fake_registry.running() as mirror:
        bad = Image(mirror)
        bad.offer()
        swap(bad, bad.layer, bytes(len(DATA)))
        config = pathlib.Path(environ["HOME"], ".config/devenv/config.toml")
        config.parent.mkdir(parents=True)
        config.write_text(f'registries."{image.registry.host}".mirrors = ["{mirror.url}"]\n')
        assert pathlib.Path(take().lower[0], "etc/motd").read_text() == "hello\n"


def test_torn_remains_of_a_crash_are_thrown_away(image: Image, take: Callable[[], Any], where: paths.Paths) -> None:
    """A power cut may leave a part of a blob that has its length and not its content."""
    image.offer()
    os.makedirs(f"{where.data}/ingest")
    path = pathlib.Path(where.data, "ingest", image.layer["digest"].removeprefix("sha256:"))
    path.write_bytes(bytes(100_000))
    assert pathlib.Path(take().lower[0], "etc/motd").read_text() == "hello\n"


# -- slowness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["head", "body"])
def test_who_sends_a_byte_at_a_time(
    image: Image, take: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Each byte in time, and yet never an end."""
    monkeypatch.setattr(connections, "HEAD_PATIENCE", 0.5)
    monkeypatch.setattr(connections.Connections.request, "__kwdefaults__", {"patience": 0.5})
    monkeypatch.setattr(fetcher, "_SLOW_PATIENCE", 0.5)
    image.offer()
    over = threading.Event()

    def drip(handler: fake_registry.Handler) -> bool:
        if image.layer["digest"] not in handler.path:
            return False
        handler.close_connection = True
        if place == "body":
            handler.send(200, b"", Content_Length=str(len(DATA)))
        while not over.wait(0.02):
            handler.wfile.write(b"H")
            handler.wfile.flush()
        return True

    image.registry.rules.append(drip)
    with pytest.raises(errors.ImageError, match=r"too slowly|no answer in time"):
        take()
    over.set()


# -- processes --------------------------------------------------------------------------------------------------------


def stall(image: Image, after: int, over: threading.Event) -> threading.Event:
    """The layer's first transfer stands still after so many bytes."""
    begun = threading.Event()

    def rule(handler: fake_registry.Handler) -> bool:
        if image.layer["digest"] not in handler.path or begun.is_set():
            return False
        handler.send(200, DATA[:after], Content_Length=str(len(DATA)))
        handler.wfile.flush()
        begun.set()
        over.wait(60)
        handler.close_connection = True
        return True

    image.registry.rules.append(rule)
    return begun


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_pull_is_gone_on_with(devenv: runner.Devenv, registry: fake_registry.Registry, number: int) -> None:
    image, over = Image(registry), threading.Event()
    image.offer()
    begun = stall(image, 60_000, over)
    process = devenv.start("image", "pull", f"{registry.host}/x:1")
    assert begun.wait(60)
    where = paths.Paths(devenv.data, devenv.run_directory)
    name = image.layer["digest"].removeprefix("sha256:")
    eventually(lambda: os.stat(f"{where.data}/ingest/{name}").st_size == 60_000, 30)
    process.send_signal(number)
    assert process.wait(30) != 0
    over.set()
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()
    process.stdout.close()
    if number == signal.SIGINT:
        assert_clean(where)  # the others leave a folder that the next one sweeps
    devenv("image", "pull", f"{registry.host}/x:1")
    asked = [request for request in registry.requests if image.layer["digest"] in request.path]
    assert asked[-1].headers["range"] == "bytes=60000-"
    assert files(where, "stage") == []
    assert files(where, "ingest") == []


def test_an_interrupt_before_the_last_transfer_has_begun(
    image: Image, where: paths.Paths, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image.offer()
    over = threading.Event()
    begun = stall(image, 60_000, over)
    for name, value in {**environ, "DEVENV_DATA_HOME": where.data, "DEVENV_RUNTIME_DIR": where.run}.items():
        monkeypatch.setenv(name, value)

    def jobs(running: transfers.Transfers) -> Iterator[Callable[[], Any]]:
        yield functools.partial(running.puller.pull, f"{image.registry.host}/x:1")
        assert begun.wait(60)
        raise KeyboardInterrupt

    start = time.monotonic()
    quiet = settings.Globals(progress=settings.Progress.QUIET)
    with transfers.Transfers(quiet, title="pull") as running, pytest.raises(KeyboardInterrupt):
        running.all(jobs(running))
    assert time.monotonic() - start < 30
    over.set()


def test_two_commands_fetch_a_layer_once(devenv: runner.Devenv, registry: fake_registry.Registry) -> None:
    image, over = Image(registry), threading.Event()
    image.offer()
    begun = stall(image, 60_000, over)
    first = devenv.start("image", "pull", f"{registry.host}/x:1")
    assert begun.wait(60)
    second = devenv.start("image", "pull", f"{registry.host}/x:1", stderr=subprocess.PIPE)
    assert second.stderr is not None
    assert any("Waiting  for another process" in line for line in iter(second.stderr.readline, ""))
    over.set()
    for each in (first, second):
        assert each.wait(60) == 0
        for stream in (each.stdout, each.stderr):
            if stream is not None:
                stream.close()
    asked = [request.headers.get("range") for request in registry.requests if image.layer["digest"] in request.path]
    assert asked == [None, "bytes=60000-"]
