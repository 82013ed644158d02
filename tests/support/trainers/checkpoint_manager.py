"""A custom loop with a CheckpointManager that keeps one checkpoint, saved when the value is a new best."""

import tensorflow as tf
from plot import RUN, metrics, note

weight = tf.Variable(0.0)
manager = tf.train.CheckpointManager(tf.train.Checkpoint(weight=weight), RUN, max_to_keep=1)
best = 0.0
for epoch, value in enumerate(metrics()):
    weight.assign(value)
    print(f"Epoch {epoch}: valid recall = {value:.4f}")
    if value > best:
        best = value
        print(f"New best recall: {value:.4f}")
        manager.save()
        note("saved", value)
