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
    assert filenames.is_unfinished(filenames.unfinished_name(filenames.index_name("ckpt-1")))
    draft = filenames.temporary_name("a/recall.png", "0a1b2c3d")
    assert filenames.is_unfinished(draft)
    assert filenames.temporary_of(draft) == "a/recall.png"
    assert filenames.temporary_of("checkpoint.tmp0a1b2c3d") is None


@pytest.mark.parametrize("name", ["ckpt-1_temp", "ckpt-1_temp_" + "0" * 32, filenames.UNFINISHED_SAVE])
def test_folders_of_unfinished_saves(name: str) -> None:
    assert filenames.is_unfinished_folder(name)


@pytest.mark.parametrize(
    ("name", "folder", "part"),
    [
        ("part-00000-of-00001.data-00000-of-00001", "ckpt-1_temp", True),
        ("part-00000-of-00001.index.tempstate7", "ckpt-1_temp", True),
        ("ckpt-12.index", "my_temp", False),
        ("ckpt-12.index", filenames.UNFINISHED_SAVE, True),
        ("best-3.weights.h5", filenames.UNFINISHED_SAVE, True),
        ("ckpt-12_temp", filenames.UNFINISHED_SAVE, True),
        ("weights.h5", "my_temp", False),
        ("thesis.tex", filenames.UNFINISHED_SAVE, False),
    ],
)
def test_parts_of_unfinished_saves(name: str, folder: str, part: bool) -> None:
    assert filenames.is_part_of_unfinished(name, folder) == part


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("a/m_00003.weights.h5", "a/m.weights.json"),
        ("tf_model-00001-of-00002.h5", "tf_model.h5.index.json"),
        ("m.weights.h5", None),
        ("m_3.weights.h5", None),
    ],
)
def test_shards_of_keras_weights_are_told_by_their_names(name: str, whole: str | None) -> None:
    assert filenames.keras_map_of(name) == whole


@pytest.mark.parametrize("name", ["model.ckpt-3_temp", "x.tmp", "ckpt-1.index.tempstate7", "1.orbax-checkpoint-tmp-2"])
def test_drafts_of_any_saver(name: str) -> None:
    assert filenames.is_draft(name)


@pytest.mark.parametrize("name", ["model.ckpt-3", "ckpt-1.index", "templates", "checkpoint"])
def test_what_is_no_draft(name: str) -> None:
    assert not filenames.is_draft(name)


@given(PREFIXES.filter(bool), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_shard_of_version_1_that_is_made_is_told_again(prefix: str, shard: int, count: int) -> None:
    found = filenames.shard_of_v1(filenames.v1_shard_name(prefix, shard, count))
    assert found is not None
    assert (found.prefix, found.shard, int(found.count)) == (prefix, shard, count)
    again = filenames.shard_of_v1(found.pattern)
    assert again is not None
    assert (again.prefix, again.shard, again.pattern) == (prefix, None, found.pattern)


def test_a_set_of_version_1_is_known_by_any_of_its_shards() -> None:
    assert filenames.v1_set("a/b-00001-of-00002") == filenames.v1_set("a/b-?????-of-00002") == "a/b-?????-of-00002"
    assert filenames.v1_set("a/b-1-of-2") is None
