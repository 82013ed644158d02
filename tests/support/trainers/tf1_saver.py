"""As DIN: one prefix, a best in memory, evaluated and printed before it is saved."""

import os

import tensorflow.compat.v1 as tf
from plot import RUN, metrics, note

tf.disable_eager_execution()
weight = tf.get_variable("weight", [], initializer=tf.zeros_initializer())
new = tf.placeholder(tf.float32, [])
update = tf.assign(weight, new)
saver = tf.train.Saver()
best_auc = 0.0
os.makedirs(RUN, exist_ok=True)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for step, value in enumerate(metrics()):
        session.run(update, {new: value})
        print(f"iter: {step} ----> train_loss: {1 - value:.4f} ---- test_auc: {value:.4f}")
        if value > best_auc:
            best_auc = value
            saver.save(session, f"{RUN}/model")
            note("saved", value)
