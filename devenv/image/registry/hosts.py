"""Where a registry's requests go: its own host, mirrors before it, and how far each is trusted.

    ~/.config/devenv/config.toml, before it /etc/devenv/config.toml

        registries."docker.io".mirrors = ["https://mirror.lan"]      # a pull-through mirror: one line
        registries."registry.lan:5000".insecure = true               # plain HTTP, or a certificate nobody vouches for

    certs.d/HOST[:PORT]/*.crt, *.cert with *.key                     # own CAs, and client certificates

``certs.d`` is looked for beside both files, and where Docker and podman have it. Plain HTTP is tried for loopback
addresses and where the configuration says `insecure` or `http://`, and nowhere else.
"""

from __future__ import annotations

import os
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv.image import reference
from devenv.image.registry import addresses, errors

_HUB = "registry-1.docker.io"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", re.ASCII)


class Endpoint(NamedTuple):
    """One host that may have what a reference means."""

    host: str  # HOST[:PORT], as certs.d and credentials know it
    schemes: tuple[str, ...] = ("https",)  # to be tried in this order
    verify: bool = True
    prefix: str = ""  # of repositories, where a mirror keeps them in a folder of its own
    mirror: bool = False

    @property
    def address(self) -> str:
        return _HUB if self.host == reference.DEFAULT_REGISTRY else self.host


class Hosts:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._registries = _load(environ)

    def endpoints(self, registry: str) -> list[Endpoint]:
        """Mirrors first; the registry itself is the last."""
        mirrors = self._registries.get(registry, _NOTHING).mirrors
        return [*(self._mirror(text) for text in mirrors), self.origin(registry)]

    def origin(self, registry: str) -> Endpoint:
        """Where one pushes to."""
        insecure = self._is_insecure(registry)
        schemes: tuple[str, ...] = ("https", "http") if insecure else ("https",)
        if addresses.is_loopback(_split(registry)[0]):
            # Nobody listens in between, and few speak TLS there.
            schemes = ("http", "https")
        return Endpoint(registry, schemes, verify=not insecure)

    def _mirror(self, text: str) -> Endpoint:
        scheme, mark, rest = text.partition("://")
        if not mark:
            scheme, rest = "", text
        host, _, prefix = rest.partition("/")
        origin = self.origin(host)
        return origin._replace(schemes=(scheme,) if scheme else origin.schemes, prefix=prefix.strip("/"), mirror=True)

    def _is_insecure(self, host: str) -> bool:
        return self._registries.get(host, _NOTHING).insecure

    def tls(self, endpoint: Endpoint) -> ssl.SSLContext:
        """Raises ``RegistryError`` for a certificate that can't be read."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        bundle, folder = self._environ.get("SSL_CERT_FILE"), self._environ.get("SSL_CERT_DIR")
        if bundle or folder:
            _read(context.load_verify_locations, bundle or None, folder or None, what=bundle or folder or "")
        for path in self._certificates(endpoint.host):
            for name in sorted(os.listdir(path)):
                if name.endswith(".crt"):
                    _read(context.load_verify_locations, f"{path}/{name}", what=f"{path}/{name}")
                elif name.endswith(".cert"):
                    key = f"{path}/{name.removesuffix('.cert')}.key"
                    _read(context.load_cert_chain, f"{path}/{name}", key, what=f"{path}/{name}")
        if not endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _certificates(self, host: str) -> list[str]:
        home = self._environ.get("HOME") or "/"
        folders = [
            "/etc/docker/certs.d",
            "/etc/containers/certs.d",
            f"{home}/.docker/certs.d",
            f"{home}/.config/containers/certs.d",
            *(f"{folder}/certs.d" for folder in _folders(self._environ)),
        ]
        names = [host] if _split(host)[1] else [host, f"{host}:443"]
        paths = [f"{folder}/{name}" for folder in folders for name in names]
        return [path for path in paths if os.path.isdir(path)]


class _Registry(NamedTuple):
    mirrors: tuple[str, ...] = ()
    insecure: bool = False


_NOTHING = _Registry()


def name(text: str) -> str:
    """A registry as people write it, with or without a scheme. Raises ``RegistryError``."""
    host = text.partition("://")[2] if "://" in text else text
    return _host(host.partition("/")[0], "")


def _split(host: str) -> tuple[str, int | None]:
    url = urllib.parse.urlsplit(f"//{host}")
    return url.hostname or "", url.port


def folder(environ: Mapping[str, str]) -> str:
    """The user's own configuration of devenv."""
    home = environ.get("HOME") or "/"
    return f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/devenv"


def _folders(environ: Mapping[str, str]) -> tuple[str, str]:
    return "/etc/devenv", folder(environ)


def _load(environ: Mapping[str, str]) -> dict[str, _Registry]:
    found: dict[str, _Registry] = {}
    for place in _folders(environ):
        path = f"{place}/config.toml"
        try:
            with open(path, "rb") as file:
                import tomllib  # few have such a file

                given = tomllib.load(file)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise errors.RegistryError(f"`{path}` can't be read: {exc.strerror}") from exc
        except ValueError as exc:  # also of bytes that are no UTF-8
            raise errors.RegistryError(f"`{path}` is not TOML: {exc}") from exc
        found |= _registries(given.get("registries", {}), path)
    return found


def _registries(given: Any, path: str) -> dict[str, _Registry]:
    if not isinstance(given, dict) or not all(isinstance(value, dict) for value in given.values()):
        raise errors.RegistryError(
            f"`{path}`: `registries` is not a table of registries",
            hint='write `registries."docker.io".mirrors = ["https://mirror.lan"]`',
        )
    return {_host(name, path): _registry(name, value, path) for name, value in given.items()}


def _host(name: str, path: str) -> str:
    """``path`` is the file that has the name, "" if it comes from elsewhere."""
    if name in {"index.docker.io", _HUB}:
        return reference.DEFAULT_REGISTRY
    if not _HOST.fullmatch(name):
        raise errors.RegistryError(f"{f'`{path}`: ' if path else ''}`{name}` is no registry's name")
    return name


def _registry(name: str, given: dict[str, Any], path: str) -> _Registry:
    where = f'`{path}`: `registries."{name}"`'
    unknown = sorted(set(given) - {"mirrors", "insecure"})
    if unknown:
        raise errors.RegistryError(f"{where} has an unknown key `{unknown[0]}`", hint="it may have mirrors, insecure")
    mirrors, insecure = given.get("mirrors", []), given.get("insecure", False)
    if not isinstance(insecure, bool):
        raise errors.RegistryError(f"{where}: `insecure` is neither true nor false")
    if isinstance(mirrors, str):
        mirrors = [mirrors]
    if not isinstance(mirrors, list) or not all(isinstance(text, str) and _is_mirror(text) for text in mirrors):
        raise errors.RegistryError(
            f"{where}: `mirrors` is not a list of hosts", hint='write `mirrors = ["https://mirror.lan"]`'
        )
    return _Registry(tuple(mirrors), insecure)


def _is_mirror(text: str) -> bool:
    scheme, mark, rest = text.partition("://")
    if mark and scheme not in {"http", "https"}:
        return False
    host, _, prefix = (rest if mark else text).partition("/")
    prefix = prefix.strip("/")
    return bool(_HOST.fullmatch(host)) and (not prefix or bool(_PREFIX.fullmatch(prefix)))


def _read(load: Any, *arguments: Any, what: str) -> None:
    try:
        load(*arguments)
    except (OSError, ssl.SSLError) as exc:
        raise errors.RegistryError(f"the certificate `{what}` can't be used: {exc.strerror or exc}") from exc
