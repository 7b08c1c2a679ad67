from __future__ import annotations

import time

import pytest

from devenv import errors
from devenv.image import reference

SHA = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("redis:7-alpine", "docker.io/library/redis:7-alpine", "redis:7-alpine"),
        ("library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("index.docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("bitnami/redis:7", "docker.io/bitnami/redis:7", "bitnami/redis:7"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
        (f"redis@{SHA}", f"docker.io/library/redis@{SHA}", f"redis@{SHA}"),
        (f"redis:7@{SHA}", f"docker.io/library/redis:7@{SHA}", f"redis:7@{SHA}"),
        (f"ghcr.io/x/y@{SHA512}", f"ghcr.io/x/y@{SHA512}", f"ghcr.io/x/y@{SHA512}"),
        ("ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("registry:5000/x:1", "registry:5000/x:1", "registry:5000/x:1"),
        ("127.0.0.1:5000/x/y:1", "127.0.0.1:5000/x/y:1", "127.0.0.1:5000/x/y:1"),
        ("[2001:db8::1]:5000/x", "[2001:db8::1]:5000/x:latest", "[2001:db8::1]:5000/x:latest"),
        ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
        ("foo.bar/baz", "foo.bar/baz:latest", "foo.bar/baz:latest"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("a.b", "docker.io/library/a.b:latest", "a.b:latest"),
        ("a__b-.c".replace("-.", "-"), "docker.io/library/a__b-c:latest", "a__b-c:latest"),
        ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("x.io/" + "a" * 255, "x.io/" + "a" * 255 + ":latest", "x.io/" + "a" * 255 + ":latest"),
        ("docker://redis:7", "docker.io/library/redis:7", "redis:7"),
        ("host", "docker.io/library/host:latest", "docker.io/library/host:latest"),
        ("oci", "docker.io/library/oci:latest", "docker.io/library/oci:latest"),
        ("host:", "host:", "host:"),
        ("rootfs:./dir", "rootfs:./dir", "rootfs:./dir"),
        ("rootfs:/a:b", "rootfs:/a:b", "rootfs:/a:b"),
        ("oci:dir", "oci:dir", "oci:dir"),
        ("oci:/a/b:v1", "oci:/a/b:v1", "oci:/a/b:v1"),
        ("oci-archive:x.tar:ghcr.io/x/y:1", "oci-archive:x.tar:ghcr.io/x/y:1", "oci-archive:x.tar:ghcr.io/x/y:1"),
        (f"oci:d@{SHA}", f"oci:d@{SHA}", f"oci:d@{SHA}"),
        ("docker-archive:x.tar", "docker-archive:x.tar", "docker-archive:x.tar"),
    ],
)
def test_normalised(text: str, whole: str, familiar: str) -> None:
    found = reference.parse(text)
    assert str(found) == whole
    assert found.familiar == familiar
    assert reference.parse(str(found)) == found


def test_parts() -> None:
    found = reference.parse(f"ghcr.io:443/x/y:1@{SHA}")
    assert (found.registry, found.repository, found.tag, found.digest) == ("ghcr.io:443", "x/y", "1", SHA)
    found = reference.parse("oci:/a/b:docker.io/library/x:1")
    assert (found.path, found.name) == ("/a/b", "docker.io/library/x:1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " redis",
        "redis ",
        "REDIS",
        "redis:",
        "redis:-x",
        "redis:a b",
        "redis:" + "t" * 129,
        "redis@",
        "redis@sha256:" + "A" * 64,
        "redis@sha256:abc",
        "redis@md5:" + "a" * 32,
        "redis@sha256:../../etc/passwd",
        f"redis@{SHA}@{SHA}",
        "/redis",
        "a//b",
        "../redis",
        "a/../b",
        "-a/b",
        "a_/b",
        "a___b",
        "a..b/c/d:x/y",
        ".a.b/c",
        "redis\n",
        "red\x00is",
        "http://x/y",
        "a" * 64,
        "x/" + "a" * 254,
        "x.io/" + "a" * 256,
        "a" * 248,
        "host:x",
        "oci:",
        "oci:dir:",
        "rootfs:",
        "é",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(errors.ImageError):
        reference.parse(text)


def test_hints() -> None:
    with pytest.raises(errors.ImageError) as caught:
        reference.parse("Redis")
    assert caught.value.hint == "repositories are in lower case: `redis`"


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "a-" * 2000, "a/" * 2000 + "A", "-" * 4000, "x:" + "." * 4000, "[" * 4000]
)
def test_no_reference_takes_long(text: str) -> None:
    started = time.process_time()
    with pytest.raises(errors.ImageError):
        reference.parse(text)
    assert time.process_time() - started < 0.2
