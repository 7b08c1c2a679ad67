"""In whose name a registry is asked: what `devenv registry login` kept, and what Docker's and podman's logins did.

    ~/.config/devenv/auth.json                       our own; 0600, the format of the next
    $DOCKER_CONFIG/config.json, ~/.docker/…          auths, credHelpers, credsStore
    $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json

The first that knows the registry answers. In each, a name with a namespace (``host/team``) wins over the host alone.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from devenv.image import content, reference
from devenv.image.registry import errors, helper, hosts
from devenv.util import fs

_HUB_KEY = "https://index.docker.io/v1/"


class Credential(NamedTuple):
    username: str = ""
    password: str = ""
    identity_token: str = ""  # an OAuth 2 refresh token, in place of a password

    @property
    def who(self) -> str:
        return self.username or "an identity token"


def find(registry: str, repository: str, environ: Mapping[str, str]) -> Credential | None:
    """Raises ``RegistryError`` for a file or a helper that is broken."""
    for path in _files(environ):
        config = _read(path)
        if config is None:
            continue
        found = _in_file(config, registry, repository, environ, path)
        if found is not None:
            return found
    return None


def save(registry: str, given: Credential, environ: Mapping[str, str]) -> str:
    """Keep a login. Returns the file."""
    path = own_file(environ)
    config = dict(_read(path) or {})
    auths = dict(config.get("auths") or {})
    if given.identity_token:
        auths[registry] = {"identitytoken": given.identity_token}
    else:
        pair = f"{given.username}:{given.password}".encode()
        auths[registry] = {"auth": base64.b64encode(pair).decode()}
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fs.write_json(path, {**config, "auths": auths}, durable=True)
    return path


def forget(registry: str, environ: Mapping[str, str]) -> bool:
    """Whether there was a login to forget. Those of other programs are theirs."""
    path = own_file(environ)
    config = dict(_read(path) or {})
    auths = dict(config.get("auths") or {})
    if registry not in auths:
        return False
    del auths[registry]
    fs.write_json(path, {**config, "auths": auths}, durable=True)
    return True


def known(environ: Mapping[str, str]) -> list[str]:
    """Registries that `devenv registry login` has logged in to."""
    return sorted((_read(own_file(environ)) or {}).get("auths") or {})


def own_file(environ: Mapping[str, str]) -> str:
    return f"{hosts.folder(environ)}/auth.json"


def _files(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("HOME") or "/"
    docker = environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    found = [own_file(environ), f"{docker}/config.json"]
    if environ.get("REGISTRY_AUTH_FILE"):
        return [*found, environ["REGISTRY_AUTH_FILE"]]
    if environ.get("XDG_RUNTIME_DIR"):
        found.append(f"{environ['XDG_RUNTIME_DIR']}/containers/auth.json")
    return [*found, f"{home}/.config/containers/auth.json"]


def _read(path: str) -> Mapping[str, Any] | None:
    if not os.path.exists(path):
        return None
    config = content.parse_json(content.read_file(path, what="logins to registries"), what=f"`{path}`")
    auths = config.get("auths")
    if auths is not None and not isinstance(auths, Mapping):
        raise errors.RegistryError(f"`{path}`: `auths` is not an object")
    return config


def _keys(registry: str, repository: str) -> Iterator[str]:
    """As podman writes them and as Docker does, the most special first."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield f"{registry}/{'/'.join(parts[:count])}"
    yield registry
    if registry == reference.DEFAULT_REGISTRY:
        yield _HUB_KEY
        yield "index.docker.io"
        yield "registry-1.docker.io"


def _host_of(key: str) -> str:
    """Docker has written keys as ``https://host/v1/``."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key


def _in_file(
    config: Mapping[str, Any], registry: str, repository: str, environ: Mapping[str, str], path: str
) -> Credential | None:
    server = _HUB_KEY if registry == reference.DEFAULT_REGISTRY else registry
    helpers = config.get("credHelpers")
    special = helpers.get(registry) or helpers.get(server) if isinstance(helpers, Mapping) else None
    if isinstance(special, str) and special:
        return _from_helper(special, server, environ, required=True)
    auths = config.get("auths") or {}
    by_host = {_host_of(key): value for key, value in auths.items() if "://" in key}
    for key in _keys(registry, repository):
        entry = auths.get(key, by_host.get(key))
        found = _entry(entry, path, key) if entry is not None else None
        if found is not None:
            return found
    store = config.get("credsStore")
    return _from_helper(store, server, environ, required=False) if isinstance(store, str) and store else None


def _from_helper(name: str, server: str, environ: Mapping[str, str], *, required: bool) -> Credential | None:
    answer = helper.get(name, server, environ, required=required)
    if answer is None:
        return None
    if answer.username == "<token>":
        return Credential(identity_token=answer.secret)
    return Credential(answer.username, answer.secret)


def _entry(given: Any, path: str, key: str) -> Credential | None:
    """None for the empty object that Docker leaves where a helper has the secret."""
    broken = errors.RegistryError(f"`{path}`: the login for `{key}` is broken", hint="log in again")
    if not isinstance(given, Mapping):
        raise broken
    token = given.get("identitytoken")
    if isinstance(token, str) and token:
        return Credential(identity_token=token)
    if isinstance(given.get("username"), str) and given["username"]:
        return Credential(given["username"], str(given.get("password") or ""))
    if not given.get("auth"):
        return None
    try:
        text = base64.b64decode(given["auth"], validate=True).decode()
    except (binascii.Error, ValueError, TypeError) as exc:
        raise broken from exc
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise broken
    return Credential(username, password.rstrip("\0"))
