"""What every reader and every lineage has to keep: classes of tests, to be inherited by one class for each of them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from ckpt_tools.errors import CkptError, NotFoundError
from ckpt_tools.lineages import Lineage, identify, names
from ckpt_tools.readers import Checkpoint, locate, open_checkpoint

Values = dict[str, np.ndarray]


class ReaderContract:
    """Tests of one reader, see `ckpt_tools.readers.base.Checkpoint`."""

    format: str
    # Whether damage to a value is seen, by a checksum.
    has_checksums = True

    def make(self, folder: Path, values: Values) -> Path:
        """Write a checkpoint of this format below an empty folder, with these float32 tensors (at least by these
        names); what to pass to open it."""
        raise NotImplementedError

    def name_of(self, name: str) -> str:
        """What a tensor is called in it."""
        return name

    @pytest.fixture
    def values(self) -> Values:
        rng = np.random.default_rng(7)
        shapes = {"a": (5, 3), "b": (4,), "c": ()}
        return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}

    @pytest.fixture
    def path(self, tmp_path: Path, values: Values) -> str:
        (tmp_path / "here").mkdir()
        return str(self.make(tmp_path / "here", values))

    @pytest.fixture
    def stored(self, values: Values) -> Values:
        return {self.name_of(name): value for name, value in values.items()}

    def test_it_is_opened_as_what_it_is(self, path: str) -> None:
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.format == self.format
            assert list(checkpoint.tensors) == sorted(checkpoint.tensors)

    def test_what_it_is_located_as_is_located_as_itself(self, path: str) -> None:
        assert locate(locate(path)) == locate(path)

    def test_values_rows_pieces_and_digests_are_those_that_were_written(self, path: str, stored: Values) -> None:
        with open_checkpoint(path) as checkpoint:
            for name, value in stored.items():
                info = checkpoint.tensors[name]
                assert (info.name, info.dtype, info.shape, info.nbytes) == (name, "float32", value.shape, value.nbytes)
                read = checkpoint.read(name)
                assert (read.dtype, read.shape, read.tobytes()) == (value.dtype, value.shape, value.tobytes())
                assert b"".join(checkpoint.chunks(name)) == value.tobytes()
                assert checkpoint.digest(name) == hashlib.sha256(value.tobytes()).hexdigest()
                for first, count in ((0, 1), (1, 2), (0, len(value))) if value.ndim else ():
                    assert np.array_equal(checkpoint.rows(name, first, count), value[first : first + count])

    def test_a_value_belongs_to_who_asked(self, path: str, stored: Values) -> None:
        name = next(iter(stored))
        with open_checkpoint(path) as checkpoint:
            checkpoint.read(name)[...] = 0
            assert checkpoint.read(name).tobytes() == stored[name].tobytes()

    def test_an_unknown_name_is_not_found(self, path: str) -> None:
        with open_checkpoint(path) as checkpoint:
            for ask in (checkpoint.read, checkpoint.digest, lambda name: list(checkpoint.chunks(name))):
                with pytest.raises(NotFoundError, match="no such tensor"):
                    ask("no/such/tensor")
            with pytest.raises(NotFoundError, match="no such tensor"):
                checkpoint.rows("no/such/tensor", 0, 1)

    def test_what_is_whole_is_found_whole_and_each_tensor_is_examined_once(self, path: str, stored: Values) -> None:
        with open_checkpoint(path) as checkpoint:
            assert list(checkpoint.verify()) == []
            steps = list(checkpoint.examine())
            done = [step.tensor for step in steps if step.tensor in checkpoint.tensors]
            assert sorted(done) == sorted(checkpoint.tensors)
            assert sum(step.nbytes for step in steps) >= sum(value.nbytes for value in stored.values())
            name = next(iter(stored))
            assert [step.tensor for step in checkpoint.examine_some([name]) if step.tensor] == [name]

    def test_it_may_be_closed_twice(self, path: str) -> None:
        with open_checkpoint(path) as checkpoint:
            pass
        checkpoint.close()

    def test_no_damage_is_an_error_of_another_kind(self, path: str, tmp_path: Path, stored: Values) -> None:
        """Each file cut off, and with a byte turned, at some places: an error of ours, a finding, or (without
        checksums) a value that nobody can tell from a right one."""
        seen = 0
        for file in sorted(each for each in (tmp_path / "here").rglob("*") if each.is_file()):
            original = file.read_bytes()
            for place in range(0, len(original), max(1, len(original) // 12)):
                turned = original[:place] + bytes([original[place] ^ 0x5A]) + original[place + 1 :]
                for data in (original[:place], turned):
                    file.write_bytes(data)
                    seen += self._is_noticed(path, stored)
            file.write_bytes(original)
        assert seen

    def _is_noticed(self, path: str, stored: Values) -> bool:
        noticed, right = False, False
        with contextlib.suppress(CkptError), open_checkpoint(path) as checkpoint:
            noticed = bool(list(checkpoint.verify()))
            right = all(
                name in checkpoint.tensors and checkpoint.read(name).tobytes() == value.tobytes()
                for name, value in stored.items()
            )
            assert noticed or right or not self.has_checksums
        return noticed or not right


class LineageContract:
    """Tests of one lineage, see `ckpt_tools.lineages.base.Lineage`."""

    id: str

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        """An open checkpoint of this lineage."""
        raise NotImplementedError

    @pytest.fixture
    def lineage(self, checkpoint: Checkpoint) -> Lineage:
        found = identify(checkpoint)
        assert found is not None
        return found

    def test_it_is_recognised(self, lineage: Lineage) -> None:
        assert (lineage.id, bool(lineage.producer)) == (self.id, True)

    def test_canonical_names_are_those_of_the_contract(self, lineage: Lineage) -> None:
        fixed = {names.STEP, names.LEARNING_RATE, names.BEST_METRIC, names.SAVE_COUNTER}
        model = {name for name in lineage.canonical() if name.startswith(names.MODEL)}
        moments = {names.moment_name(moment, name) for moment in names.MOMENTS for name in model}
        assert model
        for name in lineage.canonical():
            assert name in fixed | model | moments or name.startswith(("state/", "optimizer/", "best_metric")), name

    def test_each_tensor_is_read_from_what_is_stored(self, checkpoint: Checkpoint, lineage: Lineage) -> None:
        for name, source in lineage.tensors.items():
            assert source.keys
            assert checkpoint.tensors.keys() >= set(source.keys)
            assert all(lineage.name_of(key) is not None for key in source.keys)
            value = lineage.read(checkpoint, name)
            if source.convert is None:
                assert len(source.keys) == 1
                assert value.shape == checkpoint.tensors[source.keys[0]].shape

    def test_moments_have_the_shape_of_their_variable(self, checkpoint: Checkpoint, lineage: Lineage) -> None:
        model = [name for name in lineage.canonical() if name.startswith(names.MODEL)]
        pairs = [(name, names.moment_name(moment, name)) for name, moment in itertools.product(model, names.MOMENTS)]
        there = [(name, moment) for name, moment in pairs if moment in lineage.tensors]
        assert there
        for name, moment in there:
            assert lineage.read(checkpoint, moment).shape == lineage.read(checkpoint, name).shape

    def test_what_it_has_not_is_not_found(self, checkpoint: Checkpoint, lineage: Lineage) -> None:
        with pytest.raises(NotFoundError, match="holds no model/nothing"):
            lineage.read(checkpoint, "model/nothing")
        assert lineage.name_of("no/such/key") is None

    def test_every_hyper_parameter_says_where_it_came_from(self, lineage: Lineage) -> None:
        told = {name for name, value in lineage.hyper.items() if value is not None}
        assert told <= set(lineage.sources)
        assert lineage.step is None or lineage.step >= 0
        row = lineage.to_json()
        assert {"id", "producer", "sources", *lineage.hyper} <= set(row)
        assert list(row)[:2] == ["id", "producer"]

    def test_it_is_told_without_reading_the_values(
        self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every producer is asked about every checkpoint: what is read are single numbers and texts."""
        chunks, read = type(checkpoint).chunks, []

        def counted(self: Checkpoint, name: str) -> object:
            read.append(self.tensors[name].nbytes)
            return chunks(self, name)

        monkeypatch.setattr(type(checkpoint), "chunks", counted)
        assert identify(checkpoint) is not None
        assert sum(read) < 4096
