from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import ITEMS, small_config, write_split

from ckpt_tools.errors import UsageError
from trainer.data.distinct import compact, first_places
from trainer.data.interactions import read_split
from trainer.data.negatives import LogUniform, target_frequencies
from trainer.data.sampling import BatchSampler
from trainer.random_streams import RandomStream, generator


def test_a_batch_depends_on_seed_and_step_alone(data_dir: str) -> None:
    train = read_split(data_dir, "toys", "train")
    first, again = BatchSampler(train, small_config()), BatchSampler(train, small_config())
    again(3)
    for name, value in vars(first(5)).items():
        assert np.array_equal(value, getattr(again(5), name)), name
    assert not np.array_equal(first(5).history, first(6).history)
    assert not np.array_equal(first(5).history, BatchSampler(train, small_config(seed=8))(5).history)


def test_a_batch_cuts_different_users_before_their_target(data_dir: str) -> None:
    train = read_split(data_dir, "toys", "train")
    users = {tuple(train.items[a:b].tolist()) for a, b in zip(train.offsets[:-1], train.offsets[1:], strict=True)}
    sampler = BatchSampler(train, small_config(maxlen=20))
    for step in range(20):
        batch = sampler(step)
        for history, mask, target in zip(batch.history, batch.mask, batch.target, strict=True):
            length = int(mask.sum())
            prefix = (*history[:length].tolist(), int(target))
            assert length >= 4
            assert not mask[length:].any()
            assert any(items[: length + 1] == prefix for items in users)


def test_short_users_are_never_drawn(tmp_path: Path) -> None:
    users = {1: [5, 6, 7, 8], 2: [11, 12, 13, 14, 15], 3: [21, 22, 23, 24, 25]}
    write_split(tmp_path / "toys_train.txt", users)
    train = read_split(tmp_path, "toys", "train")
    sampler = BatchSampler(train, small_config(batch_size=2))
    assert sampler.skipped == 1
    assert sorted(sampler(0).target.tolist()) == [15, 25]
    with pytest.raises(UsageError, match="only 2 of 3 have 5 items or more"):
        BatchSampler(train, small_config(batch_size=3))


def test_a_shorter_history_makes_earlier_items_targets(tmp_path: Path) -> None:
    users = {1: [5, 6], 2: [11, 12, 13, 14, 15], 3: [21]}
    write_split(tmp_path / "toys_train.txt", users)
    sampler = BatchSampler(read_split(tmp_path, "toys", "train"), small_config(batch_size=2, min_history=1))
    assert (sampler.skipped, sampler.shortest) == (1, 2)
    assert {int(target) for step in range(40) for target in sampler(step).target} == {6, 12, 13, 14, 15}


