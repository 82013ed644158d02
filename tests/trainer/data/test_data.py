from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckpt_tools.errors import CorruptError, MismatchError, NotFoundError, UsageError
from trainer.data.interactions import find_dataset, read_categories, read_split, require_ids_below


def split(tmp_path: Path, text: str, name: str = "valid"):
    (tmp_path / f"toys_{name}.txt").write_text(text)
    return read_split(tmp_path, "toys", name)


def test_users_ascend_and_items_follow_time_with_ties_in_file_order(tmp_path: Path) -> None:
    read = split(tmp_path, "9,1,5\n3,7,2\n9,2,1\n3,8,2\n3,6,1\n9,3,5\n")
    assert read.users.tolist() == [3, 9]
    assert read.offsets.tolist() == [0, 3, 6]
    assert read.items.tolist() == [6, 7, 8, 2, 1, 3]
    assert read.items.dtype == np.int32


def test_the_digest_ignores_the_order_of_lines_and_nothing_else(tmp_path: Path) -> None:
    one = split(tmp_path, "1,5,0\n1,6,1\n2,7,0\n").digest
    assert split(tmp_path, "2,7,9\n1,6,8\n1,5,3\n").digest == one
    assert split(tmp_path, "1,6,0\n1,5,1\n2,7,0\n").digest != one
    assert split(tmp_path, "1,5,0\n2,6,1\n2,7,2\n").digest != one


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (2, "1,2,3\n1,2\n"),
        (3, "1,2,3\n\n1,x,3\n"),
        (1, "1,2,3,4\n"),
        (2, "1,2,3\n1,2.5,3\n"),
        (2, "1,2,3\n1,,3\n"),
        (1, f"1,2,{2**64}\n"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: int, text: str) -> None:
    with pytest.raises(CorruptError, match=f"line {line}: expected user,item,time") as caught:
        split(tmp_path, text)
    assert caught.value.path == str(tmp_path / "toys_valid.txt")


def test_a_file_without_lines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="found none"):
        split(tmp_path, "\n")


def test_an_id_beyond_the_table_is_named_with_its_line(tmp_path: Path) -> None:
    read = split(tmp_path, "1,2,3\n1,12,4\n")
    require_ids_below(read, 13)
    with pytest.raises(MismatchError, match="line 2: item id 12 has no row in the item table, which has 12"):
        require_ids_below(read, 12)
    with pytest.raises(UsageError, match="line 1: item id -1"):
        require_ids_below(split(tmp_path, "1,-1,3\n"), 12, error=UsageError)


def test_a_missing_file_lists_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"toys_train.txt, toys_valid.txt, toys_test.txt and toys_item_cate.txt"):
        read_split(tmp_path, "toys", "train")


def test_categories_and_the_only_dataset(data_dir: str, tmp_path: Path) -> None:
    assert read_categories(data_dir, "toys")[5] == 1
    assert find_dataset(data_dir) == "toys"
    with pytest.raises(NotFoundError, match=r"no \{dataset\}_valid\.txt"):
        find_dataset(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}_valid.txt").touch()
    with pytest.raises(NotFoundError, match="2 datasets"):
        find_dataset(tmp_path)


def test_windows_are_the_last_items_left_aligned(tmp_path: Path) -> None:
    read = split(tmp_path, "".join(f"1,{10 + t},{t}\n" for t in range(5)) + "2,30,0\n")
    history, mask = read.windows(np.array([0, 0, 1]), np.array([4, 2, 0]), 3)
    assert history.tolist() == [[11, 12, 13], [10, 11, 0], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert (history.dtype, mask.dtype) == (np.int32, np.float32)
