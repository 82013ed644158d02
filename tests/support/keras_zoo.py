"""Small models of every kind that people save, for Keras 2 and 3 alike.

Run as a program by a Python that has TensorFlow, it saves all of them as that Keras does, with an input and the output:

    python keras_zoo.py OUT.tar.xz

    NAME/io.npz             x0, x1 ... and y
    NAME/ckpt.*             save_weights of Keras 2; tf.train.Checkpoint(model=) of Keras 3
    NAME/model.h5           the whole model of Keras 1 and 2, of some
    NAME/saved/             a SavedModel of Keras 2: its variables and keras_metadata.pb; of the program only the name
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

KERAS_3 = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 16)
K = tf.keras
L = K.layers

Build = Callable[[], Any]
ZOO: dict[str, tuple[Build, tuple[tuple[int, ...], ...]]] = {}
"""Each model by name: how it is built, and the shapes of its inputs (of integers: with a leading 0)."""


def entry(*shapes: tuple[int, ...]) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        ZOO[build.__name__] = build, shapes
        return build

    return add


def seq(shape: tuple[int, ...], *layers: Any) -> Any:
    return K.Sequential([K.Input(shape=shape), *layers])


def inputs(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    random = np.random.RandomState(1)
    found = []
    for shape in shapes:
        if shape[0] == 0:
            found.append(random.randint(0, 7, (2, *shape[1:])).astype("int32"))
        else:
            found.append(random.rand(2, *shape).astype("float32"))
    return found


def fill(model: Any) -> None:
    random = np.random.RandomState(0)
    model.set_weights([np.asarray(random.rand(*w.shape) + 0.1, w.dtype) for w in model.get_weights()])


def built(name: str) -> tuple[Any, list[np.ndarray]]:
    build, shapes = ZOO[name]
    model = build()
    given = inputs(shapes)
    answer(model, given)
    return model, given


def answer(model: Any, given: list[np.ndarray]) -> np.ndarray:
    x = [tf.constant(each) for each in given]
    return np.asarray(model(x if len(x) > 1 else x[0], training=False)).astype("float32")


def available() -> Iterator[str]:
    """The models that this Keras has the layers for."""
    for name in ZOO:
        if name == "group_norm" and not hasattr(L, "GroupNormalization"):
            continue
        yield name


# ---------------------------------------------------------------------------------------------- custom layers


class Attention3(L.Layer):
    """Three weights of one shape, whose order the alphabet does not know."""

    def build(self, shape: Any) -> None:
        n = int(shape[-1])
        self.w_query = self.add_weight(name="w_query", shape=(n, n))
        self.w_key = self.add_weight(name="w_key", shape=(n, n))
        self.w_value = self.add_weight(name="w_value", shape=(n, n))
        super().build(shape)

    def call(self, x: Any) -> Any:
        q, k, v = (tf.matmul(x, w) for w in (self.w_query, self.w_key, self.w_value))
        return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)


class Shifted(L.Layer):
    """A variable that is not trained comes first, and one of its shape is trained."""

    def build(self, shape: Any) -> None:
        n = int(shape[-1])
        self.seen = self.add_weight(name="seen", shape=(n,), trainable=False)
        self.scale = self.add_weight(name="scale", shape=(n,))
        super().build(shape)

    def call(self, x: Any) -> Any:
        return x * self.scale + self.seen


class Block(L.Layer):
    """Layers within a layer; the first attribute is not the first of the alphabet."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.wide = L.Dense(units)
        self.norm = L.LayerNormalization()
        self.narrow = L.Dense(units)

    def build(self, shape: Any) -> None:
        self.wide.build(shape)
        inner = (*tuple(shape)[:-1], self.wide.units)
        self.norm.build(inner)
        self.narrow.build(inner)
        self.built = True

    def call(self, x: Any) -> Any:
        return self.narrow(self.norm(self.wide(x)))


class Subclassed(K.Model):
    def __init__(self) -> None:
        super().__init__()
        self.second = L.Dense(4)
        self.first = L.Dense(4)
        self.gru = L.GRU(3, return_sequences=True)

    def call(self, x: Any) -> Any:
        return self.gru(self.second(self.first(x)))


class WithList(K.Model):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block(4), Block(4)]
        self.heads = [L.Dense(3), L.LayerNormalization(), L.Dense(3)]

    def call(self, x: Any) -> Any:
        for layer in [*self.blocks, *self.heads]:
            x = layer(x)
        return x


class WithDict(K.Model):
    def __init__(self) -> None:
        super().__init__()
        self.towers = {"zulu": L.Dense(4), "alpha": L.Dense(4)}

    def call(self, x: Any) -> Any:
        return self.towers["alpha"](self.towers["zulu"](x))


