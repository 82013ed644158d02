"""What TensorFlow says when it saves or restores."""

from __future__ import annotations

from ckpt_tools.analysis.messages import checks
from ckpt_tools.analysis.messages.known import EXPORT, INSPECT, RESUME, VERIFY, Known
from ckpt_tools.format.filenames import DATA_ENDING

_PATH = r"(?P<path>.{0,400})"

KNOWN = (
    Known(
        "missing-data",
        (rf"{DATA_ENDING}.{{0,40}}(No such file|cannot find the)", rf"{DATA_ENDING}.{{0,8}}not found"),
        "a data file is not where the index is: it was not copied, or only the .index was downloaded",
        VERIFY,
        checks.whole,
    ),
    Known(
        "key-missing",
        (
            r"Key '?(?P<key>(?!_CHECKPOINTABLE)[^\s']{1,500})'? (was )?not found in( the)? checkpoint",
            r"(Tensor|Variable) name '(?P<key>[^']{1,500})' not found in checkpoint",
            r"Tensor (?P<key>\S{1,500}) is not found in .{0,300}checkpoint",
            r"(Variable|Tensor) '?(?P<key>(?!name)[^\s']{1,500})'? (is |was )?(not found|missing) (in|from)( the)? "
            r"checkpoint",
            r"KeyError: '(?P<key>[^']{1,300}) not found in checkpoint",
        ),
        "the program has a variable that the checkpoint does not: it was added or renamed later, or this is the "
        "checkpoint of another model",
        INSPECT,
        checks.key,
    ),
    Known(
        "object-graph-missing",
        (r"_CHECKPOINTABLE_OBJECT_GRAPH.{0,20}not found",),
        "the checkpoint is one of names (TensorFlow 1), and the names that the program wants are not all in it; "
        "this message hides the first one, further up, that says which",
        INSPECT,
        checks.opens,
    ),
    Known(
        "directory-given",
        (r"Unable to open table file (?P<path>.{1,400}?): F\w+[ _]precondition: .{0,400}Is a directory",),
        "a directory was given where the prefix of a checkpoint is wanted",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "index-cut-off",
        (r"too short to be an sstable",),
        "the .index is empty or cut off: the program was killed while it saved, or a copy or download stopped; or "
        "another small file was given where the prefix is wanted",
        VERIFY,
        checks.whole,
    ),
    Known(
        "wrong-file",
        (
            r"(Unable to open table file|Could not open) (?P<path>.{1,400}?): D\w+[ _]loss: not an sstable",
            r"not an sstable|bad magic number\)",
        ),
        "nearly always a wrong path, seldom damage: the .data file, the 'checkpoint' file, an archive or a Git LFS "
        "pointer was given where the prefix is wanted",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "record-damaged",
        (r"corrupted record at \d+", r"truncated record at \d+"),
        "a file of records (TFRecord data, or a TensorBoard event file) is cut off or damaged; that is the data, not "
        "the checkpoint",
        VERIFY,
        checks.whole,
    ),
    Known(
        "checksum",
        (r"checksum does not match", r"crc(32c?)? (mismatch|check failed)", r"block checksum mismatch"),
        "the bytes are not those that were written: bit rot, a file cut off, or index and data of two different saves",
        VERIFY,
        checks.whole,
    ),
    Known(
        "data-cut-off",
        (
            r"Read (less|fewer) bytes than requested",
            r"Out[ _]?Of[ _]?Range.{0,200}(EOF|end of file)",
            r"truncated block read",
        ),
        "a file is shorter than its index says: it was cut off",
        VERIFY,
        checks.whole,
    ),
    Known(
        "snappy",
        (r"compressed (with|by) '?SNAPPY", r"uncompress.{0,40}snappy", r"corrupted compressed block contents"),
        "the index is compressed with Snappy, which some builds of TensorFlow cannot read, or one of its blocks is "
        "damaged",
        VERIFY,
        checks.whole,
    ),
    Known(
        "scheme",
        (r"File system scheme '?(?P<scheme>.{0,300}?)'? not implemented",),
        "this TensorFlow cannot reach that kind of place: 'gs', 's3' and 'hdfs' need tensorflow-io or a build with "
        "them, "
        "'[local]' is said by a TPU, which cannot read this machine's files; else the path has a colon in it, and what "
        "stands before it was taken for a scheme",
        INSPECT,
        checks.opens,
    ),
    Known(
        "path-none",
        (
            r"Can't load save_path when it is None",
            r"No checkpoint specified .{0,60}\(save_path=None",
            r"'NoneType' object has no attribute '(all_)?model_checkpoint_paths?'",
            r"latest_checkpoint.{0,400}(expected str, bytes or os\.PathLike object, not NoneType|Expected binary or "
            r"unicode string, got None)",
        ),
        "tf.train.latest_checkpoint or get_checkpoint_state found nothing: the directory has no file 'checkpoint', "
        "that "
        "file cannot be read, or what it names is not there",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "state-file",
        (
            r"ParseError:.{0,120}model_checkpoint_path",
            r"checkpoint: Checkpoint ignored",
            r"Couldn't find 'checkpoint' file",
        ),
        "the file 'checkpoint' of the directory, which names its newest checkpoint, is missing or is not in its format",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "no-match",
        (
            rf"Failed to find any matching files for{_PATH}",
            rf"Failed to get matching files on{_PATH}",
            rf"Couldn't match files for checkpoint{_PATH}",
            rf"not a valid checkpoint:?{_PATH}",
            rf"(Couldn't|Could not) find trained model (at|in model_dir:?){_PATH}",
            r"TensorSliceReader constructor",
            rf"(Unable to find|could not find|no) checkpoint (file )?(at|in|under):? {_PATH}",
            r"Input checkpoint '(?P<path>.{0,400}?)' doesn't exist",
            r"FindFirstFile failed for:? (?P<path>.{1,400}?) : ",
        ),
        "no checkpoint has this name: the directory was moved and its 'checkpoint' file still holds the old absolute "
        "path, the prefix is misspelt, the .index is missing, or there is no such directory where the program looks",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "shape",
        (
            r"Received incompatible tensor with shape .{1,120}attempting to restore variable with shape .{1,120}?"
            r"(and name (?P<key>\S{1,500}?)\.?( |$))",
            r"Received incompatible tensor with shape",
            r"does not match the shape (stored )?in (the save file|checkpoint)",
            r"Shape of variable (?P<key>\S{1,500}?):?0? \(.{1,80}doesn't match with shape of tensor",
            r"shapes? of both tensors to match",
            r"has shape .{1,120}but the saved weight has shape",
            r"is not compatible with supplied shape",
            r"shape of the target variable and the shape of the target value",
            r"Object had shape .{1,80}stored value had shape",
            r"Tensor's shape .{1,80}not compatible with supplied shape",
            r"(?<!Optimizer )(Layer|weight) (\S{1,200} )?(weight )?shape .{1,80}not compatible with (provided )?weight "
            r"shape",
            r"Weight expects shape .{1,80}Received saved weight with shape",
            r"Shape mismatch",
            r"Shapes .{1,160}(are )?incompatible",
            r"(both shapes|dimension \d+ in both shapes) must be equal",
            r"expects? shape|cannot assign value to variable",
            r"axes don't match array",
        ),
        "the model was built with other sizes than the one that was saved: another number of items or classes, another "
        "embedding size or length of history, or the code of another model",
        INSPECT,
        checks.shape,
    ),
    Known(
        "type",
        (
            r"tensor_name = (?P<key>[^\s;,]{1,500}); .{0,80}expected dtype",
            r"Expected to restore a tensor of type .{1,160}tensor_name = (?P<key>[^\s;,]{1,500})",
            r"Expected to restore a tensor of type",
            r"expected dtype|dtype mismatch",
            r"Tensor conversion requested dtype .{1,80} for Tensor with dtype",
        ),
        "the variable has another type than the one that was saved (mixed precision, or float64)",
        INSPECT,
        checks.dtype,
    ),
    Known(
        "legacy-optimizer",
        (r"legacy Keras optimizer into a v2\.11\+", r"legacy optimizer"),
        "the optimizer's state was saved by Keras before 2.11, which keeps it in another way",
        "ckpt migrate {path} --to trainer",
        checks.opens,
    ),
    Known(
        "name-based",
        (
            r"Restoring a name-based tf\.train\.Saver checkpoint using the object-based restore API",
            r"does not appear to be object-based \(saved with TF2\)",
        ),
        "the checkpoint is one of names (TensorFlow 1); the program restores objects and pairs them by global "
        "names, so "
        "that what has another name is not restored",
        INSPECT,
        checks.opens,
    ),
    Known(
        "not-all-used",
        (
            r"Unresolved object in checkpoint:? (?P<object>\(root\).{0,200}?)(?= WARNING|$| W\d{4}|: )",
            r"Value in checkpoint could not be found in the restored object: (?P<object>\(root\).{0,200}?)(?= "
            r"WARNING|$| W\d{4})",
            r"not all checkpointed values were used",
            r"Unresolved object in checkpoint",
            r"assert_consumed",
            r"Value in checkpoint could not be found in the restored object",
            r"being deleted with unrestored values",
            r"Unresolved slot restorations: ",
            r"Unused attributes in these objects",
        ),
        "the checkpoint holds more than the program restored: harmless for an optimizer that is not needed, else a "
        "sign that variables were restored under other names, or not at all",
        RESUME,
        checks.named_object,
    ),
    Known(
        "not-bound",
        (
            r"Python objects (were|that were) not bound to checkpointed values",
            r"Object .{1,400}not assigned a value from checkpoint",
            r"Object not restored: ",
            r"Some objects had attributes which were not restored",
            r"Nothing to load\. No dependencies have been added",
            r"Nothing except the root object matched a checkpointed value",
            r"No (checkpointed values|objects) (were )?(matched|restored)",
        ),
        "the program has variables for which the checkpoint holds no value: the objects are called or nested otherwise "
        "than when it was saved, or the checkpoint is of another model",
        RESUME,
        checks.layers,
    ),
    Known(
        "never-restored",
        (
            r"use(d)? uninitialized value (?P<key>[^\s\[]{1,500})",
            r"use(d)? uninitialized value",
            r"FailedPrecondition.{0,200}uninitialized",
            r"Could not find variable (?P<key>[^\s.]{1,500})\. This could mean that the variable has been deleted",
        ),
        "nothing was restored into this variable, and it was never initialised",
        INSPECT,
        checks.key,
    ),
    Known(
        "rename-failed",
        (r"Failed to rename:? .{1,600}", r"Error writing \(tmp\) checkpoint file"),
        "a temporary file of a save could not take its final name: another program (on Windows often a virus scanner, "
        "a cloud backup or TensorBoard) had one of the files open, or the file system refused; that save is not "
        "complete",
        VERIFY,
        checks.whole,
    ),
    Known(
        "save-disturbed",
        (
            r"_temp(_[0-9a-f]{32})?[/\\]part-\d{5}-of-\d{5}.{0,80}(No such file|not found|cannot find)",
            r"\.tempstate\d+.{0,20}(No such file|not found|cannot find)",
            r"(No such file|not found|cannot find).{0,80}MergeV2Checkpoints",
        ),
        "a temporary file of a save was gone before the save had ended: another process saved to the same path at the "
        "same time (several workers with one directory), or something deleted it; that save is not complete",
        VERIFY,
        checks.whole,
    ),
    Known(
        "storage-failed",
        (
            r"Input/output error",
            r"Stale (NFS )?file handle",
            r"Transport endpoint is not connected",
            r"Remote I/O error",
        ),
        "the file system failed in the middle of it (a network drive, a mounted bucket or a disk): what was being "
        "written is not complete, and what was read may be",
        VERIFY,
        checks.whole,
        wrapper=True,
    ),
    Known(
        "no-space",
        (r"No space left on device", r"Disk quota exceeded", r"errno = 28\b", r"There is not enough space on the disk"),
        "the disk was full while something was written: if it was a checkpoint, that one is not complete",
        VERIFY,
        checks.whole,
    ),
    Known(
        "no-parent",
        (
            r"Parent directory of .{1,400}doesn't exist, can't save",
            r"Failed to create a NewWriteableFile",
            r"Unable to (synchronously )?create file \(unable to open file: .{1,400}errno = 2\b",
        ),
        "the directory in which the checkpoint should be written does not exist, or its path is too long or not "
        "allowed "
        "on this system",
        INSPECT,
        checks.opens,
    ),
    Known(
        "saved-model-missing",
        (
            rf"SavedModel file does not exist at:?{_PATH}",
            r"no SavedModel bundles found",
            r"contains neither 'saved_model\.pb' nor 'saved_model\.pbtxt'",
        ),
        "a SavedModel is a directory with saved_model.pb in it, and this is none: a file (.h5, .keras) or another "
        "directory was given",
        INSPECT,
        checks.opens,
    ),
    Known(
        "saved-model-tags",
        (
            r"MetaGraphDef associated with tags .{1,80}could not be found",
            r"Could not find meta graph def matching supplied tags",
        ),
        "the graph in saved_model.pb does not have this tag: it was exported for another use, or the file is a frozen "
        "graph under that name",
        INSPECT,
        checks.opens,
    ),
    Known(
        "saved-model-functions",
        (
            r"_UserObject'? object has no attribute '_create_or_restore_slot_variable",
            r"concrete_functions\[concrete_function_name\].{0,40}KeyError",
            r"KeyError: '__inference_\w{1,200}'",
            r"Could not find matching (concrete )?function to call loaded from the SavedModel",
            r"KeyError: <tf\.Tensor '.{1,120}' shape=",
        ),
        "what cannot be put together again, or does not fit the call, is the functions in the SavedModel, not its "
        "values: possibly another version of TensorFlow wrote it, something in it was not saved, or it is called with "
        "other inputs; its weights can be loaded into a model that is built in code",
        EXPORT,
        checks.opens,
    ),
    Known(
        "plain-object",
        (
            r"'?_UserObject'? object has no attribute",
            r"'?AutoTrackable'? object has no attribute",
            r"'_UserObject' object is not callable",
        ),
        "tf.saved_model.load gives a plain object, not a Keras model: predict and summary are not part of a "
        "SavedModel; "
        "its weights can be loaded into a model that is built in code",
        INSPECT,
        checks.opens,
    ),
    Known(
        "graph-unreadable",
        (
            r"Error parsing message( with type 'tensorflow\.\w+')?",
            r"Wrong wire type in tag",
            r"Tag had invalid wire type",
            r"Cannot parse file .{1,300}(saved_model|\.pb|\.meta)",
        ),
        "the file is not the graph (GraphDef, MetaGraphDef) that it was read as: a SavedModel, a text graph "
        "(.pbtxt), a "
        "checkpoint, a file cut off or a Git LFS pointer",
        INSPECT,
        checks.opens,
    ),
    Known(
        "graph-op",
        (
            r"Op type not registered '",
            r"NodeDef mentions attr '",
            r"op_def = op_dict\[node\.op\] KeyError",
            r"KeyError: u?'(VariableV2|RsqrtGrad|RefVariable)'",
        ),
        "the graph in the .meta or .pb was made by another TensorFlow, or with operations that this program has not "
        "loaded; the values in the checkpoint do not depend on it",
        INSPECT,
        checks.opens,
    ),
    Known(
        "graph-name",
        (r"The name '.{1,200}' refers to an? (Operation|Tensor).{0,40}not (in the graph|exist)",),
        "the graph that was imported has no operation of this name; this is about the graph, not the checkpoint",
        INSPECT,
        checks.opens,
    ),
    Known(
        "newer-version",
        (r"Forward compatibility load error", r"saved in (a )?(future|newer) version of TensorFlow"),
        "the checkpoint was saved by a newer TensorFlow, in a way that this one does not know",
        INSPECT,
        checks.opens,
    ),
    Known(
        "no-variables",
        (r"No variables to save", r"No variables provided"),
        "the Saver was made before the variables, or in another graph: there is nothing that it could restore",
        INSPECT,
        checks.opens,
    ),
    Known(
        "not-trackable",
        (r"Checkpoint.{0,40} was expecting .{1,80} to be a trackable object",),
        "tf.train.Checkpoint takes objects of TensorFlow (a model of tf.keras or of Keras with its backend), not "
        "this one",
        INSPECT,
        checks.opens,
    ),
    Known(
        "altered-graph",
        (r"mismatch between the current graph", r"Variable name or other graph key that is missing"),
        "TensorFlow says this whenever a restore fails; the cause is in the lines above it: a missing variable, a "
        "missing data file or another shape",
        VERIFY,
        checks.whole,
        wrapper=True,
    ),
    Known(
        "permission",
        (r"(Permission[ _]?Denied|PermissionError)", r"Permission denied", r"Access is denied", r"errno = 13\b"),
        "the operating system refuses this path: the permissions, a directory given where a file is wanted (on "
        "Windows), or a file that another program has open",
        VERIFY,
        checks.whole,
        wrapper=True,
    ),
    Known(
        "data-loss",
        (r"Data[ _]?Loss(Error)?\b", r"Unable to open table file"),
        "the checkpoint cannot be read as what it was taken for: a wrong file, or damage",
        VERIFY,
        checks.whole,
        wrapper=True,
    ),
)
