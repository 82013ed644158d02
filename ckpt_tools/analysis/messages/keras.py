"""What Keras says when it saves or loads."""

from __future__ import annotations

from ckpt_tools.analysis.messages import checks
from ckpt_tools.analysis.messages.known import EXPORT, INSPECT, RESUME, VERIFY, Known

KNOWN = (
    Known(
        "best-never-saved",
        (
            r"Can save best model only with (?P<metric>\S{1,200}) available",
            r"conditioned on metric '?(?P<metric>\S{1,200}?)'? which is not available",
            r"(ModelCheckpoint|EarlyStopping)\(.{0,20}monitor=.{1,200}(could not find the monitored|not found in)",
        ),
        "the metric that is watched was not computed when the callback looked, so that nothing was saved or stopped by "
        "it: a name that is not among the metrics, no validation data, or save_freq in steps, at which no validation "
        "metric is there",
        RESUME,
        checks.opens,
    ),
    Known(
        "best-forgotten",
        (r"improved from (-?inf|None)\b",),
        "the best value so far was not known: in a first epoch that is right; after a resume the first evaluation "
        "counts as the best, whatever it scores, and replaces the best model",
        "ckpt backfill {path} --data DIR",
        checks.opens,
    ),
    Known(
        "best-never-better",
        (r"did not improve from (-?inf|None|nan)\b",),
        "no value of the metric that is watched was better than none at all; in Keras only one that is not a number "
        "(NaN) or infinite is not: nothing was saved as the best since this program started; possible are a "
        "loss that diverged, a division by zero in a metric of your own, and NaN in the data",
        "ckpt inspect {path} --stats",
        checks.opens,
    ),
    Known(
        "best-direction",
        (
            r"mode .{0,80}is unknown, ?fall(ing )?back to '?auto",
            r"able to automatically determine whether that metric should be (maximized|minimized)",
            r"'?mode'? can be .{0,60}, got (mode=)?.{0,40}",
        ),
        "whether more or less of the metric is better was not told (mode='min' or 'max'), so that it may be guessed "
        "from its name: a metric of your own may be kept where it is worst",
        RESUME,
        checks.opens,
    ),
    Known(
        "best-place",
        (r"The dirpath has changed from .{1,600}won't be reloaded",),
        "this run writes its checkpoints into another directory than the one before it, so that the best value and "
        "the list of the best checkpoints were not taken over: the first evaluation counts as the best",
        INSPECT,
        checks.opens,
    ),
    Known(
        "early-stopping",
        (r"Epoch \d+: early stopping", r"Restoring model weights from the end of the best epoch"),
        "training stopped because the metric that is watched did not improve for as many evaluations as patience "
        "allows; the model in memory is that of the last epoch, unless the best weights were restored into it; a "
        "saved best is a file of its own, and whoever starts again begins with new patience",
        RESUME,
        checks.opens,
    ),
    Known(
        "name-of-file",
        (
            r"Failed to format this callback filepath",
            r"filepath = self\.filepath\.format\(.{0,80}KeyError",
            r"KeyError.{0,80}filepath.{0,40}\.format\(",
        ),
        "the name of the file has a metric in braces (val_loss, batch) that was not computed when the callback "
        "saved, or that is called otherwise (val_acc, val_accuracy): nothing was saved",
        RESUME,
        checks.opens,
    ),
    Known(
        "not-serializable",
        (
            r"Not JSON Serializable",
            r"Unable to serialize .{1,300}to JSON",
            r"Object of type .{1,80}is not JSON serializable.{0,400}(save|get_config|to_json)",
            r"(to_json|get_config|save_model|save\.py|saving\.py|callbacks\.py).{0,1500}(can't|cannot) pickle",
            r"(Layer|layer) .{1,200}must override '?get_config|has arguments .{0,200}in '?__init__'?.{0,120}get_config",
        ),
        "the description of the model cannot be written as text: a layer, a loss or an optimizer has a tensor, a type "
        "or a module in its configuration, or no get_config; the model was not saved, and its weights alone can be "
        "(save_weights, save_weights_only=True)",
        INSPECT,
        checks.opens,
    ),
    Known(
        "subclassed",
        (r"Saving the model to HDF5 format requires the model to be", r"model\.save.{0,2000}NotImplementedError: ?$"),
        "a model that is a class of its own cannot be written as a whole into an .h5 file: nothing whole was saved; "
        "its weights can be (save_weights), or all of it as .keras or SavedModel",
        INSPECT,
        checks.opens,
    ),
    Known(
        "object-as-path",
        (
            r"'(ModelCheckpoint|EarlyStopping|History|BackupAndRestore|Checkpoint|CheckpointManager)' object has no "
            r"attribute '(endswith|rstrip|startswith|split|lower)'",
        ),
        "an object was given where a path is wanted: load_weights takes the file that a callback wrote, not the "
        "callback",
        INSPECT,
        checks.opens,
    ),
    Known(
        "keras3-format",
        (
            r"Keras 3 only supports",
            r"Invalid filename: expected a '?\.keras",
            r"File format not supported: filepath",
            r"legacy SavedModel format is not supported by 'load_model",
        ),
        "Keras 3 reads files whose names end in .keras or .h5, no checkpoints of TensorFlow and no SavedModels",
        EXPORT,
        checks.opens,
    ),
    Known(
        "weights-name",
        (
            r"The filename must end in '?\.weights\.h5",
            r"filepath provided must end in '?\.weights\.h5",
        ),
        "Keras 3 writes weights only into files whose name ends in .weights.h5; nothing was saved",
        EXPORT,
        checks.opens,
    ),
    Known(
        "model-name",
        (
            r"The filepath provided must end in '?\.keras",
            r"Invalid filepath extension for saving",
            r"save_format' argument is deprecated in Keras 3",
        ),
        "Keras 3 writes models only into files whose name ends in .keras (or .h5); nothing was saved",
        INSPECT,
        checks.opens,
    ),
    Known(
        "keras-file-missing",
        (
            r"File not found: filepath=(?P<path>.{1,300}?)(?=\. Please ensure|$)",
            r"Please ensure the file is an accessible '?\.keras",
        ),
        "there is no .keras file at this path: a wrong directory, a backslash in a string that Python took for an "
        "escape, or a file that was renamed to .keras without being one",
        INSPECT,
        checks.by_its_name,
    ),
    Known(
        "archive-member",
        (r"There is no item named '(?P<key>[^']{1,200})' in the archive",),
        "the zip archive is no .keras file of this version of Keras: it was packed again, lies in a folder of the "
        "archive, or is another kind of archive",
        INSPECT,
        checks.opens,
    ),
    Known(
        "no-configuration",
        (
            r"No model config found in the file",
            r"No model (config )?found in config",
            r"Cannot create group in read[- ]only mode",
            r"object 'model_config' doesn't exist",
            r"Input file specified only holds the weights",
        ),
        "load_model wants a whole model, and the file holds none that it can read: it is a file of weights (build "
        "the model "
        "in code, then load_weights), or not the file that is meant",
        INSPECT,
        checks.configuration,
    ),
    Known(
        "not-built",
        (
            r"Unable to load weights saved in HDF5 format into a subclassed Model which has not created its variables",
            r"Weights for model .{1,80} have not yet been created",
            r"(This|the) model has not (yet )?been built",
            r"Model .{1,80}has not yet been built",
            r"(because it|a model that) has not yet been built",
            r"model must be built before|Model is unbuilt",
        ),
        "the model has no variables yet: call it once on data of the right shape, or build it, before its weights are "
        "loaded",
        VERIFY,
        checks.whole,
    ),
    Known(
        "layers",
        (
            r"weight file containing \d+ (saved )?layers",
            r"Layer count mismatch",
            r"objects could not be loaded",
            r"expected \d+ (variables|weights?)(\(s\))?, but (received|the saved|it had)",
            r"expects \d+ weights?(\(s\))?, but the saved weights have \d+ element",
            r"was found to correspond to layer .{1,200} in the save file",
            r"Weight count mismatch for (layer|top-level weights)",
        ),
        "the model does not have the layers that were saved: its code changed, it was not built yet (0 variables), or "
        "the file is of another model or another version of Keras",
        INSPECT,
        checks.layers,
    ),
    Known(
        "mismatch-skipped",
        (r"Skipping loading (of )?weights for layer", r"Skipping nested container at"),
        "a layer was left as it was initialised, because what is stored for it has another shape or another number of "
        "variables (skip_mismatch=True), or is not there",
        INSPECT,
        checks.shape,
    ),
    Known(
        "optimizer-skipped",
        (r"Skipping variable loading for (the )?optimizer",),
        "the optimizer was not built when the weights were loaded, or has another number of variables, so that its "
        "state was left out: training goes on with moments of zero",
        RESUME,
        checks.opens,
    ),
    Known(
        "optimizer-not-loaded",
        (
            r"Error in loading the saved optimizer state",
            r"set_weights\(weights\)'? on optimizer",
            r"Optimizer weight shape .{1,80}not compatible",
            r"Length of the specified weight list \(\d+\) does not match the number of weights of the optimizer",
        ),
        "the optimizer's state could not be taken over: this optimizer is another one, has no variables yet, or its "
        "model has other layers; training goes on with moments of zero, and the weights are not concerned",
        RESUME,
        checks.opens,
    ),
    Known(
        "h5py-strings",
        (r"'str' object has no attribute 'decode'",),
        "h5py 3 gives text where this Keras (2.3 and older, TensorFlow 2.3 and older) expects bytes: where it is said "
        "while loading an .h5, the two versions do not fit (h5py before 3 does), and the file is not concerned",
        VERIFY,
        checks.whole,
    ),
    Known(
        "h5py-missing",
        (r"requires h5py", r"No module named '?h5py", r"Failed to import h5py", r"module 'h5py' has no attribute"),
        "h5py is not installed where the program runs (pip install h5py), or another module of that name hides it, so "
        "that no HDF5 file can be read or written there",
        VERIFY,
        checks.whole,
    ),
    Known(
        "custom-object",
        (
            r"Unknown (layer|loss|loss function|metric|metric function|optimizer|initializer|activation "
            r"function|object|regularizer):? '?(?P<object>\w{1,200})",
            r"Could not locate (class|function) '(?P<object>\w{1,200})",
            r"Unable to restore custom object",
            r"passed to the '?custom_objects'? argument",
        ),
        "the file names a class or function that this program does not know: it has to be given in custom_objects, or "
        "registered, or it belongs to another version of Keras; the weights are not concerned",
        EXPORT,
        checks.opens,
    ),
    Known(
        "configuration-version",
        (
            r"Unrecognized keyword arguments( passed to \w{1,200})?: ?[\[{]",
            r"(got an )?unexpected keyword argument "
            r"'(ragged|batch_shape|groups|implementation|synchronized|renorm|quantization_config|input_axes)",
            r"Error when deserializing class",
            r"Could not deserialize class",
            r"could not be deserialized properly",
            r"Unable to revive .{1,80}from config",
        ),
        "the description of the model does not fit this program: another version of Keras wrote it, or a layer, a loss "
        "or a function in it is of the program itself and has to be given or registered (custom_objects, get_config); "
        "the weights can still be loaded into a model that is built in code",
        EXPORT,
        checks.opens,
    ),
    Known(
        "lambda",
        (
            r"bad marshal data",
            r"deserialization of a '?Lambda",
            r"loading a .{0,40}Lambda.{0,40} layer.{0,80}unsafe",
            r"safe_mode=False",
            r"code\(\) (argument|takes)",
        ),
        "a Lambda layer is stored as the bytecode of the Python that wrote it, which another Python cannot run, and "
        "which Keras 3 does not run unless it is told to; the weights can still be loaded into a model that is "
        "built in "
        "code",
        EXPORT,
        checks.opens,
    ),
    Known(
        "no-keras-metadata",
        (
            r"lacks the Keras metadata",
            r"SavedModel saved prior to TF 2\.5 detected",
            r"Unable to create a Keras model from (this )?SavedModel",
        ),
        "the SavedModel was not written by Keras, or by a version before 2.5: it has no description of a Keras "
        "model; its "
        "weights can be loaded into a model that is built in code",
        INSPECT,
        checks.opens,
    ),
    Known(
        "by-name",
        (
            r"Weights may only be loaded based on topology into Models when loading TensorFlow-formatted weights",
            r"Invalid keyword arguments?: .{0,20}by_name",
            r"by_name.{0,60}only supported (when loading|for) .{0,40}h5",
        ),
        "weights are loaded by the names of layers from HDF5 files of Keras 2 only, not from a checkpoint of "
        "TensorFlow "
        "nor from .weights.h5",
        INSPECT,
        checks.layers,
    ),
    Known(
        "name-exists",
        (r"Unable to (synchronously )?create (link|dataset|group|hard link) \(name already exists\)",),
        "two variables (or two layers) have one name, and an .h5 file has room for one of each: nothing whole was "
        "written; a .keras file, or a name for each, does not have this limit",
        VERIFY,
        checks.whole,
    ),
    Known(
        "header-too-large",
        (r"object header message is too large",),
        "an attribute of an HDF5 file holds no more than 64 kB, which the names of a large model exceed: what was "
        "being "
        "written is not complete",
        VERIFY,
        checks.whole,
    ),
    Known(
        "refused",
        (
            r"Not allowed: (H5|ZIP|archive) .{1,300}",
            r"refusing to (load|extract) a potential (decompression|shape|decompression/shape) bomb",
            r"Invalid (H5 file|path in H5 file)",
            r"escapes the asset directory",
        ),
        "Keras refuses the file as one that could do harm: it refers to other files, or is far larger inside than on "
        "disk; a file cut off or damaged may look so too",
        VERIFY,
        checks.whole,
    ),
)