class WithWeight(K.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(4)
        self.zeta = self.add_weight(name="zeta", shape=(4,))
        self.beta = self.add_weight(name="beta", shape=(4,))

    def call(self, x: Any) -> Any:
        return self.dense(x) * self.zeta + self.beta


# ---------------------------------------------------------------------------------------------------- models


@entry((6,))
def plain() -> Any:
    return seq((6,), L.Dense(5), L.Dense(3))


@entry((4,))
def named() -> Any:
    return seq((4,), L.Dense(4, name="hidden"), L.Dense(4), L.Dense(4, name="out"))


@entry((4,))
def named_across() -> Any:
    return seq((4,), L.Dense(4, name="dense_1"), L.Dense(4, name="dense"))


@entry((6,))
def no_bias() -> Any:
    return seq((6,), L.Dense(5, use_bias=False), L.Dropout(0.5), L.ReLU(), L.Dense(3))


@entry((6,))
def deferred() -> Any:
    return K.Sequential([L.Dense(5), L.Dense(3)])


@entry((8, 8, 3))
def separable() -> Any:
    return seq((8, 8, 3), L.SeparableConv2D(4, 3), L.SeparableConv2D(4, 3))


@entry((8, 3))
def separable_1d() -> Any:
    return seq((8, 3), L.SeparableConv1D(4, 3))


@entry((8, 8, 3))
def depthwise() -> Any:
    return seq((8, 8, 3), L.DepthwiseConv2D(3), L.Conv2D(3, 1))


@entry((8, 3))
def conv_1d() -> Any:
    return seq((8, 3), L.Conv1D(3, 3), L.MaxPooling1D(2), L.Conv1D(3, 2))


@entry((8, 8, 3))
def conv_2d() -> Any:
    return seq((8, 8, 3), L.Conv2D(4, 3), L.MaxPooling2D(), L.Flatten(), L.Dense(2))


@entry((4, 4, 4, 2))
def conv_3d() -> Any:
    return seq((4, 4, 4, 2), L.Conv3D(2, 2))


@entry((4, 4, 3))
def conv_transpose() -> Any:
    return seq((4, 4, 3), L.Conv2DTranspose(3, 2), L.Conv2D(3, 2))


@entry((4, 3))
def conv_transpose_1d() -> Any:
    return seq((4, 3), L.Conv1DTranspose(3, 2))


@entry((0, 5))
def embedding_gru() -> Any:
    return seq((5,), L.Embedding(7, 4), L.GRU(3), L.Dense(2))


@entry((5, 3))
def gru_before() -> Any:
    return seq((5, 3), L.GRU(4, reset_after=False))


@entry((5, 3))
def lstm() -> Any:
    return seq((5, 3), L.LSTM(4, return_sequences=True), L.LSTM(4))


@entry((5, 3))
def simple_rnn() -> Any:
    return seq((5, 3), L.SimpleRNN(4))


@entry((5, 3))
def bidirectional() -> Any:
    return seq((5, 3), L.Bidirectional(L.LSTM(4, return_sequences=True)), L.Bidirectional(L.GRU(3)))


@entry((5, 3))
def rnn_cell() -> Any:
    return seq((5, 3), L.RNN(L.LSTMCell(4)))


@entry((5, 3))
def stacked_cells() -> Any:
    return seq((5, 3), L.RNN([L.GRUCell(4), L.GRUCell(4), L.LSTMCell(4)]))


@entry((3, 6, 6, 2))
def conv_lstm() -> Any:
    return seq((3, 6, 6, 2), L.ConvLSTM2D(3, 2, recurrent_activation="sigmoid"))


@entry((5, 3))
def time_distributed() -> Any:
    return seq((5, 3), L.TimeDistributed(L.Dense(4)), L.TimeDistributed(L.Dense(4)))


@entry((6,))
def batch_norm() -> Any:
    return seq((6,), L.Dense(5), L.BatchNormalization(), L.BatchNormalization(scale=False), L.Dense(3))


@entry((6,))
def layer_norm() -> Any:
    return seq((6,), L.LayerNormalization(), L.Dense(6), L.LayerNormalization())


@entry((4, 4))
def group_norm() -> Any:
    return seq((4, 4), L.GroupNormalization(2), L.Dense(4))


@entry((6,))
def prelu() -> Any:
    return seq((6,), L.Dense(5), L.PReLU(), L.Dense(3), L.PReLU())


@entry((5, 4))
def einsum() -> Any:
    return seq((5, 4), L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), L.Dense(4))


@entry((5, 4))
def attention() -> Any:
    a = K.Input(shape=(5, 4))
    q, v = L.Dense(4)(a), L.Dense(4)(a)
    return K.Model(a, L.Attention(use_scale=True)([q, v]))


@entry((5, 4))
def additive_attention() -> Any:
    a = K.Input(shape=(5, 4))
    q, v = L.Dense(4)(a), L.Dense(4)(a)
    return K.Model(a, L.AdditiveAttention()([q, v]))


@entry((5, 4))
def multi_head() -> Any:
    a = K.Input(shape=(5, 4))
    x = L.MultiHeadAttention(2, 4)(a, a)
    x = L.LayerNormalization()(L.Add()([a, x]))
    return K.Model(a, L.MultiHeadAttention(2, 2)(x, x))


