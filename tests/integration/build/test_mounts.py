"""``RUN --mount`` and ``--network``: what a command sees, and what of it stays."""

from __future__ import annotations

import pathlib
import socket

import pytest

from devenv import errors
from devenv.build import agents, progress, request
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]


def _everything(builder: building.Builder) -> bytes:
    """All that is on the disk of what devenv keeps, and what was told."""
    data = pathlib.Path(builder.where.data).rglob("*")
    run = pathlib.Path(builder.where.run).rglob("*")
    found = b"".join(path.read_bytes() for path in (*data, *run) if path.is_file() and not path.is_symlink())
    return found + repr(builder.steps).encode()


def test_a_secret_is_a_file_of_the_step_and_nowhere_else(builder: building.Builder) -> None:
    dockerfile = """\
FROM busybox
RUN --mount=type=secret,id=key,mode=0440,uid=5,gid=6 stat -c '%a %u %g' /run/secrets/key; wc -c < /run/secrets/key
RUN --mount=type=secret,id=key,env=KEY echo ${#KEY}; ls /run
RUN --mount=type=secret,id=none [ ! -e /run/secrets/none ]
"""
    given = (request.Secret("key", value=b"very-secret-value"),)

    first = builder.build(dockerfile, secrets=given)

    assert "440 5 6\n17\n17\n" in builder.output
    assert b"very-secret-value" not in _everything(builder)
    assert builder.build(dockerfile, secrets=(request.Secret("key", value=b"another"),)).target == first.target


def test_a_secret_that_is_required_has_to_be_given(builder: building.Builder) -> None:
    with pytest.raises(errors.BuildError, match="the secret `key` is required"):
        builder.build("FROM busybox\nRUN --mount=type=secret,id=key,required true\n")


def test_a_cache_outlives_builds_and_is_in_no_layer(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c,mode=0700 echo x >> /c/n; wc -l < /c/n; touch /made\n"

    built = builder.build(dockerfile)
    builder.build(dockerfile, no_cache=True)

    assert builder.output == "2\n"
    assert built.top() == {"made"}


def test_a_locked_cache_is_one_steps_at_a_time(builder: building.Builder) -> None:
    step = "RUN --mount=type=cache,target=/c,sharing=locked mkdir /c/mine && sleep 0.2 && rmdir /c/mine && touch /{0}\n"
    stages = "".join(f"FROM busybox AS s{number}\n{step.format(number)}" for number in range(3))
    copies = "".join(f"COPY --from=s{number} /{number} /{number}\n" for number in range(3))

    built = builder.build(stages.replace("FROM busybox", f"FROM {builder.base}") + "FROM scratch\n" + copies)

    assert all(built.look(f"/{number}") for number in range(3))


def test_a_bind_shows_files_and_throws_away_what_is_written(builder: building.Builder) -> None:
    builder.write({"src/a": "from the context", ".dockerignore": "src/hidden", "src/hidden": ""})
    dockerfile = """\
FROM busybox AS one
RUN mkdir -p /d/e && echo from a stage > /d/e/f
RUN rm -r /d/e && mkdir /d/e && echo another > /d/e/g
FROM busybox
RUN --mount=target=/ctx cat /ctx/src/a; ls /ctx/src; ! touch /ctx/x
RUN --mount=source=src,target=/ctx,rw touch /ctx/x && ls /ctx
RUN --mount=from=one,source=/d,target=/one ls /one/e; cat /one/e/g; ! touch /one/x
RUN --mount=from=one,source=/d/e/g,target=/one cat /one
RUN --mount=from=one,target=/one,rw touch /one/d/x && ls /one/d
"""
    built = builder.build(dockerfile)

    assert "from the context" in builder.output
    assert "hidden" not in builder.output
    assert builder.output.count("another\n") == 2
    assert not (builder.context / "src/x").exists()
    assert built.look("/one") is None
    assert built.look("/ctx") is None


def test_what_is_bound_is_part_of_the_key(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN --mount=source=a,target=/a cat /a > /b\n"
    builder.write({"a": "1", "other": "1"})
    builder.build(dockerfile)

    builder.write({"other": "2"})
    builder.build(dockerfile)
    assert builder.said(progress.State.STARTED) == []

    builder.write({"a": "2"})
    assert builder.build(dockerfile).read("/b") == "2"


def test_memory_is_gone_afterwards(builder: building.Builder) -> None:
    built = builder.build(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m touch /t/x; df -k /t | tail -1 > /size; touch /made\n"
    )

    assert built.top() == {"made", "size"}
    assert built.read("/size").split()[1] == "1024"


def test_an_agents_socket_is_the_steps_own(builder: building.Builder, short_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "agent"))
        listener.listen()
        builder.build(
            "FROM busybox\nUSER 1000\nRUN --mount=type=ssh,uid=1000 stat -c '%F %u %a' $SSH_AUTH_SOCK\n",
            ssh=(request.Agent("default", ()),),
            environ={"SSH_AUTH_SOCK": f"{short_path}/agent"},
        )

    assert builder.output == "socket 1000 600\n"


def test_it_leads_to_the_agent(short_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "agent"))
        listener.listen()
        asked = request.Agent("default", (f"{short_path}/agent",))
        with agents.forwarded(asked, f"{short_path}/own", environ={}), socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{short_path}/own")
            client.sendall(b"list keys")
            with listener.accept()[0] as agent:
                assert agent.recv(100) == b"list keys"
                agent.sendall(b"none")
            assert client.recv(100) == b"none"
            assert client.recv(100) == b""


def test_networks_are_as_asked(builder: building.Builder) -> None:
    builder.build(
        """\
FROM busybox
RUN ip -o link | grep -c eth0
RUN --network=none ip -o link | grep -c eth0 || true
RUN grep -c extra /etc/hosts
""",
        extra_hosts=(("extra", "10.1.2.3"),),
    )

    assert sorted(builder.output.split()) == ["0", "1", "1"]


def test_the_hosts_network_has_to_be_allowed(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN --network=host true\n"

    with pytest.raises(errors.BuildError, match="is not allowed") as caught:
        builder.build(dockerfile)
    assert caught.value.line == 2

    builder.build(dockerfile, entitlements=frozenset({"network.host"}))


def test_a_heredoc_is_a_script(builder: building.Builder) -> None:
    builder.build(
        """\
FROM busybox
RUN <<EOF
echo one
echo two
EOF
RUN <<'EOF'
#!/bin/busybox cat
three
EOF
RUN cat <<A <<B
four
A
five
B
"""
    )

    assert builder.output.split() == ["one", "two", "#!/bin/busybox", "cat", "three", "five"]
