"""How it is found out that a service is ready: by `ready:`, else by a health check, else by looking whether it listens.

As ``convert``: pure, from the spec's words and the image's to what ``devenv.health`` takes. Times are seconds.
"""

from __future__ import annotations

from typing import Any

from devenv import errors
from devenv.health import dial
from devenv.image import config as image_config
from devenv.network import ports
from devenv.reconcile import convert, units
from devenv.spec import readiness

_MOST_PORTS = 64  # of a range that is looked at
_TIMEOUT = 5.0  # seconds, of a look that runs no program


def check(service: convert.Service, image: image_config.ImageConfig) -> dict[str, Any] | None:
    """As a record keeps it: with `test` for a command, `dial` for a connection, `log` for a pattern.

    Raises ``ValueError`` for what `ready` can't be, ``SpecError`` where a port is missing.
    """
    given = readiness_of(service)
    if given is not None:
        return _ready(given, service, image)
    found = healthcheck(service, image)
    if found is not None or (service.get("healthcheck") or {}).get("disable"):
        return found
    listening = _listening(service, image)
    if not listening:
        return None
    return {"dial": dial.Target("listen", listening).to_json(), "soft": True}


def readiness_of(service: convert.Service) -> readiness.Ready | None:
    given = service.get("ready") or (service.get("x-devenv") or {}).get("ready")
    return readiness.parse(given) if given else None


def healthcheck(service: convert.Service, image: image_config.ImageConfig) -> dict[str, Any] | None:
    """The service's check over the image's, with times in seconds; None when there is none."""
    given = service.get("healthcheck")
    base: dict[str, Any] = dict(image.healthcheck or {})
    if given:
        if given.get("disable"):
            return None
        for name in ("interval", "timeout", "start_period", "start_interval"):
            if given.get(name) is not None:
                base[name] = units.seconds(given[name])
        if given.get("retries") is not None:
            base["retries"] = int(given["retries"])
        if given.get("test"):
            base["test"] = given["test"]
    test = base.get("test")
    if isinstance(test, str):
        test = ["CMD-SHELL", test]
    if not test or test[0] == "NONE" or test == ["CMD-SHELL", "NONE"]:
        return None
    if test[0] == "CMD-SHELL" and image.shell:
        test = ["CMD", *image.shell, " ".join(test[1:])]
    return {**base, "test": list(test)}


def _ready(given: readiness.Ready, service: convert.Service, image: image_config.ImageConfig) -> dict[str, Any]:
    made: dict[str, Any] = {"timeout": _TIMEOUT} if given.kind != "exec" else {}
    made |= {name: units.seconds(value) for name, value in given.times.items()}
    made |= {"retries": given.retries} if given.retries else {}
    made |= {"restart": True} if given.restart else {}
    if given.kind == "exec":
        return {**made, "test": list(given.command)}
    if given.kind == "log":
        return {**made, "log": given.pattern}
    found = (given.port,) if given.port else _listening(service, image)
    if not found:
        form = "{http: {port: PORT}}" if given.kind == "http" else f"{{{given.kind}: PORT}}"
        hint = "name one in `expose`" if given.kind == "listen" else f"ready: {form}"
        raise errors.SpecError(f"`ready: {given.kind}` has no port: the service publishes and exposes none", hint=hint)
    target = dial.Target(given.kind, found, given.host, given.path, given.tls, given.status)
    return {**made, "dial": target.to_json()}


def _listening(service: convert.Service, image: image_config.ImageConfig) -> tuple[int, ...]:
    """Where it is said to listen by TCP: what it publishes or exposes, else what its image does.

    An image says so of the command that it comes with: of another one, as a worker has, it is no promise.
    """
    found = [each.target for each in ports.expand(service.get("ports") or ()) if each.protocol == "tcp"]
    named = list(service.get("expose") or ())
    if not found and not named and not service.get("command") and not service.get("entrypoint"):
        named = list(image.exposed_ports)
    for entry in named:
        numbers, _, protocol = str(entry).partition("/")
        first, _, last = numbers.partition("-")
        if protocol in {"", "tcp"} and first.isdecimal() and (not last or last.isdecimal()):
            found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))[:_MOST_PORTS]
