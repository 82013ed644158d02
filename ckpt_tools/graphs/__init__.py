"""The inference part of a TensorFlow 1 graph, interpreted with numpy.

Nothing of a graph is run as a program: each operation is a small function of a table, and what is not in the table is
refused. The arrays come from the caller (feeds, variables); no file is opened here.
"""
