"""What a watch session says, a line at a time; known without importing what watches."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line for whoever watches."""

    text: str
    service: str = ""
    level: str = "info"  # info, warning, error; batch for what one batch does, build for progress
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"watch": dataclasses.asdict(self)}
