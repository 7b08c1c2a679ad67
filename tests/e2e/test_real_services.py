"""What projects are made of, as it comes from Debian: Postgres, Redis and nginx, with healthchecks and real clients."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from tests.support import filesystem, polling, projects, real, runner

pytestmark = [pytest.mark.root, real.needed, pytest.mark.timeout(300)]

SPEC = f"""
    name: real
    services:
      db:
        image: docker-archive:{real.ARCHIVE}
        user: postgres
        command: [/usr/lib/postgresql/15/bin/postgres, -D, /var/lib/postgresql/15/main, -c, "listen_addresses=*",
                  -c, config_file=/etc/postgresql/15/main/postgresql.conf, -c, hba_file=/hba]
        configs: [{{source: hba, target: /hba}}]
        volumes: ["data:/var/lib/postgresql"]
        tmpfs: ["/var/run/postgresql:mode=1777"]
        stop_signal: SIGINT
        shm_size: 128m
        healthcheck: {{test: [CMD, pg_isready, -h, 127.0.0.1], interval: 0.5s, retries: 100}}
      cache:
        image: docker-archive:{real.ARCHIVE}
        user: redis
        command: [redis-server, --bind, "0.0.0.0", --protected-mode, "no", --dir, /tmp, --save, ""]
        healthcheck: {{test: [CMD, redis-cli, ping], interval: 0.5s, retries: 100}}
      web:
        image: docker-archive:{real.ARCHIVE}
        command: [nginx, -g, "daemon off;"]
        healthcheck: {{test: [CMD, curl, -fsS, "http://127.0.0.1/"], interval: 0.5s, retries: 100}}
        depends_on: {{db: {{condition: service_healthy}}, cache: {{condition: service_healthy}}}}
    configs:
      hba: {{content: "local all all trust\\nhost all all all trust\\n"}}
    volumes: {{data: {{}}}}
"""


def sql(devenv: runner.Devenv, statement: str) -> str:
    return devenv("exec", "-T", "web", "psql", "-h", "db", "-U", "postgres", "-Atc", statement).stdout.strip()


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_a_database_a_cache_and_a_web_server(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    anyone("up", "-d", "--wait", timeout=200)
    assert {row["Health"] for row in anyone.ps().values()} == {"healthy"}
    assert sql(anyone, "create table t as select generate_series(1, 100000) i") == "SELECT 100000"
    assert anyone("exec", "-T", "web", "redis-cli", "-h", "cache", "set", "a", "b").stdout == "OK\n"
    assert "<title>Welcome to nginx!" in anyone("exec", "-T", "db", "curl", "-fsS", "http://web/").stdout
    anyone("down", timeout=120)
    anyone("up", "-d", "--wait", timeout=200)
    # A volume outlives its containers; what Redis held in memory does not.
    assert sql(anyone, "select count(*) from t") == "100000"
    assert anyone("exec", "-T", "web", "redis-cli", "-h", "cache", "get", "a").stdout == "\n"
    log = anyone("logs", "db").stdout
    assert "not properly shut down" not in log
    anyone("down", "-v", timeout=120)


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_ready_by_their_own_protocols(anyone: runner.Devenv, project: projects.Project) -> None:
    """No program of the image is run to find out: Postgres is even one of another service's dependencies."""
    lines = []
    ready = {"pg_isready": "postgres", "redis-cli": "redis", "curl": "http://:80/"}
    for line in SPEC.splitlines():
        found = next((word for name, word in ready.items() if "healthcheck" in line and name in line), None)
        lines.append(f"        ready: '{found}'" if found else line)
    project.write("\n".join(lines))
    said = anyone("up", "-d", "--wait", timeout=200).stderr
    assert "real-db-1  Healthy" in said
    assert {row["Health"] for row in anyone.ps().values()} == {"healthy"}
    assert sql(anyone, "select 1") == "1"
    # Being asked is nothing that a server should have to complain of.
    assert "FATAL" not in anyone("logs", "cache").stdout
    anyone("down", "-v", timeout=120)


FRONT = f"""
    name: front
    services:
      web:
        image: docker-archive:{real.ARCHIVE}
        command: [nginx, -g, "daemon off;"]
        configs: [{{source: site, target: /etc/nginx/sites-enabled/default}}]
        depends_on: [app]
      app:
        image: "host:"
        command: [python3, -S, -c, "import http.server, socket; h = http.server.SimpleHTTPRequestHandler;
          h.do_GET = lambda s: (s.send_response(200), s.end_headers(), s.wfile.write(socket.gethostname().encode()));
          http.server.ThreadingHTTPServer(('', 8000), h).serve_forever()"]
        stop_signal: SIGKILL
        ready: http://:8000/
        deploy: {{replicas: 3}}
    configs:
      site:
        content: |
          server {{
            listen 80;
            resolver 127.0.0.11 ipv6=off;
            set $$app app;
            location / {{ proxy_pass http://$$app:8000; proxy_connect_timeout 2s; }}
          }}
"""


