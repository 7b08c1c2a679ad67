"""What history says of an instruction is what BuildKit's says."""

from __future__ import annotations

import pytest

from devenv.build import history


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (300_000_000, "300ms"),
        (1_500_000_000, "1.5s"),
        (30_000_000_000, "30s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (3_661_500_000_000, "1h1m1.5s"),
    ],
)
def test_a_duration_is_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert history.duration(nanoseconds) == text


def test_run_shows_the_arguments_that_it_sees() -> None:
    assert history.run(["/bin/sh", "-c", "make"], {}) == "RUN /bin/sh -c make # buildkit"
    assert history.run(["/bin/sh", "-c", "make"], {"A": "1", "B": ""}) == "RUN |2 A=1 B= /bin/sh -c make # buildkit"


def test_copy_shows_what_changes_the_files() -> None:
    line = history.transfer("COPY", ["a", "b"], "/to/", heredocs=["EOF"], chown="1:2", chmod="755", parents=True)

    assert line == "COPY --parents --chown=1:2 --chmod=755 a b <<EOF /to/ # buildkit"


def test_the_rest_is_in_gos_forms() -> None:
    assert history.exec_form("CMD", ['say "hi"', "a\tb"]) == r'CMD ["say \"hi\"" "a\tb"]'
    assert history.listed("SHELL", ["/bin/bash", "-c"]) == "SHELL [/bin/bash -c]"
    assert history.expose(["81/udp", "80/tcp"]) == "EXPOSE map[80/tcp:{} 81/udp:{}]"
    assert history.pairs("ARG", [("A", None), ("B", "1")]) == "ARG A B=1"


def test_a_health_check_is_shown_as_a_structure() -> None:
    given = {"Test": ["CMD-SHELL", "true"], "Interval": 30 * 10**9, "Retries": 3}

    assert history.healthcheck(given) == r"""HEALTHCHECK &{["CMD-SHELL" "true"] "30s" "0s" "0s" "0s" '\x03'}"""
