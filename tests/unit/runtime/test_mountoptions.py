"""Mount options: what each turns into, and which of two wins."""

from __future__ import annotations

import pytest

from devenv.linux import mount
from devenv.runtime import mountoptions


def test_flags_and_data() -> None:
    found = mountoptions.parse(["nosuid", "ro", "mode=755", "size=64k"])
    assert found.flags == mount.MS_NOSUID | mount.MS_RDONLY
    assert found.data == "mode=755,size=64k"


def test_the_later_option_wins() -> None:
    assert mountoptions.parse(["ro", "rw"]).flags == 0
    assert mountoptions.parse(["rw", "ro"]).attributes == mount.MOUNT_ATTR_RDONLY
    assert mountoptions.parse(["ro", "rw"])[2:4] == (0, mount.MOUNT_ATTR_RDONLY)


def test_recursive_attributes_are_apart() -> None:
    found = mountoptions.parse(["rbind", "rro", "rnosuid", "nodev"])
    assert found.recursive
    assert found.attributes == mount.MOUNT_ATTR_NODEV
    assert found.all_attributes == mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
    assert found.data == ""


def test_times_are_one_field() -> None:
    found = mountoptions.parse(["noatime", "strictatime"])
    assert found.attributes == mount.MOUNT_ATTR_STRICTATIME
    assert found.cleared == mount.MOUNT_ATTR__ATIME


@pytest.mark.parametrize(
    ("word", "flag"),
    [
        ("private", mount.MS_PRIVATE),
        ("rshared", mount.MS_SHARED | mount.MS_REC),
        ("rslave", mount.MS_SLAVE | mount.MS_REC),
    ],
)
def test_propagation(word: str, flag: int) -> None:
    assert mountoptions.parse([word]).propagation == (flag,)
    assert mountoptions.propagation(word) == flag


@pytest.mark.parametrize(("options", "wanted"), [(["idmap"], "idmap"), (["ridmap"], "ridmap"), ([], "")])
def test_idmap(options: list[str], wanted: str) -> None:
    assert mountoptions.parse(options).idmap == wanted


def test_what_features_lists_is_understood() -> None:
    for name in mountoptions.known():
        assert mountoptions.parse([name]).data == "", name