@entry((6,))
def functional() -> Any:
    a = K.Input(shape=(6,))
    x = L.Dense(6)(a)
    return K.Model(a, L.Concatenate()([L.Dense(6)(x), L.Dense(6)(a)]))


@entry((4,), (4,), (0, 3))
def multi_input() -> Any:
    a, b, c = K.Input(shape=(4,)), K.Input(shape=(4,)), K.Input(shape=(3,), dtype="int32")
    x = L.Dense(4)(b)
    y = L.Dense(4)(L.Dense(4)(a))
    z = L.GlobalAveragePooling1D()(L.Embedding(7, 4)(c))
    return K.Model([a, b, c], L.Dense(4)(L.Concatenate()([x, y, z])))


@entry((4,))
def shared() -> Any:
    a = K.Input(shape=(4,))
    dense = L.Dense(4)
    return K.Model(a, L.Dense(4)(L.Add()([dense(a), dense(dense(a))])))


@entry((4,))
def nested() -> Any:
    a = K.Input(shape=(4,))
    inner = K.Model(a, L.Dense(4)(L.Dense(4)(a)))
    return seq((4,), L.Dense(4), inner, L.Dense(4))


@entry((4,))
def nested_sequential() -> Any:
    a = K.Input(shape=(4,))
    inner = seq((4,), L.Dense(4), L.Dense(4))
    return K.Model(a, L.Dense(4)(inner(a)))


@entry((4,))
def nested_twice() -> Any:
    a, b = K.Input(shape=(4,)), K.Input(shape=(4,))
    one, two = K.Model(a, L.Dense(4)(a)), K.Model(b, L.Dense(4)(b))
    both = seq((4,), one, two)
    c = K.Input(shape=(4,))
    return K.Model(c, L.Dense(4)(both(c)))


@entry((4,))
def nested_norm() -> Any:
    inner = seq((4,), L.BatchNormalization(), L.Dense(4), L.BatchNormalization())
    return seq((4,), inner, L.BatchNormalization())


@entry((5, 4))
def custom() -> Any:
    return seq((5, 4), Attention3())


@entry((5, 4))
def custom_named() -> Any:
    return seq((5, 4), Attention3(name="att"), Attention3(name="att_again"))


@entry((4,))
def custom_frozen_first() -> Any:
    return seq((4,), Shifted())


@entry((4,))
def custom_block() -> Any:
    return seq((4,), Block(4), Block(4), L.Dense(4))


@entry((5, 4))
def subclassed() -> Any:
    return Subclassed()


@entry((4,))
def subclassed_list() -> Any:
    return WithList()


@entry((4,))
def subclassed_dict() -> Any:
    return WithDict()


@entry((4,))
def subclassed_weight() -> Any:
    return WithWeight()


@entry((4,))
def mixed_precision() -> Any:
    return seq((4,), L.Dense(4, dtype="mixed_float16"), L.Dense(4, dtype="float32"))


@entry((4,))
def trained() -> Any:
    model = seq((4,), L.Dense(4), L.BatchNormalization(), Shifted(), L.Dense(4))
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4), "f"), np.ones((4, 4), "f"), verbose=0)
    return model


@entry((4,))
def frozen() -> Any:
    model = seq((4,), L.Dense(4), L.BatchNormalization(), L.Dense(4))
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 4), "f"), np.ones((4, 4), "f"), verbose=0)
    return model


# ---------------------------------------------------------------------------------------------------- saving


def save(name: str, directory: Path) -> None:
    """Save one model in every way that this Keras has."""
    directory.mkdir(parents=True)
    model, given = built(name)
    fill(model)
    arrays = {f"x{number}": x for number, x in enumerate(given)}
    np.savez(directory / "io.npz", y=answer(model, given), **arrays)
    if KERAS_3:
        tf.train.Checkpoint(model=model).write(str(directory / "ckpt"))
        return
    model.save_weights(str(directory / "ckpt"))
    (directory / "checkpoint").unlink()
    if name in ("plain", "stacked_cells"):
        model.save(str(directory / "model.h5"))
    with tempfile.TemporaryDirectory() as saved:
        model.save(saved, save_format="tf")
        shutil.copytree(Path(saved) / "variables", directory / "saved" / "variables")
        shutil.copy(Path(saved) / "keras_metadata.pb", directory / "saved")
        (directory / "saved" / "saved_model.pb").write_bytes(b"")


def main(output: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name in available():
            try:
                save(name, Path(directory) / name)
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
                shutil.rmtree(Path(directory) / name, ignore_errors=True)
        with tarfile.open(output, "w:xz", preset=9) as archive:
            for path in sorted(Path(directory).rglob("*")):
                if path.is_file():
                    entry = tarfile.TarInfo(str(path.relative_to(directory)))
                    entry.size = path.stat().st_size
                    with path.open("rb") as file:
                        archive.addfile(entry, file)
    print(f"{output}: {os.path.getsize(output)} bytes, TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
