"""Requests to one host in one login's name: authorised, redirected, repeated while that helps, and refused in words.

What goes where: credentials to the host itself and to the token server that it names, never along a redirect.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from email.message import Message
from typing import NoReturn

from devenv.image.registry import addresses, authorizer, connections, credentials, errors, hosts, retry

_REDIRECTS = {301, 302, 303, 307, 308}
_REDIRECT_LIMIT = 5
_PASSING = {408, 500, 502, 503, 504}  # what may be better in a moment
_ERROR_LIMIT = 64 << 10
_MESSAGE_LIMIT = 300
_PROBE_PATIENCE = 5.0
_RIGHTS_LIMIT = 2  # how often one request may be answered by 401


class Session:
    """Safe for threads."""

    def __init__(
        self,
        endpoint: hosts.Endpoint,
        pool: connections.Connections,
        credential: credentials.Credential | None,
        *,
        policy: retry.Policy = retry.DEFAULT,
    ) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.policy = policy
        self.rights = authorizer.Authorizer(endpoint.host, credential, self._ask)
        self._base: addresses.Url | None = None

    def url(self, path: str) -> addresses.Url:
        """``path`` on this host. The first time it is found out whether the host speaks TLS, where it need not."""
        if self._base is None:
            self._base = self.repeat(self._find)
        return self._base._replace(path=path)

    def repository(self, name: str) -> str:
        return f"{self.endpoint.prefix}/{name}" if self.endpoint.prefix else name

    def request(
        self,
        method: str,
        url: addresses.Url,
        *,
        ok: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: connections.Body | None = None,
        scopes: Sequence[str] = (),
    ) -> connections.Response:
        """Repeated while that may help. The caller closes what it gets."""
        return self.repeat(lambda: self.once(method, url, ok=ok, headers=headers, body=body, scopes=scopes))

    def document(
        self,
        url: addresses.Url,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        scopes: Sequence[str] = (),
    ) -> tuple[bytes, Message]:
        """A small answer, whole, and its headers."""

        def attempt() -> tuple[bytes, Message]:
            with self.once("GET", url, ok={200}, headers=headers, scopes=scopes) as response:
                return response.read(limit), response.headers

        return self.repeat(attempt)

    def repeat(self, function: Callable[[], retry.T], *, progressed: Callable[[], bool] = lambda: False) -> retry.T:
        return retry.call(function, self.policy, sleep=self.pool.pause, progressed=progressed)

    def once(
        self,
        method: str,
        url: addresses.Url,
        *,
        ok: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: connections.Body | None = None,
        scopes: Sequence[str] = (),
    ) -> connections.Response:
        """One attempt. Raises ``Temporary`` when another may help."""
        for _ in range(_RIGHTS_LIMIT + 1):
            rights = self.rights.header(scopes) if url.origin == self.url("/").origin else {}
            response = self._follow(method, url, {**(headers or {}), **rights}, body)
            if response.status in ok:
                return response
            with response:
                said = _said(response)
                asks = response.headers.get_all("WWW-Authenticate") or []
                # Only the host itself may ask for rights: what a redirect leads to has none to give.
                own = response.status == 401 and url.origin == self.url("/").origin
            if own and self.rights.satisfy(asks, scopes, url, rights.get("Authorization")):
                continue
            self._refuse(response, said)
        raise self.rights.refused("it asks for other rights again and again")

    # -- one request ------------------------------------------------------------------------------------------

    def _find(self) -> addresses.Url:
        """The way of speaking that is understood. Servers answer 400 to plain HTTP where they expect TLS."""
        bases = [addresses.parse(f"{scheme}://{self.endpoint.address}/") for scheme in self.endpoint.schemes]
        if len(bases) == 1:
            return bases[0]
        problem: errors.Temporary | None = None
        for base in bases:
            try:
                answer = self.pool.request("GET", base._replace(path="/v2/"), {}, patience=_PROBE_PATIENCE)
            except connections.NotTls:
                return addresses.parse(f"http://{self.endpoint.address}/")
            except errors.Temporary as exc:
                problem = problem or exc
                continue
            with contextlib.suppress(errors.RegistryError, errors.Temporary), answer:
                answer.read(_ERROR_LIMIT)  # whose connection serves what is asked next
            if answer.status != 400:
                return base
        raise problem or errors.Untrustworthy(f"`{self.endpoint.address}` does not answer as a registry does")

    def _ask(
        self,
        method: str,
        url: addresses.Url,
        headers: Mapping[str, str],
        body: connections.Body | None = None,
    ) -> connections.Response:
        try:
            return self.pool.request(method, url, headers, body)
        except connections.NotTls:
            raise errors.Unreachable(
                f"`{url.authority}` does not speak TLS",
                hint=f'if that is as it should be, write `registries."{url.authority}".insecure = true`'
                " in ~/.config/devenv/config.toml",
            ) from None

    def _follow(
        self, method: str, url: addresses.Url, headers: Mapping[str, str], body: connections.Body | None
    ) -> connections.Response:
        sent = dict(headers)
        for _ in range(_REDIRECT_LIMIT + 1):
            response = self._ask(method, url, sent, body)
            if response.status not in _REDIRECTS or method not in {"GET", "HEAD"}:
                return response
            with response:
                target = addresses.parse(response.headers.get("Location") or "", url)
            if target.scheme == "http" and url.scheme == "https":
                raise errors.Untrustworthy(f"`{url.authority}` redirects to `{target.authority}` without TLS: refused")
            if addresses.is_link_local(target.host) and target.host != url.host:
                raise errors.Untrustworthy(f"`{url.authority}` redirects to `{target.authority}`: refused")
            if target.origin != url.origin:
                sent.pop("Authorization", None)
            url = target
        raise errors.Untrustworthy(f"`{self.endpoint.address}` redirects more than {_REDIRECT_LIMIT} times")

    def _refuse(self, response: connections.Response, said: str) -> NoReturn:
        status, host = response.status, self.endpoint.address
        reason = f"{status}{f', {said}' if said else ''}"
        if status in {401, 403}:
            raise self.rights.refused(said or f"it answers {status}")
        if status == 404:
            raise errors.NotFound(f"`{host}` does not have it: {reason}")
        wish = retry.retry_after(response.headers.get("Retry-After"))
        if status == 429:
            limited = errors.RateLimited(f"`{host}` answers too many requests: {reason}", hint=self._patience(wish))
            if wish is None:
                raise limited
            raise errors.Temporary(limited, delay=wish)
        if status in _PASSING:
            raise errors.Temporary(errors.Unreachable(f"`{host}` has an error of its own: {reason}"), delay=wish)
        raise errors.RegistryError(f"`{host}` refuses: {reason}")

    def _patience(self, wish: float | None) -> str:
        """Docker Hub counts pulls by address for those who are not logged in."""
        host = self.endpoint.host
        ways = [f"wait {wish:.0f} s" if wish else "wait some hours"]
        if self.rights.credential is None:
            ways.append(f"log in with `devenv registry login{'' if host == 'docker.io' else f' {host}'}`")
        ways.append(f"""or set a mirror: `registries."{host}".mirrors = [...]` in ~/.config/devenv/config.toml""")
        return ", ".join(ways)


def _said(response: connections.Response) -> str:
    """The registry's own words: {"errors": [{"code": …, "message": …}]}. The body is another's text: cleaned, cut."""
    try:
        data = response.read(_ERROR_LIMIT)
        given = json.loads(data)
        texts = [str(entry.get("message") or entry.get("code")) for entry in given["errors"][:3]]
    except (errors.RegistryError, errors.Temporary, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    text = "; ".join(texts)
    return "".join(character for character in text if character.isprintable())[:_MESSAGE_LIMIT]
