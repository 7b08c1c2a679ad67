"""Against docker-registry, the reference implementation, with skopeo as the witness: what one brings the other finds,
byte for byte."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
from collections.abc import Iterator

import pytest

from devenv import errors
from devenv.image import descriptor, pull, push, reference
from devenv.image import store as image_store
from devenv.image.registry import client, credentials
from devenv.util import paths
from tests import ocilayout
from tests.integration.registry import conftest
from tests.integration.registry.test_resolving import certificate
from tests.support import distribution, machine

pytestmark = [distribution.needed, machine.needs_binary("skopeo")]

KINDS = f"{descriptor.OCI_INDEX},{descriptor.OCI_MANIFEST},{descriptor.DOCKER_INDEX},{descriptor.DOCKER_MANIFEST}"
NOISE = random.Random(5).randbytes(3_000_000).hex()[:3_000_000]  # what gzip leaves at half its size


class Here:
    """A store of one's own, and what one does with it."""

    def __init__(self, folder: pathlib.Path, environ: dict[str, str]) -> None:
        self.where = paths.Paths(str(folder / "data"), str(folder / "run"))
        self.store = image_store.ImageStore(self.where)
        self.environ = environ
        self.seen: list[str] = []

    def pull(self, text: str, platform: str = "") -> pull.Pulled:
        talk = client.Client(self.environ, policy=conftest.QUICK)
        try:
            puller = pull.Puller(self.where, self.store, talk, emit=lambda event: self.seen.append(event.text))
            return puller.pull(text, wanted_platform=platform)
        finally:
            talk.close()

    def push(self, text: str, platform: str = "") -> descriptor.Descriptor:
        talk = client.Client(self.environ, policy=conftest.QUICK)
        try:
            return push.Pusher(self.where, self.store, talk).push(text, wanted_platform=platform)
        finally:
            talk.close()

    def tag(self, source: str, name: str) -> None:
        found = self.store.index.find(reference.parse(source))
        assert found is not None
        self.store.index.put(found.target, tags=[str(reference.parse(name))])

    def blobs(self) -> dict[str, bytes]:
        folder = pathlib.Path(self.where.data, "blobs/sha256")
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}

    def leftovers(self) -> list[str]:
        return [
            f"{folder}/{name}"
            for folder in ("ingest", "stage", "leases")
            for name in (
                os.listdir(f"{self.where.data}/{folder}") if os.path.isdir(f"{self.where.data}/{folder}") else ()
            )
        ]

    def close(self) -> None:
        self.store.held.release()


@pytest.fixture
def here(tmp_path: pathlib.Path, environ: dict[str, str]) -> Iterator[Here]:
    made = Here(tmp_path / "here", environ)
    yield made
    made.close()


@pytest.fixture
def there(tmp_path: pathlib.Path, environ: dict[str, str]) -> Iterator[Here]:
    made = Here(tmp_path / "there", environ)
    yield made
    made.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with distribution.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One image of three layers."""
    path = tmp_path_factory.mktemp("layout")
    layers = [{"etc/motd": "hello\n"}, {"noise": NOISE}, {"etc/motd": "bye\n", "empty": ""}]
    ocilayout.write_layout(path, layers=layers, config={"Cmd": ["a"]}, ref="latest")
    return path


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offer(layout: pathlib.Path, name: str, *options: str) -> None:
    skopeo("copy", "-q", "--all", "--dest-tls-verify=false", *options, f"oci:{layout}:latest", f"docker://{name}")


def content_of(layout: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


def motd(here: Here, text: str) -> str:
    image = here.store.resolve(text, base="/")
    return pathlib.Path(image.lower[0], "etc/motd").read_text()


def test_what_skopeo_pushed_is_pulled(here: Here, host: str, layout: pathlib.Path) -> None:
    name = f"{host}/team/one:1"
    offer(layout, name)
    pulled = here.pull(name)
    assert pulled.fresh
    assert here.blobs() == content_of(layout)
    assert motd(here, name) == "bye\n"
    assert here.store.resolve(name, base="/").config.cmd == ("a",)
    assert pulled.target.digest == json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    assert here.store.resolve(f"{host}/team/one@{pulled.target.digest}", base="/").config.cmd == ("a",)
    again = here.pull(name)
    assert (again.fresh, again.target) == (False, pulled.target)
    here.close()
    here.store = image_store.ImageStore(here.where)
    assert here.leftovers() == []


def test_what_is_pushed_skopeo_pulls(here: Here, host: str, layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source, target = f"{host}/team/two:1", f"{host}/other/two:2"
    offer(layout, source)
    here.pull(source)
    here.tag(source, target)
    here.push(target)
    skopeo("copy", "-q", "--all", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/out:latest")
    assert content_of(tmp_path / "out") == content_of(layout)


def test_to_another_registry(here: Here, there: Here, host: str, layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Not by a mount: every byte goes."""
    offer(layout, f"{host}/x:1")
    here.pull(f"{host}/x:1")
    with distribution.running(tmp_path) as other:
        here.tag(f"{host}/x:1", f"{other}/deep/er/x:1")
        pushed = here.push(f"{other}/deep/er/x:1")
        assert there.pull(f"{other}/deep/er/x:1").target.digest == pushed.digest
        assert there.blobs() == here.blobs() == content_of(layout)


