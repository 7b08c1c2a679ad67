"""The parser against the grammar of github.com/distribution/reference, written down here as its expressions stand
there and put together as its ``ParseNormalizedNamed`` does. Texts are made of pieces that matter to either."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import pytest

from devenv import errors
from devenv.image import reference

COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
PATH = rf"{COMPONENT}(?:/{COMPONENT})*"
LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
HOST = rf"(?:{LABEL}(?:\.{LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
DOMAIN = rf"{HOST}(?::[0-9]+)?"
TAG = r"[\w][\w.-]{0,127}"
DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9A-Fa-f]{32,}"
WHOLE = re.compile(rf"((?:{DOMAIN}/)?{PATH})(?::({TAG}))?(?:@({DIGEST}))?", re.ASCII)
NAME = re.compile(rf"(?:({DOMAIN})/)?({PATH})", re.ASCII)
# github.com/opencontainers/go-digest: the algorithms it knows, in lower case and in full.
KNOWN = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")


class Parts(NamedTuple):
    registry: str
    repository: str
    tag: str
    digest: str


def split(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return "docker.io", f"library/{text}"
    domain, remainder = "docker.io", text
    if first == "index.docker.io":
        remainder = rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    if domain == "docker.io" and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def oracle(text: str) -> Parts | None:
    if re.fullmatch("[a-f0-9]{64}", text):
        return None
    domain, remainder = split(text)
    remote = remainder.partition(":")[0]
    match = WHOLE.fullmatch(f"{domain}/{remainder}")
    if remote.lower() != remote or match is None:
        return None
    name, tag, digest = match[1], match[2] or "", match[3] or ""
    named = NAME.fullmatch(name)
    assert named is not None
    if named[1] is None:
        # `a.b_c/d`: it looked like a registry, is none, and Docker is left with a name that no registry has.
        return None
    if len(named[2]) > 255 or (digest and not KNOWN.fullmatch(digest)):
        return None
    return Parts(named[1], named[2], tag or ("" if digest else "latest"), digest)


def parsed(text: str) -> Parts | None:
    try:
        found = reference.parse(text)
    except errors.ImageError:
        return None
    return Parts(found.registry, found.repository, found.tag, found.digest)


PIECES = (
    *"a b 0 9 A Z - _ . / : @ [ ] + é".split(),
    *"__ --- .. // :: -a a- a.b a_b localhost docker.io index.docker.io library library/".split(),
    *"redis ghcr.io :5000 :443/ ::1".split(),
    *"[::1] [fe80::1%eth0] sha256: sha384: sha512: sha256+b64: md5: SHA256: latest :7 :v1.0-x @sha256:".split(),
    "0" * 32,
    "a" * 64,
    "a" * 96,
    "f" * 128,
    "F" * 64,
    "a" * 127,
    "b" * 255,
    " ",
)
SHAPED = ("localhost:5000", "ghcr.io", "A", "", "docker.io"), ("a", "library", "a/b", "a__b", ""), ("", ":7", ":_", ":")


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_grammar(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(5000):
        text = "".join(source.choices(PIECES, k=source.randint(1, 7)))
        assert parsed(text) == oracle(text), text


def test_agrees_on_well_shaped_texts() -> None:
    digests = ("", "@sha256:" + "a" * 64, "@sha256:" + "a" * 63, "@sha384:" + "0" * 96, "@sha512:" + "0" * 128, "@")
    accepted = 0
    for registry in SHAPED[0]:
        for repository in SHAPED[1]:
            for tag in SHAPED[2]:
                for digest in digests:
                    text = f"{registry}/{repository}{tag}{digest}" if registry else f"{repository}{tag}{digest}"
                    assert parsed(text) == oracle(text), text
                    accepted += parsed(text) is not None
    assert accepted > 100


@pytest.mark.parametrize("seed", range(4))
def test_what_is_printed_means_the_same(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(5000):
        text = "".join(source.choices(PIECES, k=source.randint(1, 6)))
        if parsed(text) is None:
            continue
        found = reference.parse(text)
        assert reference.parse(str(found)) == found
        assert reference.parse(found.familiar) == found
