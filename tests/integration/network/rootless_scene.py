"""Played in a user namespace by ``test_rootless``: prints what it found as JSON."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
from typing import Any

from devenv.network import manager, portproxy_client, rootless, types
from devenv.util import paths
from tests.support import netlab

PROJECT = "shop-00000000"


def play(root: str, outside: str) -> dict[str, Any]:
    found: dict[str, Any] = {"in_user_namespace": rootless.in_user_namespace()}
    where = paths.Paths(f"{root}/data", f"{root}/run")
    paths.prepare(where)
    shop = manager.NetworkManager(paths=where, project_id=PROJECT, project_name="shop")
    wish = types.EndpointSpec(network="shop_default")
    lone = netlab.Container(3)
    shop.loopback(lone.pid)
    found["loopback"] = lone.run(lambda: netlab.reaches("127.0.0.1"))
    lone.end()
    network = shop.ensure(types.NetworkSpec(name="shop_default"))
    found["notes"] = shop.notes()
    one, two = netlab.Container(1), netlab.Container(2)
    for box in (one, two):
        os.makedirs(where.container(box.id))
    (first,) = shop.attach(one.id, one.pid, [wish])
    (second,) = shop.attach(two.id, two.pid, [wish])
    found["peer"] = one.run(lambda: netlab.reaches(second.ipv4))
    found["outside"] = one.run(lambda: netlab.reaches(outside, 8000, patience=3))
    found["on_host"] = netlab.reaches(second.ipv4)
    found["ports"] = _publish(where, two, second)

    later = manager.NetworkManager(paths=where, project_id=PROJECT, project_name="shop")
    later.ensure(types.NetworkSpec(name="shop_default"))
    found["found_again"] = later.attach(one.id, one.pid, [wish]) == [first]
    later.close()
    holder = rootless.load(where.project_run(PROJECT))
    assert holder is not None
    os.kill(holder.process.pid, signal.SIGKILL)
    os.waitpid(holder.process.pid, 0)
    shop.ensure(types.NetworkSpec(name="shop_default"))
    found["after_its_holder_died"] = one.run(lambda: netlab.reaches(network.gateways[0]))

    for box in (one, two):
        shop.release(box.id)
        box.end()
    shop.remove("shop_default")
    shop.shutdown()
    shop.close()
    found["left"] = sorted(os.listdir(where.project_run(PROJECT)))
    return found


def _publish(where: paths.Paths, box: netlab.Container, at: types.Endpoint) -> str:
    proxy = portproxy_client.PortProxy(where.project_run(PROJECT))
    with box.run(lambda: socket.create_server(("127.0.0.1", 80))) as listener:
        publication = types.Publication(80, 0, 0, "127.0.0.1", "tcp")
        applied = proxy.apply([portproxy_client.Wanted(publication, box.backend(at.ipv4))])
        with socket.create_connection(("127.0.0.1", applied.published[0].port), timeout=10) as client:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello")
                answer = client.recv(5)
    low = proxy.apply([portproxy_client.Wanted(types.Publication(80, 80, 80, "", "tcp"), box.backend(at.ipv4))])
    proxy.shutdown()
    return f"{answer.decode()}, {low.refused[0][1]}"


if __name__ == "__main__":
    faulthandler.dump_traceback_later(25, exit=True)
    print(json.dumps(play(sys.argv[1], sys.argv[2])))
