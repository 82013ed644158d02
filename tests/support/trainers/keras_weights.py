"""``fit`` with ModelCheckpoint(save_best_only) on ``.weights.h5``; it says what improved."""

import os

import numpy as np
from plot import RUN, metrics, note

if os.environ.get("KERAS") == "2":
    import tf_keras as keras
else:
    import keras

values = metrics()
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
model.compile("sgd", "mse")


class Evaluate(keras.callbacks.Callback):
    def on_epoch_end(self, _epoch, logs=None):
        value = next(values, None)
        if value is None:
            raise SystemExit
        self.model.set_weights([np.full((1, 1), value, np.float32)])
        logs["val_auc"] = value


class Note(keras.callbacks.Callback):
    best = 0.0

    def on_epoch_end(self, _epoch, logs=None):
        if logs["val_auc"] > self.best:
            self.best = logs["val_auc"]
            note("saved", self.best)


os.makedirs(RUN, exist_ok=True)
best = keras.callbacks.ModelCheckpoint(
    f"{RUN}/best.weights.h5", monitor="val_auc", mode="max", save_best_only=True, save_weights_only=True, verbose=1
)
x = np.zeros((4, 1), np.float32)
model.fit(x, x, epochs=1000, callbacks=[Evaluate(), best, Note()], verbose=2)
