"""A client of all registries, for one command: whoever pulls, pushes or logs in begins here."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from devenv.image import descriptor, reference
from devenv.image.registry import connections, credentials, errors, fetcher, hosts, pusher, resolver, retry, session


class Client:
    """``environ`` is the environment of whoever asks: their home, their proxies, their login. Safe for threads."""

    def __init__(self, environ: Mapping[str, str], *, policy: retry.Policy = retry.DEFAULT) -> None:
        self._environ = environ
        self._policy = policy
        self._hosts = hosts.Hosts(environ)
        self._pool = connections.Connections(self._hosts, environ)
        self._lock = threading.Lock()
        self._sessions: dict[tuple[hosts.Endpoint, credentials.Credential | None], session.Session] = {}

    def resolver(self, wanted: reference.Reference, *, say: resolver.Say = lambda _: None) -> resolver.Resolver:
        return resolver.Resolver(self._all(wanted), wanted, say=say)

    def fetcher(self, wanted: reference.Reference, *, mirrors: bool = True) -> fetcher.Fetcher:
        sessions = self._all(wanted)
        return fetcher.Fetcher(sessions if mirrors else sessions[-1:], wanted.repository)

    def pusher(self, wanted: reference.Reference) -> pusher.Pusher:
        return pusher.Pusher(self._session(self._hosts.origin(wanted.registry), wanted.repository), wanted.repository)

    def check_login(self, registry: str, given: credentials.Credential) -> None:
        """Raises ``Unauthorized`` if the registry does not know it."""
        each = session.Session(self._hosts.origin(registry), self._pool, given, policy=self._policy)
        each.request("GET", each.url("/v2/"), ok={200}).close()

    def abort(self) -> None:
        """From another thread: end everything that is under way, now."""
        self._pool.abort()

    def close(self) -> None:
        self._pool.close()

    def _all(self, wanted: reference.Reference) -> list[session.Session]:
        if wanted.transport is not reference.Transport.REGISTRY:
            raise errors.RegistryError(f"`{wanted}` is not in a registry")
        if wanted.digest and not descriptor.is_digest(wanted.digest):
            algorithm = wanted.digest.partition(":")[0]
            raise errors.RegistryError(f"`{wanted.familiar}` goes by {algorithm}, the store only by sha256")
        return [self._session(each, wanted.repository) for each in self._hosts.endpoints(wanted.registry)]

    def _session(self, endpoint: hosts.Endpoint, repository: str) -> session.Session:
        credential = credentials.find(endpoint.host, repository, self._environ)
        with self._lock:
            key = (endpoint, credential)
            if key not in self._sessions:
                self._sessions[key] = session.Session(endpoint, self._pool, credential, policy=self._policy)
            return self._sessions[key]
