"""Whatever is in a file, loading ends with a project or with an error that names it: never with another exception."""

from __future__ import annotations

import pathlib
import random

import pytest

from devenv import errors
from devenv.spec import loader
from tests.unit.spec.support import CORPUS, HOME

ATTRIBUTES = CORPUS / "compose" / "attributes"
SEEDS = sorted(ATTRIBUTES.glob("*.yaml")) + sorted((CORPUS / "compose/awesome-compose").glob("*/compose.yaml"))[::5]
ROUNDS = 40
TOKENS = [
    *"{}[]:,&*!|>'\"%@`#-?\t\n $",
    "null", "true", "~", "[]", "{}", "-1", "1e400g", "0644", "${A", "${A:-", "$$", "<<: ", "*x", "&x ", "!reset ",
    "!override ", "!!str ", "services:", "\n  ", "\n- ", "service:x", ": null", "x-a: ", "\ufeff", "9" * 30, ".inf", ".nan",
]  # fmt: skip


def mutate(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            text = text[:at] + chance.choice(TOKENS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + chance.randint(1, 12) :]
        elif kind == 2:
            lines = text.split("\n")
            line = chance.randrange(len(lines))
            lines[line] = (" " * chance.randrange(9)) + lines[line].lstrip()
            text = "\n".join(lines)
        elif kind == 3:
            # A value of another type.
            head, colon, _ = text[:at].rpartition(": ")
            end = text.find("\n", at)
            text = head + colon + chance.choice(TOKENS) + text[end if end >= 0 else at :]
        else:
            other = chance.randrange(len(text) + 1)
            text = text[:at] + text[other : other + 40] + text[at:]
    return text


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_mutated_files(seed: pathlib.Path) -> None:
    chance = random.Random(seed.name + seed.parent.name)
    text = seed.read_text()
    refused = 0
    for _ in range(ROUNDS):
        mutated = mutate(text, chance)
        options = loader.LoadOptions(
            files=["-"], stdin=mutated.encode(), environ=HOME, cwd=str(seed.parent), profiles=["*"]
        )
        try:
            loader.load(options)
        except errors.SpecError as error:
            assert error.message
            refused += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{mutated}") from error
    assert refused


def test_merged_garbage(tmp_path: pathlib.Path) -> None:
    chance = random.Random(7)
    base = (ATTRIBUTES / "merge-base.yaml").read_text()
    over = (ATTRIBUTES / "merge-override.yaml").read_text()
    for _ in range(100):
        (tmp_path / "a.yaml").write_text(mutate(base, chance))
        (tmp_path / "b.yaml").write_text(mutate(over, chance))
        try:
            loader.load(loader.LoadOptions(files=["a.yaml", "b.yaml"], environ=HOME, cwd=str(tmp_path)))
        except errors.SpecError:
            continue


def test_bytes_that_are_no_text() -> None:
    chance = random.Random(3)
    for size in (0, 1, 2, 3, 17, 256, 4096):
        for _ in range(10):
            options = loader.LoadOptions(files=["-"], stdin=chance.randbytes(size), environ=HOME, cwd="/")
            with pytest.raises(errors.SpecError):
                loader.load(options)
