"""When a service counts as ready: whoever waits for it waits for that, and is told why he still does."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.support import engine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

# Listens, on its own localhost alone, half a second after it began.
LATE = """
import http.server, time, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/up" else 503)
        self.end_headers()
    def log_message(self, *_): pass
time.sleep(0.5)
server = http.server.HTTPServer(("127.0.0.1", 8000), Handler)
print("it listens now", flush=True)
server.serve_forever()
"""
SPEC = """
    name: shop
    services:
      web:
        image: "host:"
        command: [python3, /late.py]
        stop_signal: SIGKILL
        volumes: ["./late.py:/late.py:ro"]
        {ready}
      after:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        depends_on: {{web: {{condition: service_healthy}}}}
"""


def waited(devenv: runner.Devenv, project: projects.Project, ready: str) -> subprocess.CompletedProcess[str]:
    (project / "late.py").write_text(LATE)
    project.write(SPEC.format(ready=ready))
    done = devenv("up", "-d", "--wait")
    rows = devenv.ps()
    assert {row["State"] for row in rows.values()} == {"running"}
    log = devenv("logs", "-t", "--no-log-prefix", "web").stdout
    assert "it listens now" in log
    # The second began after the first had said that it listens.
    said = log.split()[0]
    (after,) = json.loads(devenv("container", "inspect", "shop-after-1").stdout)
    assert after["State"]["StartedAt"][:23] >= said[:23]
    return done


@pytest.mark.parametrize(
    "ready",
    [
        'ports: ["127.0.0.1::8000"]',
        'expose: ["8000"]',
        "ready: {tcp: 8000}",
        "ready: 'http://:8000/up'",
        "ready: {http: {path: /down, port: 8000, status: 503}}",
        'ready: {log: "listens? now$"}',
        "ready: {exec: [python3, -c, \"import socket; socket.create_connection(('127.0.0.1', 8000))\"]}",
        "x-devenv: {ready: {tcp: {port: 8000}}}",
    ],
)
def test_others_begin_when_it_is(devenv: runner.Devenv, project: projects.Project, ready: str) -> None:
    waited(devenv, project, ready)


@pytest.mark.parametrize("anyone", ["dvrange", "dvplain"], indirect=True)
@pytest.mark.parametrize("ready", ['expose: ["8000"]', "ready: {http: {path: /up, port: 8000}}"])
def test_as_an_ordinary_user(anyone: runner.Devenv, project: projects.Project, ready: str) -> None:
    waited(anyone, project, ready)


def test_what_listens_is_no_health_check(devenv: runner.Devenv, project: projects.Project) -> None:
    """``ps`` says of it what docker's does: nothing."""
    waited(devenv, project, 'expose: ["8000"]')
    assert devenv.ps()["shop-web-1"]["Health"] == ""
    assert devenv("up", "-d", "--wait").returncode == 0


def test_the_reason_is_told(devenv: runner.Devenv, project: projects.Project) -> None:
    said = waited(devenv, project, "ready: {http: {path: /up, port: 8000}}").stderr
    assert "Container shop-after-1  Waiting  for web: healthy (last: port 8000: Connection refused)" in said


def test_it_never_is(devenv: runner.Devenv, project: projects.Project) -> None:
    (project / "late.py").write_text(LATE)
    project.write(SPEC.format(ready="ready: {http: {path: /down, port: 8000}, interval: 0.5s, retries: 4}"))
    said = devenv("up", "-d", code=1).stderr
    assert "`shop-web-1` is unhealthy (4 of 4 probes failed, last: GET /down: 503 Service Unavailable)" in said
    assert "shop-after-1" not in [name for name, row in devenv.ps().items() if row["State"] == "running"]


def test_one_that_falls_is_restarted(devenv: runner.Devenv, project: projects.Project) -> None:
    """Its process goes on and does nothing: only `ready: … restart` brings it back."""
    project.write("""
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "touch /tmp/good; echo begun; sleep 1000"]
            stop_signal: SIGKILL
            ready: {exec: [test, -e, /tmp/good], interval: 0.1s, retries: 2, restart: true}
    """)
    devenv("up", "-d", "--wait")
    before = devenv.ps()["shop-web-1"]
    devenv("exec", "-T", "web", "rm", "/tmp/good")
    eventually(lambda: devenv("logs", "--no-log-prefix", "web").stdout == "begun\nbegun\n", 20)
    eventually(lambda: devenv.ps()["shop-web-1"]["Health"] == "healthy", 20)
    assert devenv.ps()["shop-web-1"]["ID"] == before["ID"]
    (shown,) = json.loads(devenv("container", "inspect", "shop-web-1").stdout)
    assert shown["RestartCount"] == 1
    assert re.search(r"  started .* ago: it was unhealthy", devenv("why", "web").stdout)


def test_a_new_supervisor_takes_it_up(devenv: runner.Devenv, project: projects.Project) -> None:
    waited(devenv, project, "ready: {tcp: 8000, interval: 0.2s, retries: 100}")
    before = engine.find(devenv, "supervisor")
    engine.kill(before)
    eventually(lambda: engine.find(devenv, "supervisor") not in {None, before}, 20)
    devenv("up", "-d", "--wait")
    assert devenv.ps()["shop-web-1"]["Health"] == "healthy"
