"""An ``OSError`` that knows what was being done: every step of a container's setting up is named in what goes wrong."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator


class Failure(OSError):
    """Its ``filename`` is the whole of what was being done, in words."""


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    try:
        yield
    except Failure:
        raise
    except OSError as exc:
        # What a call was given says more than the step alone, unless it is only our way to a descriptor.
        raise Failure(exc.errno or errno.EIO, exc.strerror or str(exc), what) from exc
