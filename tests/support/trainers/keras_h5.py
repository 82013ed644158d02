"""A custom loop: the whole model in one ``.h5``, written again when the loss is a new lowest."""

import logging
import os

import keras
import numpy as np
from plot import RUN, metrics, note

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
log = logging.getLogger("train")
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
lowest = float("inf")
os.makedirs(RUN, exist_ok=True)
for epoch, value in enumerate(metrics()):
    model.set_weights([np.full((1, 1), value, np.float32)])
    log.info("epoch %d: validation loss %.4f", epoch, value)
    if value < lowest:
        log.info("Validation loss decreased (%.4f --> %.4f). Saving model ...", lowest, value)
        lowest = value
        model.save(f"{RUN}/model.h5")
        note("saved", value)
