"""What a watch session says, a line at a time; known without importing what watches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_NAMED = 3  # files that a message names


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line for whoever watches."""

    text: str
    service: str = ""
    level: str = "info"  # info, warning, error; batch for what one batch does, build for progress
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"watch": dataclasses.asdict(self)}


def count(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", … and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
