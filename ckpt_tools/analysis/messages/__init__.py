"""The messages of TensorFlow, Keras and HDF5 about checkpoints that are known, and what is behind each.

known                     what is kept of a message: how it is recognised, its cause, what to do, what to look at
tensorflow, keras, hdf5,
python                    the tables, by who says it
text                      a message as people paste it, and as it was meant
checks                    what the checkpoint itself says about a message
nearest                   the name that is meant by one that is not there
"""

from __future__ import annotations

from ckpt_tools.analysis.messages import hdf5, keras, python, tensorflow
from ckpt_tools.analysis.messages.known import Asked, Known, Told

__all__ = ["KNOWN", "Asked", "Known", "Told", "recognise"]

# Tried in this order; what is only a wrapper around another message comes last.
KNOWN: tuple[Known, ...] = tuple(
    sorted((*tensorflow.KNOWN, *keras.KNOWN, *hdf5.KNOWN, *python.KNOWN), key=lambda known: known.wrapper)
)


def recognise(message: str) -> Asked | None:
    """What is known of a message; None when it is none of those that are known.

    Noise around and within it does not matter: log prefixes, the lines of a traceback, colours, kinds of quotes, and
    line breaks wherever a terminal made them.
    """
    from ckpt_tools.analysis.messages.text import readings

    texts = readings(message)
    for known in KNOWN:
        for text in texts:
            match = known.search(text)
            if match is not None:
                return Asked(known, match, text)
    return None
