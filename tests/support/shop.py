"""A small shop to plan for: db <- migrate <- web, web also wants mail, and follows db (`restart: true`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from devenv.reconcile import observed, planner

HEALTHY = {"condition": "service_healthy", "required": True}
COMPLETED = {"condition": "service_completed_successfully", "required": True}
OPTIONAL = {"condition": "service_healthy", "required": False}
SECTIONS = {"environment": "1", "image": "sha256:1", "ports": "1"}

NETWORK = observed.Network(name="shop_default", key="default", digest="1")
VOLUME = observed.Volume(name="shop_data", key="data", digest="1")


def service(name: str, *, changed: str = "", **given: Any) -> planner.DesiredService:
    """``changed`` names the attribute that differs from what runs."""
    sections = {**SECTIONS, changed: "2"} if changed else SECTIONS
    values = {
        "config_digest": "2" if changed else "1",
        "sections": sections,
        "image_id": sections["image"].replace("2", "sha256:2") if changed == "image" else "sha256:1",
        "networks": ("shop_default",),
    }
    return planner.DesiredService(name=name, **{**values, **given})


DB = service("db", volumes=("shop_data",))
MIGRATE = service("migrate", depends_on={"db": HEALTHY})
MAIL = service("mail")
WEB = service(
    "web", replicas=2, depends_on={"db": {**HEALTHY, "restart": True}, "migrate": COMPLETED, "mail": OPTIONAL}
)


def shop(**changed: planner.DesiredService) -> planner.Desired:
    services = {"db": DB, "migrate": MIGRATE, "mail": MAIL, "web": WEB, **changed}
    return planner.Desired(
        services=services,
        networks=(planner.DesiredNetwork(name="shop_default", key="default", digest="1"),),
        volumes=(planner.DesiredVolume(name="shop_data", key="data", digest="1"),),
    )


def pair(**changed: Any) -> planner.Desired:
    """Two services: api needs db started."""
    api = service("api", depends_on={"db": {"condition": "service_started", "required": True}})
    services = {"db": service("db"), "api": api, **changed}
    return dataclasses.replace(shop(), services=services, volumes=())


def container(name: str, number: int = 1, /, **given: Any) -> observed.Container:
    terms = {"migrate": MIGRATE, "web": WEB}
    values: dict[str, Any] = {
        "id": f"{name}{number}",
        "name": f"shop-{name}-{number}",
        "service": name,
        "number": number,
        "config_digest": "1",
        "sections": SECTIONS,
        "image_id": "sha256:1",
        "state": "running",
        "networks": ("shop_default",),
        "volumes": ("shop_data",) if name == "db" else (),
        "depends_on": terms[name].depends_on if name in terms else {},
        "ever_started": True,
        "health": "healthy" if name in {"db", "mail"} else "",
    }
    return observed.Container(**{**values, **given})


def stopped(name: str, number: int = 1, /, *, exit_code: int | None = 0, **given: Any) -> observed.Container:
    return container(name, number, state="stopped", exit_code=exit_code, health="", **given)


def there(*containers: observed.Container, **given: Any) -> observed.Observed:
    values: dict[str, Any] = {"networks": (NETWORK,), "volumes": (VOLUME,), **given}
    return observed.Observed(project_id="shop-1", containers=containers, **values)


# Everything runs; the migration ran and ended well. ``running`` is the same without one-shots.
ALL = (container("db"), stopped("migrate"), container("web", 1), container("web", 2), container("mail"))
PAIR = (
    container("db"),
    container("api", depends_on={"db": {"condition": "service_started", "required": True}}),
)


def lines(text: str) -> str:
    """A plan's text without its alignment, so that a table reads as what it says."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def table(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