def test_a_history_loses_items_by_chance_and_nothing_else_changes(data_dir: str) -> None:
    train = read_split(data_dir, "toys", "train")
    whole, thinned = (BatchSampler(train, small_config(history_dropout=chance)) for chance in (0.0, 0.4))
    left = []
    for step in range(30):
        one, other = whole(step), thinned(step)
        for name in ("target", "sampled", "target_count", "sampled_count"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        for full, history, mask in zip(one.history, other.history, other.mask, strict=True):
            length = int(mask.sum())
            assert length >= 1
            assert mask[:length].all()
            assert not history[length:].any()
            rest = iter(full.tolist())
            assert all(item in rest for item in history[:length].tolist()), "the order stays"
        left.append(other.mask.sum() / one.mask.sum())
    assert np.mean(left) == pytest.approx(0.6, abs=0.03)
    assert np.array_equal(thinned(3).history, BatchSampler(train, small_config(history_dropout=0.4))(3).history)


@pytest.mark.parametrize("kind", ["uniform", "in-batch", "mixed"])
def test_how_often_a_negative_was_expected_is_how_often_it_comes(data_dir: str, kind: str) -> None:
    """What log-Q correction rests on: over many batches each id comes as often as was said."""
    train = read_split(data_dir, "toys", "train")
    config = small_config(negatives=kind, batch_size=4, neg_num=2)
    sampler = BatchSampler(train, config)
    seen, said = np.zeros(ITEMS), np.zeros(ITEMS)
    steps = 2500
    for step in range(steps):
        batch = sampler(step)
        assert batch.sampled.shape == (config.sample_size,) == {"uniform": (8,), "in-batch": (4,), "mixed": (12,)}[kind]
        seen += np.bincount(batch.sampled, minlength=ITEMS)
        said[batch.target] = batch.target_count[:, 0]
        said[batch.sampled] = batch.sampled_count
        if kind != "uniform":
            assert batch.sampled[-4:].tolist() == batch.target.tolist()
    known = (said > 0.02) & (said < 1)
    assert known.sum() > 10
    noise = np.sqrt(said[known] / steps)
    # The number of draws of a log-uniform sample differs from batch to batch, and with it what is expected.
    assert (np.abs(seen[known] / steps - said[known]) < 5 * noise + (0.1 * said[known] if kind == "mixed" else 0)).all()


def test_targets_are_as_frequent_as_users_and_cuts_make_them(tmp_path: Path) -> None:
    write_split(tmp_path / "toys_train.txt", {1: [5, 6, 7], 2: [8, 6], 3: [9]})
    train = read_split(tmp_path, "toys", "train")
    found = target_frequencies(train, np.array([0, 1]), 1, 10)
    assert found.tolist() == [0, 0, 0, 0, 0, 0, 0.75, 0.25, 0, 0]


@pytest.mark.parametrize(("id_range", "size"), [(1400, 1280), (20, 20), (5, 1), (100_000, 500)])
def test_negatives_are_different_ids_of_the_range(id_range: int, size: int) -> None:
    ids, tries = LogUniform(id_range, size).draw(generator(1, RandomStream.BATCHES, 0))
    assert len(set(ids.tolist())) == size <= tries
    assert 0 <= ids.min() <= ids.max() < id_range


def test_draws_follow_the_log_uniform_distribution() -> None:
    sampler = LogUniform(50, 1)
    random = generator(1, RandomStream.BATCHES, 0)
    counts = np.bincount([sampler.draw(random)[0][0] for _ in range(20_000)], minlength=50)
    expected = sampler.probability(np.arange(50)) * 20_000
    assert sampler.probability(np.arange(50)).sum() == pytest.approx(1)
    assert ((counts - expected) ** 2 / expected).sum() < 95  # chi-square, 49 degrees, p about 1e-4


@pytest.mark.tensorflow
def test_expected_counts_are_those_of_tensorflows_sampler() -> None:
    import tensorflow as tf

    true = tf.constant([[3], [0], [90]], tf.int64)
    drawn, true_count, count = tf.random.log_uniform_candidate_sampler(true, 1, 60, True, ITEMS, seed=4)
    sampler = LogUniform(ITEMS, 60)
    # TensorFlow does not tell its number of draws; exactly one fits all its counts.
    fitting = [
        tries
        for tries in range(60, 3000)
        if np.allclose(sampler.expected_count(drawn.numpy(), tries), count.numpy(), rtol=1e-5, atol=0)
    ]
    assert fitting
    assert any(np.allclose(sampler.expected_count(true.numpy(), tries), true_count.numpy(), 1e-5) for tries in fitting)


def test_ids_are_told_apart_and_put_in_order_at_once() -> None:
    for ids in ([3], [0, 0, 0], [7, 2, 7, 5, 2, 7], list(np.random.default_rng(1).integers(0, 40, 300))):
        rows, inverse, order = compact(np.array(ids))
        expected, where = np.unique(ids, return_inverse=True)
        assert rows.tolist() == expected.tolist()
        assert inverse.tolist() == where.tolist()
        assert order.tolist() == sorted(range(len(ids)), key=lambda place: (ids[place], place))
        assert (inverse.dtype, order.dtype) == (np.int32, np.int32)
        assert first_places(np.array(ids)).tolist() == sorted(ids.index(number) for number in set(ids))
