"""Who one is to a registry, who is told one's password, and who is not."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import stat

import pytest

from devenv.image import reference
from devenv.image.registry import client, credentials, errors
from tests.integration.registry import conftest
from tests.support import fake_registry

MANIFEST = {"schemaVersion": 2, "mediaType": fake_registry.OCI_MANIFEST, "layers": []}


@pytest.fixture
def registry(registry: fake_registry.Registry) -> fake_registry.Registry:
    registry.add_manifest(MANIFEST, tag="1")
    registry.add_manifest(MANIFEST, repository="team/app", tag="1")
    return registry


def get(environ: dict[str, str], registry: fake_registry.Registry, text: str = "x:1") -> bytes:
    talk = client.Client(environ, policy=conftest.QUICK)
    try:
        return talk.resolver(reference.parse(f"{registry.host}/{text}")).root().data
    finally:
        talk.close()


def login(environ: dict[str, str], key: str, user: str = "me", password: str = "pa:ss") -> None:
    credentials.save(key, credentials.Credential(user, password), environ)


def docker_config(environ: dict[str, str], value: object, name: str = ".docker/config.json") -> None:
    path = pathlib.Path(environ["HOME"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def pair(text: str = "me:pa:ss") -> str:
    return base64.b64encode(text.encode()).decode()


def test_basic(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.login = ("me", "pa:ss")
    with pytest.raises(errors.Unauthorized, match="does not let anonymous users do this") as caught:
        get(environ, registry)
    assert f"`devenv registry login {registry.host}`" in str(caught.value.hint)
    login(environ, registry.host, password="wrong")
    with pytest.raises(errors.Unauthorized, match="does not let me do this"):
        get(environ, registry)
    login(environ, registry.host)
    assert json.loads(get(environ, registry)) == MANIFEST


def test_an_anonymous_token(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token()
    get(environ, registry)
    asked = [path for path in registry.paths() if path.startswith("/token")]
    assert asked == ["/token?service=test&scope=repository%3Ax%3Apull"]


def test_a_token_for_a_login(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token(user="me", password="pa:ss")
    with pytest.raises(errors.Unauthorized):
        get(environ, registry)
    login(environ, registry.host, password="wrong")
    with pytest.raises(errors.Unauthorized, match=r"its token server .* answers 401"):
        get(environ, registry)
    login(environ, registry.host)
    get(environ, registry)


def test_a_token_is_kept_as_long_as_it_lasts(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token()
    talk = client.Client(environ, policy=conftest.QUICK)
    for _ in range(3):
        talk.resolver(reference.parse(f"{registry.host}/x:1")).root()
    assert len([path for path in registry.paths() if path.startswith("/token")]) == 1
    registry.token.given.clear()  # revoked
    talk.resolver(reference.parse(f"{registry.host}/x:1")).root()
    talk.close()
    assert len([path for path in registry.paths() if path.startswith("/token")]) == 2


def test_an_identity_token(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token(user="me", password="x", refresh="r3fresh")
    docker_config(environ, {"auths": {registry.host: {"auth": pair(), "identitytoken": "r3fresh"}}})
    get(environ, registry)
    assert registry.paths("POST") == ["/token"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"auths": {"HOST": {"auth": pair()}}}, ".docker/config.json"),
        ({"auths": {"https://HOST/v1/": {"auth": pair()}}}, ".docker/config.json"),
        ({"auths": {"HOST": {"username": "me", "password": "pa:ss"}}}, ".docker/config.json"),
        ({"auths": {"HOST": {"auth": pair()}}}, ".config/containers/auth.json"),
        ({"auths": {"HOST/team": {"auth": pair()}, "HOST": {"auth": pair("a:b")}}}, ".config/containers/auth.json"),
        ({"auths": {"HOST/team/app": {"auth": pair()}}}, ".config/containers/auth.json"),
        ({"auths": {}, "credsStore": "nobody-has-this"}, ".docker/config.json"),
    ],
)
def test_logins_of_docker_and_podman(
    environ: dict[str, str], registry: fake_registry.Registry, config: dict[str, object], name: str
) -> None:
    registry.login = ("me", "pa:ss") if config["auths"] else None
    docker_config(environ, json.dumps(config).replace("HOST", registry.host), name)
    assert json.loads(get(environ, registry, "team/app:1")) == MANIFEST


HELPER = """#!/bin/sh
read server
echo "$1 $server" >> "$HOME/asked"
case $server in
    {host}) echo '{{"ServerURL": "x", "Username": "{user}", "Secret": "{secret}"}}' ;;
    *broken*) echo "no such thing" >&2; exit 1 ;;
    *) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


