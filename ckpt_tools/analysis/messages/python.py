"""What Python, NumPy, zip and other libraries say of a file that they were given instead."""

from __future__ import annotations

from ckpt_tools.analysis.messages import checks
from ckpt_tools.analysis.messages.known import INSPECT, VERIFY, Known

KNOWN = (
    Known(
        "pickle",
        (
            r"invalid load key",
            r"UnpicklingError",
            r"allow_pickle=False",
            r"Failed to interpret file .{1,300} as a pickle",
            r"Invalid magic number; corrupt file",
            r"Weights only load failed",
            r"unsupported pickle protocol",
            r"EOFError: Ran out of input",
        ),
        "the file was opened as a pickle and is none (or is empty), or is one and must not be opened",
        INSPECT,
        checks.opens,
    ),
    Known(
        "tree",
        (
            r"restore item and on-disk value metadata tree structures do not match",
            r"pytree structure that does not match",
            r"(target|user).{0,40}dict keys and (the )?(state dict|saved) keys do not match",
            r"(Dict|Tuple|List) (key|arity|length) mismatch.{0,200}(restore|checkpoint|value)",
            r"(target|item).{0,60}does not match the (structure|tree) of the (checkpoint|saved)",
        ),
        "what is restored into has other parts than what was saved, called or nested otherwise (a tree of arrays, of "
        "JAX): the code of the model or of its optimizer changed, or the checkpoint is of another",
        INSPECT,
        checks.layers,
    ),
    Known(
        "devices",
        (
            r"jax\.sharding.{0,400}cannot reshape array of size \d+ into shape",
            r"Device .{1,80} was not found in jax\.(local_)?devices",
            r"[Ss]harding (passed to|for) (de)?serialization .{0,80}should be specified",
        ),
        "the arrays were saved from another number of devices than this machine has, and the program asks for them as "
        "they lay; the values do not depend on it (restore them with a sharding of this machine, or as numpy arrays)",
        INSPECT,
        checks.opens,
    ),
    Known(
        "optimizer-absent",
        (
            r"Trying to restore (optimizer|training) state but checkpoint contains only the model",
            r"load_state_dict\(.{1,120}\['?optim\w*'?\]\).{0,20} KeyError",
        ),
        "the checkpoint was saved without the state of an optimizer: it is one of weights, from which a model can be "
        "used, or trained with moments of zero",
        INSPECT,
        checks.opens,
    ),
    Known(
        "msgpack",
        (r"Unpack failed: incomplete input", r"unpack\(b\) received extra data", r"strict_map_key=True"),
        "the file was read as msgpack, as Flax writes it: it is cut off, is another kind of file, or was written with "
        "keys that are numbers, which a stricter reader refuses",
        INSPECT,
        checks.opens,
    ),
    Known(
        "zip-unreadable",
        (
            r"File is not a zip file",
            r"BadZipFile",
            r"failed finding central directory",
            r"Bad magic number for (central directory|file header)",
            r"Bad CRC-32 for file",
        ),
        "a .keras, .npz or .pt file is a zip archive, and this one is none, is cut off, or is damaged: another kind "
        "of file "
        "under that name, a download that stopped, or a Git LFS pointer",
        VERIFY,
        checks.whole,
    ),
    Known(
        "binary-as-text",
        (
            r"'utf-?8' codec can't decode byte .{0,60}in position",
            r"'(gbk|cp1252|charmap|ascii)' codec can't decode byte",
        ),
        "a binary file was read as text: where it is said of a checkpoint, its .index, .data, .pb or .h5 was opened "
        "instead of being given to a function that restores it; else a path or a text in it has another encoding",
        INSPECT,
        checks.opens,
    ),
)
