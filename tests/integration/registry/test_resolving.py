"""From a reference to a manifest: what a registry may send, which host is asked, and with what certificates."""

from __future__ import annotations

import hashlib
import json
import pathlib
import ssl
import subprocess

import pytest

from devenv.image import descriptor, reference
from devenv.image.registry import client, errors, resolver
from tests.integration.registry import conftest
from tests.support import fake_registry

MANIFEST = {"schemaVersion": 2, "mediaType": fake_registry.OCI_MANIFEST, "layers": []}
DATA = json.dumps(MANIFEST).encode()
OTHER = json.dumps({**MANIFEST, "annotations": {"a": "b"}}).encode()


def root(talk: client.Client, host: str, text: str = "x:1") -> resolver.Document:
    return talk.resolver(reference.parse(f"{host}/{text}")).root()


def test_by_tag_and_by_digest(talk: client.Client, registry: fake_registry.Registry) -> None:
    made = registry.add_manifest(DATA, tag="1")
    wanted = descriptor.Descriptor(fake_registry.OCI_MANIFEST, made["digest"], len(DATA))
    assert root(talk, registry.host) == resolver.Document(wanted, DATA)
    assert root(talk, registry.host, f"x@{made['digest']}") == resolver.Document(wanted, DATA)
    assert talk.resolver(reference.parse(f"{registry.host}/x:1")).head() == made["digest"]
    assert talk.resolver(reference.parse(f"{registry.host}/x:1")).tags() == ["1"]


def test_other_digests_than_those_of_the_store(talk: client.Client, registry: fake_registry.Registry) -> None:
    name = "sha512:" + hashlib.sha512(DATA).hexdigest()
    with pytest.raises(errors.RegistryError, match="goes by sha512, the store only by sha256"):
        root(talk, registry.host, f"x@{name}")
    assert registry.paths() == []


def test_an_address_of_ipv6(talk: client.Client) -> None:
    with fake_registry.running(address="::1") as registry:
        registry.add_manifest(DATA, tag="1")
        assert root(talk, registry.host).data == DATA


def test_no_such_tag(talk: client.Client, registry: fake_registry.Registry) -> None:
    with pytest.raises(errors.NotFound, match=f"`{registry.host}` has no `x:7`") as caught:
        root(talk, registry.host, "x:7")
    assert caught.value.hint == "check the name and the tag"


def test_pages_of_tags(talk: client.Client, registry: fake_registry.Registry) -> None:
    def pages(handler: fake_registry.Handler) -> bool:
        if "/tags/" not in handler.path:
            return False
        if "last=" in handler.path:
            handler.send(200, b'{"tags": ["c", "../x", 7]}')
        else:
            handler.send(200, b'{"tags": ["b", "a"]}', Link='</v2/x/tags/list?last=b>; rel="next"')
        return True

    registry.rules.append(pages)
    assert talk.resolver(reference.parse(f"{registry.host}/x")).tags() == ["a", "b", "c"]


# -- lies -------------------------------------------------------------------------------------------------------------