def helper(environ: dict[str, str], registry: fake_registry.Registry, user: str = "me", secret: str = "pa:ss") -> None:
    folder = pathlib.Path(environ["HOME"], "bin")
    folder.mkdir()
    program = folder / "docker-credential-fake"
    program.write_text(HELPER.format(host=registry.host, user=user, secret=secret))
    program.chmod(0o755)
    environ["PATH"] = f"{folder}:{environ['PATH']}"


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_credential_helper(environ: dict[str, str], registry: fake_registry.Registry, key: str) -> None:
    registry.login = ("me", "pa:ss")
    helper(environ, registry)
    docker_config(environ, {key: "fake" if key == "credsStore" else {registry.host: "fake"}})
    get(environ, registry)
    assert pathlib.Path(environ["HOME"], "asked").read_text() == f"get {registry.host}\n"


def test_a_helper_with_an_identity_token(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token(user="me", password="x", refresh="r3fresh")
    helper(environ, registry, "<token>", "r3fresh")
    docker_config(environ, {"credsStore": "fake"})
    get(environ, registry)


def test_a_helper_that_knows_nothing(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    helper(environ, registry)
    docker_config(environ, {"credsStore": "fake"})
    assert credentials.find("ghcr.io", "x", environ) is None
    docker_config(environ, {"credsStore": "fake", "auths": {"ghcr.io": {"auth": pair("a:b")}}})
    assert credentials.find("ghcr.io", "x", environ) == credentials.Credential("a", "b")


def test_a_helper_that_fails_or_lacks(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    helper(environ, registry)
    docker_config(environ, {"credHelpers": {"broken.io": "fake", "x.io": "lacks", "y.io": "../../bin/sh"}})
    with pytest.raises(errors.RegistryError, match=r"failed for `broken\.io`") as caught:
        credentials.find("broken.io", "x", environ)
    assert caught.value.note == "no such thing"
    with pytest.raises(errors.RegistryError, match=r"`docker-credential-lacks` for `x\.io` is not installed"):
        credentials.find("x.io", "x", environ)
    with pytest.raises(errors.RegistryError, match="no credential helper's name"):
        credentials.find("y.io", "x", environ)


def test_docker_hub_has_many_names(environ: dict[str, str]) -> None:
    docker_config(environ, {"auths": {"https://index.docker.io/v1/": {"auth": pair()}}})
    assert credentials.find("docker.io", "library/redis", environ) == credentials.Credential("me", "pa:ss")


def test_ones_own_login_is_kept_and_forgotten(environ: dict[str, str]) -> None:
    login(environ, "ghcr.io")
    login(environ, "docker.io", "you", "secret")
    path = credentials.own_file(environ)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o077 == 0
    assert credentials.known(environ) == ["docker.io", "ghcr.io"]
    assert credentials.find("docker.io", "library/x", environ) == credentials.Credential("you", "secret")
    assert credentials.forget("ghcr.io", environ)
    assert not credentials.forget("ghcr.io", environ)
    assert credentials.find("ghcr.io", "x", environ) is None


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        {"auths": []},
        {"auths": {"HOST": "x"}},
        {"auths": {"HOST": {"auth": "%%%"}}},
        {"auths": {"HOST": {"auth": pair("nocolon")}}},
        {"auths": {"HOST": {"auth": 7}}},
    ],
)
def test_a_broken_file_is_named(environ: dict[str, str], config: object) -> None:
    text = config if isinstance(config, str) else json.dumps(config)
    docker_config(environ, text.replace("HOST", "ghcr.io"))
    with pytest.raises(Exception, match=r"\.docker/config\.json") as caught:
        credentials.find("ghcr.io", "x", environ)
    assert isinstance(caught.value, errors.errors.DevenvError)


# -- where a login must not go ----------------------------------------------------------------------------------------


def test_a_redirect_loses_the_login(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.login = ("me", "pa:ss")
    login(environ, registry.host)
    with fake_registry.running() as other:
        other.add_manifest(MANIFEST, tag="1")

        def redirect(handler: fake_registry.Handler) -> bool:
            if "/manifests/" not in handler.path or "Authorization" not in handler.headers:
                return False
            handler.send(307, Location=f"http://127.0.0.1:{other.port}{handler.path}")
            return True

        registry.rules.append(redirect)
        get(environ, registry)
        assert [("authorization" in request.headers) for request in other.requests] == [False]


def test_who_is_redirected_to_may_not_ask_for_a_login(
    environ: dict[str, str], registry: fake_registry.Registry
) -> None:
    login(environ, registry.host)
    with fake_registry.running() as other:
        other.login = ("me", "pa:ss")
        registry.rules.append(
            lambda handler: (
                "/manifests/" in handler.path
                and (handler.send(307, Location=f"http://127.0.0.1:{other.port}{handler.path}") or True)
            )
        )
        with pytest.raises(errors.RegistryError):
            get(environ, registry)
        assert not any("authorization" in request.headers for request in other.requests)


@pytest.mark.parametrize(
    ("realm", "message"),
    [
        ("http://example.invalid/token", "without TLS to `example.invalid`: refused"),
        ("http://169.254.169.254/token", "without TLS"),
        ("https://169.254.169.254/latest/meta-data", "to `169.254.169.254`: refused"),
        ("https://[fe80::1]/token", "refused"),
        ("file:///etc/passwd", "address that is none"),
        ("", "address that is none"),
        ("/token", "address that is none"),
        ("https://user:x@example.invalid/", "address that is none"),
        ("https://example.invalid/\x01", "address that is none"),
    ],
)
def test_a_realm_that_is_refused(
    environ: dict[str, str], registry: fake_registry.Registry, realm: str, message: str
) -> None:
    login(environ, registry.host)
    registry.token = fake_registry.Token(user="me", password="pa:ss")
    registry.token.realm = realm or " "
    with pytest.raises(errors.RegistryError, match=message):
        get(environ, registry)
    assert not any("authorization" in request.headers for request in registry.requests if "/token" in request.path)


@pytest.mark.parametrize("answer", [b"", b"[]", b"{", b'{"token": 7}', b'{"token": "a\\nb"}', b"x" * (2 << 20)])
def test_a_token_that_is_none(environ: dict[str, str], registry: fake_registry.Registry, answer: bytes) -> None:
    registry.token = fake_registry.Token()
    registry.rules.append(lambda handler: handler.path.startswith("/token") and (handler.send(200, answer) or True))
    with pytest.raises(errors.Untrustworthy):
        get(environ, registry)


def test_a_registry_that_is_never_content(environ: dict[str, str], registry: fake_registry.Registry) -> None:
    registry.token = fake_registry.Token()
    registry.rules.append(
        lambda handler: (
            "/manifests/" in handler.path
            and (handler.fail(401, "NO", WWW_Authenticate=f'Bearer realm="{registry.url}/token"') or True)
        )
    )
    with pytest.raises(errors.Unauthorized):
        get(environ, registry)
    assert len(registry.requests) < 12
