"""One of the older trainers, going on from a checkpoint with batches and negatives that it is given.

Run by `continuation`, with an interpreter that has the TensorFlow which wrote the checkpoint (Python 3.7 or later)::

    PYTHON continuation_original.py CODE EXPERIMENT RUN.json BATCHES.npz LOSSES.json

CODE holds the trainer's model.py, which is imported as it is; so are its weights, Adam's moments and step restored,
after every variable exists.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def main():
    code, experiment, run, batches, losses = sys.argv[1:]
    sys.path.insert(0, code)
    with open(run) as file:
        config = json.load(file)
    step = (of_tensorflow_1 if tf.__version__.startswith("1.") else of_keras)(experiment, config)
    with np.load(batches) as stored:
        columns = {name: stored[name] for name in stored.files}
    found = [step({name: rows[number] for name, rows in columns.items()}) for number in range(config["steps"])]
    with open(losses, "w") as file:
        json.dump(found, file)


def made_by(kind, config, *sizes):
    """A model of either trainer: its sizes in this order, then the number of interests, where there are several."""
    given = [config[size] for size in sizes]
    if config["model_type"] in ("MIND", "ComiRec-DR", "ComiRec-SA"):
        given.append(config["num_interest"])
    options = {"relu_layer": config["relu_projection"]} if config["model_type"] == "MIND" else {}
    return kind(*given, config["maxlen"], **options)


def of_tensorflow_1(experiment, config):
    """The original: a session. Its sampler and its noise are replaced by what is fed."""
    import model

    own = tf.nn.sampled_softmax_loss
    fed = {
        "sampled": tf.placeholder(tf.int64, [None]),
        "target_count": tf.placeholder(tf.float32, [None, 1]),
        "sampled_count": tf.placeholder(tf.float32, [None]),
        "noise": tf.placeholder(tf.float32, [None, config["num_interest"], config["maxlen"]]),
    }
    values = fed["sampled"], fed["target_count"], fed["sampled_count"]
    tf.nn.sampled_softmax_loss = lambda *given: own(*given, sampled_values=values)
    tf.truncated_normal = lambda *_, **__: fed["noise"]
    name = "Model_" + config["model_type"].replace("-", "_")
    made = made_by(getattr(model, name), config, "item_count", "embedding_dim", "hidden_size", "batch_size")
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    made.restore(session, experiment + "/")

    def step(batch):
        feed = {place: batch[key] for key, place in fed.items() if key in batch}
        feed.update(
            {
                made.uid_batch_ph: np.zeros(len(batch["target"]), np.int32),
                made.mid_batch_ph: batch["target"],
                made.mid_his_batch_ph: batch["history"],
                made.mask: batch["mask"],
                made.lr: config["learning_rate"],
            }
        )
        return float(session.run([made.loss, made.optimizer], feed)[0])

    return step


def of_keras(experiment, config):
    """The port: what its loop does with a batch, item 0 as the one that reads the interests."""
    import model

    name = "KerasModel" + config["model_type"].replace("-", "")
    made = made_by(getattr(model, name), config, "item_count", "embedding_dim", "hidden_size")
    adam = tf.keras.optimizers.Adam(config["learning_rate"])
    length = config["maxlen"]
    made([tf.zeros([2], tf.int32), tf.zeros([2, length], tf.int32), tf.ones([2, length])])
    if hasattr(adam, "build"):
        adam.build(made.trainable_variables)
    directory = os.path.join(experiment, "keras_ckpt")
    stored = [key for key, _ in tf.train.list_variables(directory)]
    more = {"best_metric": tf.Variable(0.0)} if any(key.startswith("best_metric") for key in stored) else {}
    saved = tf.train.Checkpoint(model=made, optimizer=adam, **more)
    # Keras 2.10 and before make Adam's moments at the first step, and restore them then.
    saved.restore(tf.train.latest_checkpoint(directory)).assert_existing_objects_matched()

    @tf.function
    def traced(history, mask, target, sampled, target_count, sampled_count):
        with tf.GradientTape() as tape:
            users, _ = made([tf.zeros_like(target), history, mask], training=True)
            loss = tf.reduce_mean(
                tf.nn.sampled_softmax_loss(
                    made.get_item_embeddings(),
                    made.item_bias,
                    target[:, None],
                    users,
                    sampled.shape[0],
                    config["item_count"],
                    sampled_values=(sampled, target_count, sampled_count),
                )
            )
        gradients = tape.gradient(loss, made.trainable_variables)
        adam.apply_gradients(zip(gradients, made.trainable_variables))  # noqa: B905
        return loss

    names = "history", "mask", "target", "sampled", "target_count", "sampled_count"
    return lambda batch: float(traced(*(tf.constant(batch[key]) for key in names)))


if __name__ == "__main__":
    main()