NAME = fake_registry.digest(DATA)
INDEX = json.dumps({"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": []}).encode()
KIND = fake_registry.OCI_MANIFEST
LIES: dict[str, tuple[str, bytes, dict[str, str], str]] = {
    "other content": (NAME, OTHER, {"Content_Type": KIND}, "sends a manifest with the digest"),
    "a false digest": ("1", DATA, {"Content_Type": KIND, "Docker_Content_Digest": "sha256:" + "0" * 64}, "calls a"),
    "another type": ("1", INDEX, {"Content_Type": KIND}, "says different things"),
    "too large": ("1", b" " * (5 << 20), {"Content_Type": KIND}, "more than 4194304 bytes"),
    "no JSON": ("1", b"<html>", {"Content_Type": "text/html"}, "is not JSON"),
    "a list": ("1", b"[]", {"Content_Type": KIND}, "is not a JSON object"),
    "deep": ("1", b"[" * 100_000, {"Content_Type": KIND}, "is not JSON"),
    "schema 1": ("1", b'{"schemaVersion": 1}', {"Content_Type": KIND}, "old schema 1"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(talk: client.Client, registry: fake_registry.Registry, lie: str) -> None:
    name, data, headers, message = LIES[lie]
    registry.rules.append(
        lambda handler: "/manifests/" in handler.path and (handler.send(200, data, **headers) or True)
    )
    with pytest.raises(errors.errors.ImageError, match=message):
        root(talk, registry.host, f"x@{name}" if ":" in name else f"x:{name}")


def test_an_answer_without_a_type(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.add_manifest(b'{"schemaVersion": 2, "manifests": []}', tag="1", kind="application/json; charset=utf-8")
    assert root(talk, registry.host).descriptor.media_type == descriptor.OCI_INDEX


def test_words_of_a_registry_are_cleaned_and_cut(talk: client.Client, registry: fake_registry.Registry) -> None:
    words = json.dumps({"errors": [{"code": "X", "message": "\x1b[31mred\n" + "long " * 1000}]}).encode()
    registry.rules.append(lambda handler: "/manifests/" in handler.path and (handler.send(418, words) or True))
    with pytest.raises(errors.RegistryError) as caught:
        root(talk, registry.host)
    assert caught.value.message.isprintable()
    assert "[31mred" in caught.value.message
    assert len(caught.value.message) < 500


# -- mirrors ----------------------------------------------------------------------------------------------------------


def configure(environ: dict[str, str], text: str) -> client.Client:
    path = pathlib.Path(environ["HOME"], ".config/devenv/config.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return client.Client(environ, policy=conftest.QUICK)


def test_a_mirror_is_asked_first(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.add_manifest(DATA, repository="library/redis", tag="7")
    talk = configure(environ, f'registries."docker.io".mirrors = ["http://{registry.host}"]\n')
    assert talk.resolver(reference.parse("redis:7")).root().data == DATA
    talk.close()


def test_a_mirror_that_lacks_it_or_is_down(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    said: list[str] = []
    registry.add_manifest(DATA, tag="1")
    with fake_registry.running() as mirror:
        mirrors = f'["localhost:1", "{mirror.host}/cache"]'
        talk = configure(environ, f'registries."{registry.host}".mirrors = {mirrors}\n')
        wanted = reference.parse(f"{registry.host}/x:1")
        assert talk.resolver(wanted, say=said.append).root().data == DATA
        assert mirror.paths() == ["/v2/", "/v2/cache/x/manifests/1"]
        mirror.add_manifest(OTHER, repository="cache/x", tag="1")
        assert talk.resolver(wanted, say=said.append).root().data == OTHER
        talk.close()
    assert said[0].startswith("mirror `localhost:1`: `localhost:1` can't be reached")


def test_a_mirror_that_lies_about_a_digest_is_passed_over(
    environ: dict[str, str], registry: fake_registry.Registry
) -> None:
    registry.add_manifest(DATA)
    with fake_registry.running() as mirror:
        mirror.manifests["x", NAME] = (fake_registry.OCI_MANIFEST, OTHER)
        talk = configure(environ, f'registries."{registry.host}".mirrors = "{mirror.url}"\n')
        assert root(talk, registry.host, f"x@{NAME}").data == DATA
        talk.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registries", "is not TOML"),
        ("registries = 7", "is not a table"),
        ('registries."docker.io" = 7', "is not a table"),
        ('registries."a b".insecure = true', "`a b` is no registry's name"),
        ('registries."docker.io".mirror = "x"', "unknown key `mirror`"),
        ('registries."docker.io".insecure = 1', "neither true nor false"),
        ('registries."docker.io".mirrors = [7]', "not a list of hosts"),
        ('registries."docker.io".mirrors = ["ftp://x"]', "not a list of hosts"),
        ('registries."docker.io".mirrors = ["x/../y"]', "not a list of hosts"),
    ],
)
def test_a_broken_configuration_is_named(environ: dict[str, str], text: str, message: str) -> None:
    with pytest.raises(errors.RegistryError, match=message) as caught:
        configure(environ, text)
    assert "config.toml" in caught.value.message


# -- TLS --------------------------------------------------------------------------------------------------------------


def certificate(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={name}"
        f" -addext subjectAltName=DNS:{name} -keyout {key} -out {crt}".split(),
        check=True,
        capture_output=True,
    )
    return crt, key


def server_tls(pair: tuple[pathlib.Path, pathlib.Path], client_ca: pathlib.Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trust(environ: dict[str, str], host: str, **files: pathlib.Path) -> None:
    folder = pathlib.Path(environ["HOME"], ".docker/certs.d", host)
    folder.mkdir(parents=True)
    for name, path in files.items():
        (folder / name.replace("_", ".")).write_bytes(path.read_bytes())


def test_a_ca_of_ones_own(environ: dict[str, str], tmp_path: pathlib.Path) -> None:
    pair = certificate(tmp_path, "localhost")
    with fake_registry.running(tls=server_tls(pair)) as registry:
        registry.add_manifest(DATA, tag="1")
        talk = client.Client(environ, policy=conftest.QUICK)
        with pytest.raises(errors.Unreachable, match=r"is not trusted: self.signed certificate") as caught:
            root(talk, registry.host)
        assert f"certs.d/{registry.host}/ca.crt" in str(caught.value.hint)
        talk.close()
        trust(environ, registry.host, ca_crt=pair[0])
        talk = client.Client(environ, policy=conftest.QUICK)
        assert root(talk, registry.host).data == DATA
        talk.close()


def test_a_certificate_for_another_name(environ: dict[str, str], tmp_path: pathlib.Path) -> None:
    pair = certificate(tmp_path, "example.com")
    with fake_registry.running(tls=server_tls(pair)) as registry:
        trust(environ, registry.host, ca_crt=pair[0])
        talk = client.Client(environ, policy=conftest.QUICK)
        with pytest.raises(errors.Unreachable, match="is not trusted: Hostname mismatch"):
            root(talk, registry.host)
        talk.close()


def test_insecure_is_said_in_the_configuration(environ: dict[str, str], tmp_path: pathlib.Path) -> None:
    with fake_registry.running(tls=server_tls(certificate(tmp_path, "example.com"))) as registry:
        registry.add_manifest(DATA, tag="1")
        talk = configure(environ, f'registries."{registry.host}".insecure = true\n')
        assert root(talk, registry.host).data == DATA
        talk.close()


def test_a_client_certificate(environ: dict[str, str], tmp_path: pathlib.Path) -> None:
    pair, mine = certificate(tmp_path, "localhost"), certificate(tmp_path, "me")
    with fake_registry.running(tls=server_tls(pair, mine[0])) as registry:
        registry.add_manifest(DATA, tag="1")
        trust(environ, registry.host, ca_crt=pair[0], client_cert=mine[0], client_key=mine[1])
        talk = client.Client(environ, policy=conftest.QUICK)
        assert root(talk, registry.host).data == DATA
        talk.close()


def test_a_broken_certificate_is_named(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    folder = pathlib.Path(environ["HOME"], ".config/devenv/certs.d/example.com")
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("no certificate")
    talk = client.Client(environ, policy=conftest.QUICK)
    with pytest.raises(errors.RegistryError, match=r"the certificate `.*ca\.crt` can't be used"):
        root(talk, "example.com")
    talk.close()


@pytest.mark.root
def test_plain_http_is_not_spoken_elsewhere(environ: dict[str, str]) -> None:
    """At an address of this machine that is no loopback: TLS or nothing, until somebody says so."""
    with fake_registry.running(address="0.0.0.0") as registry:
        registry.add_manifest(DATA, tag="1")
        host = f"198.51.100.2:{registry.port}"
        registry.rules.append(lambda handler: handler.hang_up() or True)  # what it gets is no HTTP
        talk = client.Client(environ, policy=conftest.QUICK._replace(attempts=1))
        with pytest.raises(errors.Unreachable):
            root(talk, host)
        talk.close()
        assert registry.paths() == []
        registry.rules.clear()
        talk = configure(environ, f'registries."{host}".insecure = true\n')
        assert root(talk, host).data == DATA
        talk.close()
