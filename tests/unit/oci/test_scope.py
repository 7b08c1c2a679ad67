"""How a container's unit is called."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.oci import scope


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ("system.slice", "devenv-oci-c1.scope")),
        ("machine.slice:libpod:abc", ("machine.slice", "libpod-abc.scope")),
        (":docker:abc", ("system.slice", "docker-abc.scope")),
        ("a-b.slice::abc", ("a-b.slice", "abc.scope")),
    ],
)
def test_names(path: str, expected: tuple[str, str]) -> None:
    assert scope.name(path, "c1", user=False) == expected


def test_a_users_are_in_the_users_slice() -> None:
    assert scope.name("", "c1", user=True)[0] == "user.slice"


@pytest.mark.parametrize(
    "path", ["/a/b", "a:b", "a:b:c:d", "a.slice:b:", "nothing:b:c", "-.slice:b:c", "a.slice:../b:c"]
)
def test_what_is_no_name(path: str) -> None:
    with pytest.raises(errors.ContainerError):
        scope.name(path, "c1", user=False)
