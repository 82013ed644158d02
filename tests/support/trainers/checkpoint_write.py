"""A loss to be made small, one prefix written again and again, each evaluation a line of JSON."""

import json
import os

import tensorflow as tf
from plot import RUN, metrics, note

weight = tf.Variable(0.0)
optimizer_state = tf.Variable(tf.zeros([200_000]))
checkpoint = tf.train.Checkpoint(weight=weight, moment=optimizer_state)
best = float("inf")
os.makedirs(RUN, exist_ok=True)
for step, value in enumerate(metrics()):
    weight.assign(value)
    optimizer_state.assign_add(tf.ones([200_000]))
    print(json.dumps({"step": step, "train_loss": value / 2, "val_loss": value}))
    if value < best:
        best = value
        checkpoint.write(f"{RUN}/best")
        note("saved", value)
