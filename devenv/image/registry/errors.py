"""What a registry may refuse, or be unable to do.

    ImageError
     +- RegistryError        a registry's answer is not what was asked for
         +- Unreachable      nobody answers, or only with errors of the server's own: later may be better
         +- Unauthorized     who one is, or is not, does not suffice
         +- NotFound         there is no such repository, tag or blob
         +- RateLimited      too many requests for now
         +- Untrustworthy    an answer that breaks the specification, or is other content than was promised

``Temporary`` never leaves the package: it tells the one who repeats requests that it is worth it, and when.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from devenv import errors


class RegistryError(errors.ImageError):
    code = "registry"


class Unreachable(RegistryError):
    code = "registry-unreachable"


class Unauthorized(RegistryError):
    code = "registry-unauthorized"


class NotFound(RegistryError):
    code = "registry-not-found"


class RateLimited(RegistryError):
    code = "registry-rate-limited"


class Untrustworthy(RegistryError):
    code = "registry-untrustworthy"


class Temporary(Exception):
    """``error`` is what to raise when there are no further attempts."""

    def __init__(self, error: RegistryError, *, delay: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.delay = delay  # what the registry asks for, in seconds


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Errors from within begin with ``what``: those who talk to registries don't know whose image it is for."""
    try:
        yield
    except RegistryError as exc:
        if not exc.message.startswith(what):
            exc.message = f"{what}: {exc.message}"
        raise
