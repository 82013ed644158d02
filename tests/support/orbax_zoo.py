"""Small checkpoints of every layout that Orbax writes, and what Orbax itself reads from them.

Run as a program by a Python that has orbax-checkpoint, jax and keras (a virtual environment of its own):

    KERAS_BACKEND=jax python orbax_zoo.py OUT.tar.xz

    keras/0, 1, 2     what Keras 3's OrbaxCheckpoint callback saves; history.json: what its fit() returned
    manager/1, 2, 3   a CheckpointManager that is told the metric ``auc``
    standard          StandardCheckpointer: an item that is a step (OCDBT, Zarr 2)
    zarr2, zarr3      without OCDBT: a directory for each array
    chunked           an array in several chunks
    killed            what a save that failed left in a run
    expected.json     of each, by the path of its directory: {name: [dtype, shape, SHA-256 of the value]}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import orbax.checkpoint as ocp

TREE: dict[str, Any] = {
    "params": {
        "Dense_0": {"kernel": jnp.arange(6, dtype=jnp.float32).reshape(2, 3), "bias": jnp.ones(3, jnp.bfloat16)},
        "a.b": {"c": jnp.array([1, 2, 3], jnp.int8)},
    },
    "step": 7,
    "rate": 0.5,
    "list": [np.int64(3), np.array([True, False])],
    "none": None,
    "empty": {},
    "half": np.float32(2.5),
}


def described(value: Any) -> list[Any]:
    array = np.asarray(value)
    return [array.dtype.name, list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]


def flat(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(getattr(key, "key", getattr(key, "idx", ""))) for key in path): leaf for path, leaf in leaves}


def read_by_orbax(item: Path) -> dict[str, list[Any]]:
    """By its own reader, as numpy arrays."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        kinds = reader.metadata(item).item_metadata.tree
        asked = jax.tree.map(lambda kind: ocp.RestoreArgs(restore_type=None if _is_text(kind) else np.ndarray), kinds)
        found = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=asked))
    return {name: described(value) for name, value in flat(found).items() if not isinstance(value, str)}


def _is_text(kind: Any) -> bool:
    return type(kind).__name__ == "StringMetadata"


def with_keras(root: Path) -> None:
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(3, name="one"), keras.layers.BatchNormalization(), keras.layers.Dense(2, name="two")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    random = np.random.default_rng(3)
    x, y = random.random((16, 4)), random.random((16, 2))
    save = keras.callbacks.OrbaxCheckpoint(directory=str(root), max_to_keep=None, save_on_background=False)
    history = model.fit(x, y, validation_data=(x[::-1], y * 0.5), epochs=3, verbose=0, callbacks=[save]).history
    (root / "history.json").write_text(json.dumps(history))


def main(out: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "orbax"
        root.mkdir()
        with_keras(root / "keras")
        best = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["auc"], best_mode="max")
        with ocp.CheckpointManager(root / "manager", options=best) as manager:
            for step, auc in ((1, 0.5), (2, 0.75), (3, 0.625)):
                tree = {**TREE, "name": f"step {step}"}
                manager.save(step, args=ocp.args.PyTreeSave(tree), metrics={"auc": auc})
            manager.wait_until_finished()
        with ocp.StandardCheckpointer() as saver:
            saver.save(root / "standard", TREE)
        for name, options in (("zarr2", {}), ("zarr3", {"use_zarr3": True})):
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, **options)) as plain:
                plain.save(root / name, TREE)
        table = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
        small = ocp.SaveArgs(chunk_byte_size=320)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as chunked:
            tree = {"table": jnp.asarray(table)}
            chunked.save(root / "chunked", args=ocp.args.PyTreeSave(tree, save_args={"table": small}))
        with contextlib.suppress(ValueError), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as refusing:
            refusing.save(root / "killed" / "4", args=ocp.args.StandardSave({"text": "no array"}))
        items = {str(path.parent.relative_to(root)): path.parent for path in sorted(root.rglob("_METADATA"))}
        expected = {name: read_by_orbax(path) for name, path in items.items() if not name.endswith("model_config")}
        (root / "expected.json").write_text(json.dumps(expected, indent=0, sort_keys=True))
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for path in sorted(root.rglob("*")):
                archive.add(path, path.relative_to(root), recursive=False, filter=_plain)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


if __name__ == "__main__":
    main(sys.argv[1])
