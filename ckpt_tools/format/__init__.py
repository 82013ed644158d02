"""The byte formats of TensorFlow checkpoints: pure functions from bytes to values and back.

Nothing here opens a file. Every length is compared with the bytes at hand before it is used, and the only
exception that leaves is a ``CkptError`` (without a path: the reader that knows it adds it).
"""
