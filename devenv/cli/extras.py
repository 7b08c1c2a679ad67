"""Libraries that only some commands need, and that an installation may be without."""

from __future__ import annotations

import importlib.util
import sys

from devenv import errors


def need(extra: str, *libraries: str, what: str) -> None:
    """Raises ``HostError``, with the line that installs what ``what`` lacks."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        listed = " and ".join(f"`{name}`" for name in missing)
        raise errors.HostError(f"{what} needs {listed}", hint=_how(extra, libraries))


def _how(extra: str, libraries: tuple[str, ...]) -> str:
    if "/pipx/" in sys.prefix:
        return f"pipx inject devenv-up {' '.join(libraries)}"
    if "/uv/tools/" in sys.prefix:
        return f"uv tool install 'devenv-up[{extra}]'"
    return f"{sys.executable} -m pip install 'devenv-up[{extra}]'"
