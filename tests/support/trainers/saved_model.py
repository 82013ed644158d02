"""A SavedModel that is exported again when it is the best."""

import tensorflow as tf
from plot import RUN, metrics, note


class Model(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def __call__(self, x):
        return x * self.weight


model = Model()
best = 0.0
for step, value in enumerate(metrics()):
    model.weight.assign(value)
    print(f"[eval] step={step} ndcg@10={value:.4f} hr@10={value / 3:.4f}")
    if value > best:
        best = value
        tf.saved_model.save(model, f"{RUN}/export")
        note("saved", value)
