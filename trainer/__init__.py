"""The ComiRec trainer that never loses its best model.

Importing any module below that does not say "needs TensorFlow" costs no TensorFlow: reading data, sampling,
evaluating and planning a resume are numpy.
"""