def test_nginx_in_front_of_replicas_that_come_and_go(devenv: runner.Devenv, project: projects.Project) -> None:
    """It asks the name server by itself and knows no /etc/hosts; dig is asked what it sees."""
    project.write(FRONT)
    devenv("up", "-d", "--wait", timeout=200)

    def served() -> set[str]:
        ask = "for i in 1 2 3 4 5 6 7 8 9; do curl -sS http://127.0.0.1/; echo; sleep 0.15; done"
        return set(devenv.inside("web", ask).split())

    assert polling.eventually(lambda: len(served()) == 3)
    assert len(devenv.inside("web", "dig +short app").split()) == 3
    address = devenv.inside("web", "dig +short front-app-2")
    assert devenv.inside("web", f"dig +short -x {address}") == "front-app-2.front_default."
    devenv("up", "-d", "--wait", "--scale", "app=1", timeout=200)
    (left,) = polling.eventually(lambda: len(found := served()) == 1 and found)
    assert left in devenv.inside("app", "hostname")


WRITER = """
    i=0
    psql() { command psql -q -h db -U postgres -At "$@"; }
    while :; do
      i=$(psql -c "select coalesce(max(i), 0) from t" 2>/dev/null) || { sleep 0.05; continue; }
      while i=$((i + 1)); do echo "insert into t values ($i, repeat('x', 200)) returning i;"; done |
        psql -f - 2>/dev/null >/ack/rows
    done
"""


@pytest.fixture(params=["renamed", *(f"cloned on {kind}" for kind in filesystem.kinds("btrfs"))])
def way(request: pytest.FixtureRequest, short_path: pathlib.Path) -> Iterator[str | None]:
    """Of taking snapshots: a folder for the data on a filesystem that does it so, or None for where tests are."""
    if request.param == "renamed":
        yield None
        return
    place = short_path / "fs"
    with filesystem.mounted(request.param.split()[-1], place, short_path / "images", 4 << 30):
        yield str(place)


@pytest.mark.timeout(10_000)
def test_a_snapshot_under_write_load_is_consistent(
    way: str | None, devenv: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]
) -> None:
    """Each row is committed by itself, and told to have been: a restored database has the first n of them."""
    if way:
        devenv.data = f"{way}/d"
    project.write(SPEC)
    project.write({"writer.sh": WRITER})
    project.edit(
        r"^configs:",
        f"  writer:\n    image: docker-archive:{real.ARCHIVE}\n    command: [sh, /writer.sh]\n"
        "    stop_signal: SIGKILL\n    volumes: ['./writer.sh:/writer.sh:ro']\n    tmpfs: [/ack]\n"
        "    depends_on: {db: {condition: service_healthy}}\nconfigs:",
    )
    devenv("up", "-d", "--wait", "web", timeout=200)
    sql(devenv, "create table t (i int primary key, pad text)")
    devenv("up", "-d", "--no-deps", "writer")

    def answers() -> bool:
        return not devenv("exec", "-T", "web", "pg_isready", "-h", "db", code=None).returncode

    def acknowledged() -> int:
        return int(devenv.inside("writer", "tail -n 2 /ack/rows | head -n 1") or 0)

    for number in range(soak(1 if way else 2, 1000)):
        polling.eventually(lambda: acknowledged() > 50, 60.0)
        before = acknowledged()
        devenv("snapshot", "save", f"s{number}", "--volumes-only", timeout=120)
        devenv("stop", "writer")
        polling.eventually(answers, 60.0)  # where it was stopped for it
        sql(devenv, "delete from t where i % 7 = 0")
        devenv("snapshot", "restore", f"s{number}", "--volumes-only", timeout=120)
        polling.eventually(answers, 60.0)
        count, last = map(int, sql(devenv, "select count(*), max(i) from t").split("|"))
        assert count == last >= before
        # The heap and its indexes say the same, and every page can be read.
        check = "/usr/lib/postgresql/15/bin/pg_amcheck -h db -U postgres --install-missing --heapallindexed postgres"
        assert devenv("exec", "-T", "web", *check.split(), timeout=200).stdout == ""
        assert sql(devenv, "select count(*) from t where length(pad) <> 200") == "0"
        devenv("snapshot", "rm", f"s{number}", "--automatic")
        sql(devenv, f"delete from t where i > 60 and {number} % 20 = 19")
        devenv("start", "writer")
    said = devenv("logs", "--no-log-prefix", "db").stdout
    assert not [line for line in said.splitlines() if "PANIC" in line or "invalid page" in line]
    devenv("down", "-v", timeout=120)
