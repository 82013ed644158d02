from __future__ import annotations

import os

import numpy as np
import pytest
from toys import DATASET, ITEMS, make_users, write_split

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(3)
    for split, first, count in (("train", 0, 60), ("valid", 100, 25), ("test", 200, 25)):
        write_split(directory / f"{DATASET}_{split}.txt", make_users(first, count, random))
    categories = "".join(f"{item},{item % 4}\n" for item in range(1, ITEMS))
    (directory / f"{DATASET}_item_cate.txt").write_text(categories)
    return str(directory)
