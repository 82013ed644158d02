"""``save_weights`` of every epoch into one file, better or worse, and then the evaluation of what was saved."""

import os

import keras
import numpy as np
from plot import RUN, metrics, note

model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
os.makedirs(RUN, exist_ok=True)
for epoch, value in enumerate(metrics()):
    model.set_weights([np.full((1, 1), value, np.float32)])
    model.save_weights(f"{RUN}/newest.weights.h5")
    note("saved", value)
    print(f"epoch {epoch} done, Val Acc: {100 * value:.2f}%, lr 0.001")
