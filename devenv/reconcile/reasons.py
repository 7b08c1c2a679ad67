"""Why a service is not there yet, as data: `ps` and `up` show them, scripts read them as JSON. Pure.

    web waits for db: healthy (3 of 5 probes failed, last: connection refused)
    web waits for migrate: completed
    db waits for its image: pulling 45 %
    web is restarting in 4 s (crash 3: exit 1)

``sentence`` is what an error says of a container by its name; ``phrase`` what stands behind a service's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

LAST = 200  # characters of what a probe said


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    kind: ClassVar[str]

    def phrase(self, now: float) -> str:
        raise NotImplementedError

    def sentence(self, now: float = 0.0) -> str:
        return self.phrase(now)

    def to_json(self) -> dict[str, Any]:
        plain = {
            field.name: value.to_json() if isinstance(value, Reason) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) not in (None, "")
        }
        return {"kind": self.kind, **plain}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Missing(Reason):
    kind = "missing"

    def phrase(self, now: float) -> str:
        return "it has no container yet"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status(Reason):
    """A container's own, such as `created`."""

    kind = "status"
    container: str
    status: str

    def phrase(self, now: float) -> str:
        return self.status

    def sentence(self, now: float = 0.0) -> str:
        return f"`{self.container}` is {self.status}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settling(Reason):
    """It has no check, and has only just started."""

    kind = "settling"
    container: str

    def phrase(self, now: float) -> str:
        return "it has only just started"

    def sentence(self, now: float = 0.0) -> str:
        return f"`{self.container}` has only just started"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Reason):
    kind = "exited"
    container: str
    exit_code: int

    def phrase(self, now: float) -> str:
        return f"exited with {self.exit_code}"

    def sentence(self, now: float = 0.0) -> str:
        return f"`{self.container}` exited with {self.exit_code}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Uncheckable(Reason):
    """Somebody wants it healthy, and nothing says when it is."""

    kind = "no-check"
    container: str

    def phrase(self, now: float) -> str:
        return "it has no health check and no port"

    def sentence(self, now: float = 0.0) -> str:
        return f"`{self.container}`: {self.phrase(now)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Health(Reason):
    kind = "health"
    container: str
    health: str  # starting or unhealthy
    failed: int = 0  # probes in a row that count
    retries: int = 0  # of so many that make it unhealthy
    last: str = ""  # what the newest failed probe said

    def phrase(self, now: float) -> str:
        counted = f"{self.failed} of {self.retries} probes failed" if self.failed else ""
        last = f"last: {self.last}" if self.last else ""
        return ", ".join(part for part in (counted, last) if part)

    def sentence(self, now: float = 0.0) -> str:
        told = self.phrase(now)
        return f"`{self.container}` is {self.health}" + (f" ({told})" if told else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BackOff(Reason):
    """Its restart policy brings it back, after a while."""

    kind = "back-off"
    container: str
    at: float  # seconds since the epoch
    crash: int  # the how many-th
    exit_code: int
    crash_loop: bool = False

    def phrase(self, now: float) -> str:
        seconds = max(0, math.ceil(self.at - now))
        loop = "a crash loop, " if self.crash_loop else ""
        return f"{loop}restarting in {seconds} s (crash {self.crash}: exit {self.exit_code})"

    def sentence(self, now: float = 0.0) -> str:
        loop = ", a crash loop" if self.crash_loop else ""
        return f"`{self.container}` is restarting (crash {self.crash}: exit {self.exit_code}){loop}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image(Reason):
    kind = "image"
    image: str
    percent: int | None = None

    def phrase(self, now: float) -> str:
        return "waits for its image" + (f": pulling {self.percent} %" if self.percent is not None else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dependency(Reason):
    kind = "dependency"
    service: str
    condition: str  # started, healthy, completed
    because: Reason | None = None

    def phrase(self, now: float) -> str:
        # Of a job that is under way there is nothing more to say.
        runs = isinstance(self.because, Status) and self.because.status == "running"
        told = "" if runs or self.because is None else self.because.phrase(now)
        shape = " ({})" if isinstance(self.because, Health) else ", {}"
        return f"waits for {self.service}: {self.condition}{shape.format(told) if told else ''}"


def dependency(service: str, condition: str, because: Reason | None) -> Dependency:
    """``condition`` as the spec has it, such as `service_healthy`."""
    word = condition.removeprefix("service_").removesuffix("_successfully")
    return Dependency(service=service, condition=word, because=because)


_KINDS: Mapping[str, type[Reason]] = {
    each.kind: each for each in (Missing, Status, Settling, Exited, Uncheckable, Health, BackOff, Image, Dependency)
}


def from_json(data: Mapping[str, Any]) -> Reason:
    """Raises ``KeyError`` or ``TypeError`` for what another version wrote."""
    values = {
        name: from_json(each) if isinstance(each, dict) else each for name, each in data.items() if name != "kind"
    }
    return _KINDS[data["kind"]](**values)


def details(held: Iterable[Reason], now: float) -> str:
    """Behind the word `Waiting`: ``for db: healthy (…); for migrate: completed``."""
    return "; ".join(each.phrase(now).removeprefix("waits ") for each in held)


def shown(reason: Reason, now: float) -> dict[str, Any]:
    """For scripts: as data, with the words beside it."""
    return {**reason.to_json(), "text": reason.phrase(now)}
