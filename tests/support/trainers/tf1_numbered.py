"""Saves every state with its step, keeps the newest one only, and evaluates what it saved."""

import os

import tensorflow.compat.v1 as tf
from plot import RUN, metrics, note

tf.disable_eager_execution()
weight = tf.get_variable("weight", [], initializer=tf.zeros_initializer())
global_step = tf.train.get_or_create_global_step()
new = tf.placeholder(tf.float32, [])
update = tf.group(tf.assign(weight, new), tf.assign_add(global_step, 100))
saver = tf.train.Saver(max_to_keep=1)
os.makedirs(RUN, exist_ok=True)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    newest = tf.train.latest_checkpoint(RUN)
    if newest:
        saver.restore(session, newest)
    for value in metrics():
        session.run(update, {new: value})
        saver.save(session, f"{RUN}/model.ckpt", global_step=global_step)
        note("saved", value)
        print(f"step {session.run(global_step)}: valid recall {value:.4f}, valid ndcg {value / 2:.4f}")
