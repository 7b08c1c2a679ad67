"""pyroute2's ``IPRoute`` without the rest of pyroute2.

``pyroute2/__init__.py`` imports all that the library can do: NDB with SQLite, a 9p server, nl80211, … That is half of
the 10 MB and two thirds of the time that this one class costs, in processes that stay for days. So the package is put
in place as the import system does it, but its ``__init__`` is not executed; its modules name each other in full.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute


def load() -> type[IPRoute]:
    if "pyroute2" not in sys.modules and (spec := importlib.util.find_spec("pyroute2")) is not None:
        sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    from pyroute2.iproute.linux import IPRoute

    loaded: type[IPRoute] = IPRoute
    return loaded
