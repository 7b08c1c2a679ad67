"""Which names a container may have, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.reconcile import record, renaming


def made(name: str, service: str = "web", number: int = 1, **more: Any) -> record.Record:
    given: dict[str, Any] = {
        "id": name.encode().hex().ljust(64, "0"), "name": name, "project": "shop", "project_id": "shop-1",
        "project_dir": "/shop", "config_files": (), "service": service, "number": number, "oneoff": False, "image": "",
        "image_id": "", "config_digest": "", "sections": {}, "created": 0.0, "command": (), "labels": {},
        "depends_on": {}, "restart": {}, "network_mode": "", "networks": {}, "ports": (), "mounts": (), "volumes": (),
        "anonymous_volumes": (), "stop_signal": "", "stop_grace_period": 0.0, "healthcheck": None, "user": "",
        "working_dir": "", "tty": False, "stdin_open": False, "hostname": "", "domainname": "", "extra_hosts": {},
        "links": {}, "dns": {}, "logging": {}, "hooks": {},
    }  # fmt: skip
    return record.Record(**{**given, **more})


WEB = made("shop-web-1")
DB = made("shop-db-1", "db", networks={"default": {"aliases": ["postgres"]}})
ELSEWHERE = made("other-x-1", "x", project="other", project_id="other-1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("front", ""),
        ("web", ""),  # its own service's
        ("shop-web-1x", ""),
        ("shop-x-1", ""),
        ("x", "can't be"),
        ("", "can't be"),
        ("-front", "can't be"),
        ("front\n", "can't be"),
        ("fr ont", "can't be"),
        ("n" * 256, "can't be"),
        ("shop-web-1", "called that already"),
        ("shop-db-1", "taken by"),
        ("other-x-1", "taken by container 6f746865722d of project `other`"),
        (DB.id, "taken by"),
        ("db", "means a service"),
        ("later", "means a service"),
        ("postgres", "means a service"),
        ("shop-web-2", "what `up` calls container 2 of service `web`"),
        ("shop-later-1", "what `up` calls container 1 of service `later`"),
    ],
)
def test_names(name: str, reason: str) -> None:
    if not reason:
        renaming.check(name, WEB, [WEB, DB, ELSEWHERE], services=["later"])
        return
    with pytest.raises(errors.DevenvError, match=reason) as caught:
        renaming.check(name, WEB, [WEB, DB, ELSEWHERE], services=["later"])
    assert caught.value.hint or "already" in reason


def test_the_way_back_is_free() -> None:
    renaming.check("shop-web-1", made("front"), [made("front"), DB])


def test_who_shares_by_the_name_shares_by_the_id() -> None:
    guest = made(
        "guest",
        "guest",
        shares={"network": "container:shop-web-1", "pid": "service:web"},
        network_mode="container:shop-web-1",
    )
    changed = renaming.renamed("front", WEB, [WEB, DB, guest])
    assert [(each.name, each.id) for each in changed] == [("front", WEB.id), ("guest", guest.id)]
    assert changed[1].shares == {"network": f"container:{WEB.id}", "pid": "service:web"}
    assert changed[1].network_mode == f"container:{WEB.id}"


@pytest.mark.parametrize(
    ("name", "own", "free"),
    [
        ("shop-web-1", ("web", 1), True),  # made anew
        ("shop-web-1", ("web", 2), False),
        ("shop-web-1", None, False),
        ("once", ("web", 1), False),
        ("new", None, True),
    ],
)
def test_what_is_made_later(name: str, own: tuple[str, int] | None, free: bool) -> None:
    family = [WEB, made("once", oneoff=True)]
    if free:
        renaming.check_free(name, own, family)
        return
    with pytest.raises(errors.ContainerError, match="is called"):
        renaming.check_free(name, own, family)
