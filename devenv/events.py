"""What happened, never how it is shown.

The executor and the loop emit these; the command line's displays are sinks that render them. They cross the
supervisor's socket as JSON, so every field is a plain value.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    WORKING = "working"
    DONE = "done"
    WARNING = "warning"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step in the life of one resource.

    ``resource`` is ``"<Kind> <name>"`` as docker compose prints it: ``"Container shop-web-1"``,
    ``"Network shop_default"``, ``"Volume shop_data"``, ``"Image oci:./web"``. ``text`` is one word or a short
    phrase: ``Creating``, ``Created``, ``Starting``, ``Started``, ``Waiting``, ``Healthy``, ``Exited (1)``.
    """

    resource: str
    status: Status
    text: str
    details: str = ""  # the cause of an operation, the reason of a wait, the message of an error
    service: str = ""  # the service the resource belongs to; empty for networks and volumes
    time: float = 0.0  # seconds since the epoch
    current: int = 0  # bytes that are done of
    total: int = 0  # so many, where that is known
    # What a resource that is `Waiting` waits for, as data: see ``devenv.reconcile.reasons``.
    reasons: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        return cls(**{**data, "status": Status(data["status"]), "reasons": tuple(data.get("reasons") or ())})
