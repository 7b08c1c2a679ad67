"""Rights: from a registry's challenge to the ``Authorization`` header that satisfies it.

    registry ── 401 WWW-Authenticate: Bearer realm="https://auth…",service=…,scope=… ──▶ us
    us ── GET realm?service=…&scope=…  (Authorization: Basic …, where there is a login) ──▶ realm
    realm ── {"token": …, "expires_in": …} ──▶ us ── Authorization: Bearer … ──▶ registry

Where a password may go is decided here and nowhere else: to the registry it was given for, and to the token server
which that registry names, both by TLS or on this machine; plain HTTP elsewhere only where the configuration says so.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from devenv.image.registry import addresses, challenge, connections, credentials, errors

_ANSWER_LIMIT = 1 << 20
_DEFAULT_LIFE = (
    60.0  # of a token whose server says nothing: https://distribution.github.io/distribution/spec/auth/token/
)
_SPARE = 10.0  # seconds before its end from which on a token counts as old
_CLIENT = "devenv"

Ask = Callable[..., connections.Response]


class _Token(NamedTuple):
    header: str
    end: float


class Authorizer:
    """The rights at one registry, of one login. Safe for threads."""

    def __init__(self, registry: str, credential: credentials.Credential | None, ask: Ask) -> None:
        self._registry = registry
        self.credential = credential
        self._ask = ask
        self._lock = threading.Lock()
        self._challenge: challenge.Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def header(self, scopes: Sequence[str]) -> Mapping[str, str]:
        """What to send without being asked: what the registry has wanted before."""
        with self._lock:
            if self._challenge is None:
                return {}
            token = self._tokens.get(tuple(scopes))
            if token is not None and token.end > time.monotonic():
                return {"Authorization": token.header}
        return {}

    def satisfy(self, headers: Sequence[str], scopes: Sequence[str], origin: addresses.Url, used: str | None) -> bool:
        """Get what a 401 asks for; False if there is nothing to be got that has not been refused already.

        ``used`` is the header that was refused, ``origin`` who refused it. Raises ``Unauthorized``.
        """
        with self._lock:
            held = self._tokens.get(tuple(scopes))
            if held is not None and held.header != used and held.end > time.monotonic():
                return True  # another thread has got it meanwhile
            for found in challenge.parse(headers):
                if found.scheme == "bearer":
                    token = self._bearer(found.parameters, scopes, origin)
                elif found.scheme == "basic" and self.credential is not None and self.credential.username:
                    token = _Token(_basic(self.credential), float("inf"))
                else:
                    continue
                if token.header == used:
                    return False
                self._challenge = found
                self._tokens[tuple(scopes)] = token
                return True
        return False

    # -- tokens -----------------------------------------------------------------------------------------------

    def _bearer(self, wanted: Mapping[str, str], scopes: Sequence[str], origin: addresses.Url) -> _Token:
        realm = addresses.parse(wanted.get("realm", ""))
        _check_realm(realm, origin)
        # A registry may know better than we do which right it lacks.
        asked = list(dict.fromkeys([*scopes, *(wanted.get("scope") or "").split()]))
        service = wanted.get("service", "")
        if self.credential is not None and self.credential.identity_token:
            answer = self._exchange(realm, service, asked)
        else:
            answer = self._get(realm, service, asked)
        text = answer.get("token") or answer.get("access_token")
        if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
            raise errors.Untrustworthy(f"the token server `{realm.authority}` of `{self._registry}` gives no token")
        life = answer.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and not isinstance(life, bool) else _DEFAULT_LIFE
        return _Token(f"Bearer {text}", time.monotonic() + max(seconds - _SPARE, _SPARE))

    def _get(self, realm: addresses.Url, service: str, scopes: Sequence[str]) -> Mapping[str, Any]:
        url = realm.with_query(**({"service": service} if service else {}))
        for scope in scopes:
            url = url.with_query(scope=scope)
        headers = {}
        if self.credential is not None:
            url = url.with_query(account=self.credential.username)
            headers["Authorization"] = _basic(self.credential)
        return self._answer(self._ask("GET", url, headers), realm)

    def _exchange(self, realm: addresses.Url, service: str, scopes: Sequence[str]) -> Mapping[str, Any]:
        assert self.credential is not None
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT,
            "scope": " ".join(scopes),
            "refresh_token": self.credential.identity_token,
        }
        data = urllib.parse.urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._answer(self._ask("POST", realm, headers, connections.of_bytes(data)), realm)

    def _answer(self, response: connections.Response, realm: addresses.Url) -> Mapping[str, Any]:
        with response:
            data = response.read(_ANSWER_LIMIT)
        if response.status in {400, 401, 403}:
            raise self.refused(f"its token server `{realm.authority}` answers {response.status}")
        if response.status != 200:
            raise errors.Temporary(
                errors.Unreachable(
                    f"the token server `{realm.authority}` of `{self._registry}` answers {response.status}"
                )
            )
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise errors.Untrustworthy(
                f"the token server `{realm.authority}` of `{self._registry}` gives no JSON object"
            )
        return answer

    def refused(self, reason: str) -> errors.Unauthorized:
        """The error for somebody who is not let in, with what helps."""
        login = f"`devenv registry login{'' if self._registry == 'docker.io' else f' {self._registry}'}`"
        if self.credential is None:
            return errors.Unauthorized(
                f"`{self._registry}` does not let anonymous users do this: {reason}",
                hint=f"log in with {login}, and check the image's name",
            )
        return errors.Unauthorized(
            f"`{self._registry}` does not let {self.credential.who} do this: {reason}",
            hint=f"check the image's name and the account's rights, or log in anew with {login}",
        )


def _check_realm(realm: addresses.Url, origin: addresses.Url) -> None:
    """A registry names the server that gets the password, so it must not be able to name just any."""
    local = addresses.is_loopback(realm.host)
    same_plain = realm.scheme == "http" and origin.scheme == "http" and realm.host == origin.host
    if realm.scheme == "http" and not local and not same_plain:
        raise errors.Untrustworthy(
            f"`{origin.authority}` wants the login to be sent without TLS to `{realm.authority}`: refused"
        )
    outside = local and not addresses.is_loopback(origin.host)
    if outside or (addresses.is_link_local(realm.host) and realm.host != origin.host):
        raise errors.Untrustworthy(f"`{origin.authority}` wants the login to be sent to `{realm.authority}`: refused")


def _basic(given: credentials.Credential) -> str:
    return "Basic " + base64.b64encode(f"{given.username}:{given.password}".encode()).decode()
