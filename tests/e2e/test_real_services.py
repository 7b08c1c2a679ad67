"""What projects are made of, as it comes from Debian: Postgres, Redis and nginx, with healthchecks and real clients."""

from __future__ import annotations

import pytest

from tests.support import projects, real, runner

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