def test_a_large_layer_goes_in_pieces(
    here: Here, host: str, layout: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devenv.image.registry import pusher

    offer(layout, f"{host}/pieces/a:1")
    here.pull(f"{host}/pieces/a:1")
    talk = client.Client(here.environ, policy=conftest.QUICK)
    wanted = reference.parse(f"{host}/pieces/b:1")
    out = talk.pusher(wanted)
    monkeypatch.setattr(out, "_piece", 200_000)
    assert isinstance(out, pusher.Pusher)
    big = max(here.blobs().items(), key=lambda item: len(item[1]))
    blob = descriptor.Descriptor("", f"sha256:{big[0]}", len(big[1]))
    assert out.blob(blob, here.store.blobs.path(blob)) == "pushed"
    assert out.blob(blob, here.store.blobs.path(blob)) == "exists"
    assert (
        talk.pusher(reference.parse(f"{host}/pieces/c:1")).blob(
            blob, here.store.blobs.path(blob), mount_from="pieces/b"
        )
        == "mounted"
    )
    talk.close()
    assert distribution.get(host, f"/v2/pieces/c/blobs/{blob.digest}") == big[1]


def test_an_index_of_platforms(here: Here, there: Here, host: str, tmp_path: pathlib.Path) -> None:
    writer = ocilayout.Writer(tmp_path / "many")
    own = ocilayout.architecture()
    images = [
        writer.image([{"etc/motd": f"{name}\n"}], {}, arch=name, platform={"os": "linux", "architecture": name})
        for name in (own, "s390x")
    ]
    index = writer.json(
        {"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": images}, descriptor.OCI_INDEX
    )
    writer.index([{**index, "annotations": {"org.opencontainers.image.ref.name": "latest"}}])
    name = f"{host}/many/x:1"
    offer(tmp_path / "many", name)
    assert here.pull(name).target.digest == index["digest"]
    assert motd(here, name) == f"{own}\n"
    with pytest.raises(errors.ImageError, match="no image for linux/riscv64") as caught:
        here.pull(name, platform="linux/riscv64")
    assert caught.value.hint == f"it has {', '.join(sorted(f'linux/{each}' for each in (own, 's390x')))}"
    # Where the registry has the rest, the index goes out as it came; elsewhere what is here takes the name.
    here.tag(name, f"{host}/many/x:2")
    assert here.push(f"{host}/many/x:2").digest == index["digest"]
    here.tag(name, f"{host}/few/x:1")
    assert here.push(f"{host}/few/x:1").digest == images[0]["digest"]
    here.pull(name, platform="s390x")
    here.tag(name, f"{host}/all/x:1")
    assert here.push(f"{host}/all/x:1").digest == index["digest"]
    assert there.pull(f"{host}/all/x:1", platform="linux/s390x").target.digest == index["digest"]


def test_an_image_of_another_platform_alone(here: Here, host: str, layout: pathlib.Path) -> None:
    offer(layout, f"{host}/alone:1")
    with pytest.raises(errors.ImageError, match="linux/s390x is asked for"):
        here.pull(f"{host}/alone:1", platform="linux/s390x")
    with pytest.raises(errors.ImageError, match="is no platform"):
        here.pull(f"{host}/alone:1", platform="windows/amd64")


def test_docker_manifests(here: Here, host: str, layout: pathlib.Path) -> None:
    name = f"{host}/docker:1"
    offer(layout, name, "--format", "v2s2")
    pulled = here.pull(name)
    assert pulled.target.media_type == descriptor.DOCKER_MANIFEST
    assert motd(here, name) == "bye\n"
    here.tag(name, f"{host}/docker:2")
    here.push(f"{host}/docker:2")
    assert distribution.get(host, "/v2/docker/manifests/2", KINDS) == distribution.get(
        host, "/v2/docker/manifests/1", KINDS
    )


def test_with_a_login_and_tls(here: Here, layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pair = certificate(tmp_path, "localhost")
    with distribution.running(tmp_path, login=True, tls=pair) as host:
        trusted = pathlib.Path(here.environ["HOME"], ".config/devenv/certs.d", host)
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(pair[0].read_bytes())
        offer(layout, f"{host}/x:1", "--dest-creds", f"{distribution.USER}:{distribution.PASSWORD}")
        with pytest.raises(errors.ImageError, match=f"image `{host}/x:1`: .* does not let anonymous users"):
            here.pull(f"{host}/x:1")
        talk = client.Client(here.environ, policy=conftest.QUICK)
        given = credentials.Credential(distribution.USER, distribution.PASSWORD)
        talk.check_login(host, given)
        with pytest.raises(errors.ImageError, match="does not let me do this"):
            talk.check_login(host, given._replace(password="wrong"))
        talk.close()
        credentials.save(host, given, here.environ)
        here.pull(f"{host}/x:1")
        here.tag(f"{host}/x:1", f"{host}/y:1")
        here.push(f"{host}/y:1")
        skopeo(
            "inspect",
            "--tls-verify=false",
            "--creds",
            f"{distribution.USER}:{distribution.PASSWORD}",
            f"docker://{host}/y:1",
        )


def test_a_pull_through_mirror(here: Here, host: str, layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    offer(layout, f"{host}/library/behind:1")
    with distribution.running(tmp_path, proxy_of=f"http://{host}") as mirror:
        config = pathlib.Path(here.environ["HOME"], ".config/devenv/config.toml")
        config.parent.mkdir(parents=True)
        config.write_text(f'registries."docker.io".mirrors = ["http://{mirror}"]\n')
        here.pull("behind:1")
        assert motd(here, "behind:1") == "bye\n"
        assert here.blobs() == content_of(layout)


# -- cuts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 17, 300, 900, 5_000, 70_000, 300_000, 1_000_000, 1_400_000])
def test_a_cut_anywhere_is_got_over(here: Here, host: str, layout: pathlib.Path, at: int) -> None:
    """Each of the first connections breaks after so many bytes, wherever in a pull that is."""
    offer(layout, f"{host}/cut:1")
    with distribution.Wire(int(host.rpartition(":")[2]), [at] * 3) as wire:
        here.pull(f"localhost:{wire.port}/cut:1")
    assert here.blobs() == content_of(layout)


def test_a_pull_that_failed_is_gone_on_with(here: Here, host: str, layout: pathlib.Path) -> None:
    offer(layout, f"{host}/fails:1")
    big = max(len(data) for data in content_of(layout).values())
    with distribution.Wire(int(host.rpartition(":")[2]), [50_000] * 100) as wire:
        name = f"localhost:{wire.port}/fails:1"
        talk = client.Client(here.environ, policy=conftest.QUICK._replace(attempts=1))
        with pytest.raises(errors.ImageError, match=r"ended after|can't be reached"):
            pull.Puller(here.where, here.store, talk).pull(name)
        talk.close()
        assert here.store.index.images() == []
        (partial,) = [
            path for path in pathlib.Path(here.where.data, "ingest").iterdir() if path.stat().st_size > 10_000
        ]
        there = partial.stat().st_size
        assert 10_000 < there < big
        wire.budgets.clear()
        here.pull(name)
    assert here.blobs() == content_of(layout)
    assert not list(pathlib.Path(here.where.data, "ingest").iterdir())


def test_two_at_once(
    here: Here, environ: dict[str, str], tmp_path: pathlib.Path, host: str, layout: pathlib.Path
) -> None:
    offer(layout, f"{host}/both:1")
    others = [Here(tmp_path / "here", environ) for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: each.pull(f"{host}/both:1").target, [here, *others]))
    assert len(set(map(str, found))) == 1
    assert here.blobs() == content_of(layout)
    for each in others:
        each.close()
