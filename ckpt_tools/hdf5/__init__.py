"""HDF5 files, read by a process of its own: the library crashes on some damaged files, and believes all of them.

    library   what is done with h5py; runs in the child
    server    the child: answers questions about files whose bytes it asks for
    client    starts it, asks, gives it the bytes, and tells when it crashed, hung or wanted too much

The package is light, and so is what it imports: it is all that the child loads before h5py.
"""
