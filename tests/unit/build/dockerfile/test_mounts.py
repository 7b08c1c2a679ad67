"""``RUN --mount``: what its fields come to, and which don't go with its kind."""

from __future__ import annotations

import pytest

from devenv.build.dockerfile import mounts
from devenv.build.dockerfile.malformed import Malformed


def settled(text: str) -> mounts.Settled:
    return mounts.settle(mounts.read(text), lambda value: value.replace("$x", "expanded"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", mounts.Settled(target="/a")),
        ("type=bind,src=$x,dst=/a,rw", mounts.Settled(source="expanded", target="/a", writable=True)),
        (
            "from=b,source=/c,destination=/a,readonly=false",
            mounts.Settled(origin="b", source="/c", target="/a", writable=True),
        ),
        ("TYPE=Cache,target=/a", mounts.Settled(kind="cache", target="/a", writable=True)),
        (
            "type=cache,target=/a,id=i,sharing=Locked,mode=0700,uid=1,gid=2,ro",
            mounts.Settled(kind="cache", target="/a", id="i", sharing="locked", mode=0o700, uid=1, gid=2),
        ),
        ("type=tmpfs,target=/a,size=1.5m", mounts.Settled(kind="tmpfs", target="/a", writable=True, size=1572864)),
        ("type=secret,id=a,env=A,required", mounts.Settled(kind="secret", id="a", variable="A", required=True)),
        ("required=0,type=ssh,mode=600", mounts.Settled(kind="ssh", mode=0o600)),
        ("\"target=/a,b\",'c='", None),
        ('"target=/a,""b"""', mounts.Settled(target='/a,"b"')),
    ],
)
def test_comes_to(text: str, expected: mounts.Settled | None) -> None:
    if expected is None:
        with pytest.raises(Malformed, match="no field"):
            settled(text)
        return
    assert settled(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bnid,target=/a", "no type `bnid`"),
        ("type=cache,target=/a,sharing=all", "no sharing `all`"),
        ("target=/a,z", "no field `z`"),
        ("target", "`target` needs a value"),
        ("from=$x,target=/a", "`from` can't hold variables"),
        ("target=/a,ro=maybe", "true or false"),
        ("target=/a,required", "a bind mount has no `required`"),
        ("target=/a,size=1", "a bind mount has no `size`"),
        ("target=/a,mode=1", "a bind mount has no `mode`"),
        ("target=/a,sharing=shared", "a bind mount has no `sharing`"),
        ("type=cache,mode=8", "`mode` is an octal number"),
        ("type=cache,uid=-1", "`uid` is a number"),
        ("type=tmpfs,size=big", "`size` is no size"),
        ("type=secret", "the secret has no id"),
        ("type=secret,id=a,source=b", "not both"),
        ("type=secret,id=a,from=b", "a secret mount has no `from`"),
        ('"open', "not closed"),
        ('"a"b', "goes on behind"),
        ('a"b', "in the middle"),
    ],
)
def test_is_refused(text: str, message: str) -> None:
    with pytest.raises(Malformed, match=message.replace("(", r"\(")):
        settled(text)
