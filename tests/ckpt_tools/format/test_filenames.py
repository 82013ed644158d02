"""How the files of a checkpoint are called: made and told apart in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt_tools.format import filenames
from ckpt_tools.format.filenames import BundlePart

PREFIXES = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


@given(PREFIXES, st.integers(0, 10**6), st.integers(1, 10**6))
def test_every_name_that_is_made_is_told_again(prefix: str, shard: int, count: int) -> None:
    assert filenames.bundle_part(filenames.index_name(prefix)) == BundlePart(prefix, "index")
    assert filenames.bundle_part(filenames.meta_name(prefix)) == BundlePart(prefix, "meta")
    assert filenames.bundle_part(filenames.data_name(prefix, shard, count)) == BundlePart(prefix, "data", shard, count)


@pytest.mark.parametrize(
    "name", ["model.ckpt", "index", "a.data-0-of-1", "a.data-00000-of-00001 (1)", "a.index.txt", ""]
)
def test_what_is_no_part_of_a_bundle(name: str) -> None:
    assert filenames.bundle_part(name) is None


@pytest.mark.parametrize(
    ("name", "unfinished"),
    [
        ("a.data-00000-of-00001.tempstate123", True),
        ("checkpoint.tmp0a1b2c3d4e5f", True),
        ("model.meta.tmp0a1b2c3d4e5f", True),
        ("recall.png.tmp-0a1b2c3d", True),
        ("checkpoint.tmp-0a1b2c3d", True),
        ("ckpt-1.meta.tmp-0a1b2c3d", True),
        ("ckpt-1.index.ckpt-tools", True),
        (".index.ckpt-tools", True),
        ("checkpoint", False),
        ("checkpoint.tmp", False),
        ("notes.tmp-final", False),
        ("ckpt-1.index", False),
        ("model.tempstate", False),
    ],
)
def test_what_a_killed_save_leaves_is_told_by_its_name(name: str, unfinished: bool) -> None:
    assert filenames.is_unfinished(name) == unfinished


def test_names_before_the_commit_are_names_of_what_is_unfinished() -> None:
    for name in (filenames.temporary_index_name("ckpt-1"), filenames.temporary_name("a/recall.png", "0a1b2c3d")):
        assert filenames.is_own_unfinished(name)


@pytest.mark.parametrize("name", ["ckpt-1_temp", "ckpt-1_temp_" + "0" * 32, filenames.UNFINISHED_SAVE])
def test_folders_of_unfinished_saves(name: str) -> None:
    assert filenames.is_unfinished_folder(name)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("part-00000-of-00001.data-00000-of-00001", True),
        ("part-00000-of-00001.index.tempstate7", True),
        ("ckpt-12.index", True),
        ("ckpt-12_temp", True),
        ("weights.h5", False),
    ],
)
def test_parts_of_unfinished_saves(name: str, part: bool) -> None:
    assert filenames.is_part_of_unfinished(name) == part


def test_a_set_of_version_1_is_known_by_any_of_its_shards() -> None:
    assert filenames.v1_set("a/b-00001-of-00002") == filenames.v1_set("a/b-?????-of-00002") == "a/b-?????-of-00002"
    assert filenames.v1_set("a/b-1-of-2") is None
