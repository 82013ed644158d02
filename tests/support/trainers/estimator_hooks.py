"""As an Estimator does it: a hook saves, then what was saved is evaluated and logged on stderr."""

import os

import tensorflow.compat.v1 as tf
from plot import RUN, metrics, note

tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.INFO)
weight = tf.get_variable("weight", [], initializer=tf.zeros_initializer())
global_step = tf.train.get_or_create_global_step()
new = tf.placeholder(tf.float32, [])
train = tf.group(tf.assign(weight, new), tf.assign_add(global_step, 1))
os.makedirs(RUN, exist_ok=True)
hook = tf.train.CheckpointSaverHook(RUN, save_steps=1, saver=tf.train.Saver(max_to_keep=1))
with tf.train.SingularMonitoredSession(hooks=[hook], checkpoint_dir=RUN) as session:
    for value in metrics():
        session.run(train, {new: value})
        note("saved", value)
        step = int(session.run(global_step, {new: value}))
        tf.logging.info(
            "Saving dict for global step %d: accuracy = %.4f, global_step = %d, loss = %.4f",
            step,
            value,
            step,
            1 - value,
        )
