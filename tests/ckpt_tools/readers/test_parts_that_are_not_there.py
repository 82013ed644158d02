"""What a checkpoint may lack while TensorFlow restores the rest: the same is read here, and is no damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.tensorflow]

import tensorflow as tf  # noqa: E402
from oracle import save  # noqa: E402

from ckpt_tools.analysis.difference import diff  # noqa: E402
from ckpt_tools.analysis.inspection import inspect  # noqa: E402
from ckpt_tools.analysis.page_contents import run_contents  # noqa: E402
from ckpt_tools.analysis.verification import verify  # noqa: E402
from ckpt_tools.errors import CorruptError, NotFoundError  # noqa: E402
from ckpt_tools.format.slices import Box, require_apart  # noqa: E402
from ckpt_tools.format.table import read_table, write_table  # noqa: E402
from ckpt_tools.readers import open_checkpoint  # noqa: E402


@pytest.mark.parametrize("slices", ["4 2 0,2:-", "4 2 2,2:-", "4 2 1,1:0,1"])
def test_a_piece_of_a_sharded_save(tmp_path: Path, slices: str) -> None:
    shape = [int(extent.partition(",")[2] or 2) for extent in slices.split()[2].split(":") if extent != "-"]
    part = tf.ones([shape[0], shape[1] if len(shape) > 1 else 2])
    prefix = save(tmp_path / "x", {"part": part, "whole": [3.0]}, [slices, ""])
    reader = tf.train.load_checkpoint(prefix)
    found = verify(prefix)
    assert found.whole
    assert [(finding.id, finding.severity, finding.key) for finding in found.findings] == [
        ("partial", "warning", "part")
    ]
    with open_checkpoint(prefix) as checkpoint:
        assert {
            name: list(info.shape) for name, info in checkpoint.tensors.items()
        } == reader.get_variable_to_shape_map()
        assert checkpoint.read("whole").tolist() == reader.get_tensor("whole").tolist()
        with pytest.raises(NotFoundError, match="of its 8 elements"):
            checkpoint.read("part")
        with pytest.raises(NotFoundError):
            list(checkpoint.chunks("part"))
    with pytest.raises(ValueError, match="sufficient slices"):
        reader.get_tensor("part")


def test_a_piece_is_no_damage_to_any_look(tmp_path: Path) -> None:
    prefix = save(tmp_path / "x", {"part": tf.ones([2, 2]), "whole": [3.0]}, ["4 2 0,2:-", ""])
    page = run_contents(prefix)
    assert not page.is_damaged
    assert [histogram.name for histogram in page.histograms] == ["whole"]
    measured = inspect(prefix, digest=True, stats=True)
    assert [(tensor.name, tensor.sha256 is None, tensor.stats is None) for tensor in measured.tensors] == [
        ("part", True, True),
        ("whole", False, False),
    ]
    for found in (page, measured):
        assert [(finding.id, finding.severity) for finding in found.findings] == [("partial", "warning")]


def test_a_damaged_byte_of_a_piece_is_found(tmp_path: Path) -> None:
    prefix = save(tmp_path / "x", {"part": tf.ones([2, 2])}, ["4 2 0,2:-"])
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(b"\1" + data.read_bytes()[1:])
    assert not verify(prefix).whole


def test_parts_that_overlap_are_refused_whether_all_is_there_or_not() -> None:
    assert require_apart([Box((0,), (2,)), Box((3,), (1,))], (6,)) == 3
    assert require_apart([Box((0, 0), (2, 3)), Box((2, 0), (2, 3))], (4, 3)) == 0
    for boxes in ([Box((0,), (2,)), Box((1,), (2,))], [Box((0,), (3,)), Box((0,), (3,))]):
        with pytest.raises(CorruptError):
            require_apart(boxes, (6,))


def test_a_variable_without_a_value(tmp_path: Path) -> None:
    module = tf.Module()
    from tensorflow.python.ops import resource_variable_ops

    module.empty = resource_variable_ops.UninitializedVariable(name="empty", dtype=tf.float32)
    module.full = tf.Variable([1.0, 2.0])
    tf.saved_model.save(module, str(tmp_path))
    found = verify(str(tmp_path))
    assert found.whole
    assert found.diagnosis is None
    assert [(finding.id, finding.severity) for finding in found.findings] == [("no-value", "note")]
    assert "empty" in found.findings[0].message
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.graph is not None
        assert [name for name in checkpoint.tensors if "full" in name] == list(checkpoint.tensors)
    assert diff(str(tmp_path), str(tmp_path)).same
    restored = tf.Variable([0.0, 0.0])
    tf.train.Checkpoint(full=restored).restore(str(tmp_path / "variables" / "variables")).expect_partial()
    np.testing.assert_array_equal(restored, [1.0, 2.0])


def test_an_index_without_tensors_needs_no_data(tmp_path: Path) -> None:
    list(tf.data.Dataset.range(0).cache(str(tmp_path / "cache")))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("cache.data")] == []
    assert tf.train.load_checkpoint(str(tmp_path / "cache")).get_variable_to_shape_map() == {}
    assert verify(str(tmp_path / "cache")).whole
    assert verify(str(tmp_path / "cache"), quick=True).whole


@pytest.mark.parametrize("empty", [False, True])
def test_a_data_file_that_no_tensor_lies_in_may_be_missing(tmp_path: Path, empty: bool) -> None:
    parts = [save(tmp_path / "t/part-0", {"a": [1.0]}), save(tmp_path / "t/part-1", {"b": tf.zeros([0, 3])})]
    prefix = str(tmp_path / "m")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)
    if not empty:
        index = Path(f"{prefix}.index")
        table = read_table(index.read_bytes())
        del table[b"b"]
        index.write_bytes(write_table(table))
    Path(f"{prefix}.data-00001-of-00002").unlink()
    reader = tf.train.load_checkpoint(prefix)
    assert reader.get_tensor("a").tolist() == [1.0]
    try:
        restored = not empty or reader.get_tensor("b").shape == (0, 3)
    except tf.errors.OpError:
        restored = False
    assert verify(prefix).whole == restored


def test_pieces_are_compared_where_they_are_the_same_ones(tmp_path: Path) -> None:
    ones, twos = tf.ones([2, 2]), tf.fill([2, 2], 2.0)
    first, second = "4 2 0,2:-", "4 2 2,2:-"
    a, same = save(tmp_path / "a", {"part": ones}, [first]), save(tmp_path / "s", {"part": ones}, [first])
    other, elsewhere = save(tmp_path / "o", {"part": twos}, [first]), save(tmp_path / "e", {"part": ones}, [second])
    assert diff(a, same).equal
    assert [change.kind for change in diff(a, other).changed] == ["values"]
    assert [finding.id for finding in diff(a, elsewhere).findings] == ["not-found"]
