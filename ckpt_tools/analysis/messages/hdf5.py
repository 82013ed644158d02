"""What HDF5 and h5py say."""

from __future__ import annotations

from ckpt_tools.analysis.messages import checks
from ckpt_tools.analysis.messages.known import INSPECT, VERIFY, Known

KNOWN = (
    Known(
        "hdf5-object-missing",
        (
            r"[Oo]bject '(?P<key>[^']{1,200})' doesn't exist",
            r"Unable to (synchronously )?open object \(component not found\)",
            r"KeyError: .{0,40}Can't open attribute \(can't locate attribute: '(?P<key>[^']{1,200})'",
            r"can't locate attribute: '(?P<key>[^']{1,200})'",
        ),
        "the file has no object of this name where the program looks: it is a file of another kind (weights only, or a "
        "whole model), of another version of Keras, of another model, or an empty file that an earlier try has made",
        INSPECT,
        checks.group,
    ),
    Known(
        "not-hdf5",
        (r"file signature not found", r"Unable to find a valid file signature", r"not an HDF5 file"),
        "the file is no HDF5, whatever its name says: often a Git LFS pointer, a web page, or a TensorFlow checkpoint",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "hdf5-cut-off",
        (r"truncated file: ?eof", r"file is already truncated", r"actual len exceeds EOA", r"beyond end of file"),
        "the HDF5 file was cut off: the program was killed while it saved, or a copy or download stopped",
        VERIFY,
        checks.whole,
    ),
    Known(
        "hdf5-locked",
        (
            r"unable to lock file",
            r"Resource temporarily unavailable",
            r"unable to truncate a file which is already open",
            r"file is already open",
        ),
        "another program, or this one, has the HDF5 file open, or the file system has no locks "
        "(HDF5_USE_FILE_LOCKING=FALSE does without)",
        VERIFY,
        checks.whole,
    ),
    Known(
        "hdf5-missing",
        (
            r"unable to open file: name = '(?P<path>.{1,400}?)'{1,2}, errno = 2\b",
            r"Unable to (synchronously )?open file \(unable to open file: .{1,600}(errno = 2\b|no such file)",
            r"\[Errno 2\] Unable to (synchronously )?open file",
        ),
        "there is no HDF5 file at this path, seen from the directory in which the program runs",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "hdf5-directory",
        (
            r"filename = '(?P<path>.{1,400}?)'.{0,80}errno = 21\b",
            r"name = '(?P<path>.{1,400}?)'.{0,80}errno = 21\b",
            r"errno = 21\b",
        ),
        "a directory was given where an HDF5 file is wanted: a SavedModel and the place of a checkpoint are "
        "directories",
        INSPECT,
        checks.opens,
    ),
    Known(
        "hdf5-name",
        (r"invalid file name", r"errno = 22\b"),
        "the path is none that this system accepts: empty, or with characters such as ':' that Windows does not allow",
        INSPECT,
        checks.opens,
    ),
    Known(
        "hdf5-read-only",
        (r"no write intent on file", r"Unable to create (group|dataset|attribute) \(.{0,40}read-only"),
        "the file was opened for reading, and the program writes into it",
        VERIFY,
        checks.whole,
    ),
    Known(
        "hdf5-damaged",
        (
            r"bad object header",
            r"bad heap",
            r"wrong b-tree signature",
            r"bad (local |global )?(heap|symbol table|byte number|superblock|version number|snod)",
            r"unable to (read superblock|load object|decode)",
            r"address (overflowed|of object past end of allocation)",
            r"incorrect metadata checksum",
            r"inflate\(\) failed",
            r"filter returned failure",
            r"(file|data) read failed",
            r"addr overflow",
        ),
        "the inside of the HDF5 file is damaged, or the storage did not give all of it",
        VERIFY,
        checks.whole,
    ),
    Known(
        "hdf5-write-failed",
        (r"file write failed", r"Can't write data", r"unable to flush file"),
        "a file could not be written to its end (the rest of the message says why, for example errno = 28, a full "
        "disk): what was being saved is not complete",
        VERIFY,
        checks.whole,
        wrapper=True,
    ),
)
