"""Every id that a `Finding` can have, in both programs: its levels, what it means, what to do.

Ids are stable, for scripts compare them. Nothing here is needed to find something: who shows ids imports it then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ckpt_tools.findings import Severity


class FindingId(NamedTuple):
    """``levels`` are all that a finding with this id comes with, the usual one first."""

    levels: tuple[Severity, ...]
    meaning: str
    advice: str


_NOTE: tuple[Severity, ...] = ("note",)
_WARNING: tuple[Severity, ...] = ("warning",)
_ERROR: tuple[Severity, ...] = ("error",)
_DAMAGE: tuple[Severity, ...] = ("damage",)
_READ: tuple[Severity, ...] = ("error", "damage", "warning")

_BACKFILL = "put it in: ckpt backfill EXPERIMENT --data DIR"
_REPAIR = "see what can be mended: ckpt repair PATH --dry-run"
_CHECK_DATA = "make sure that --data-dir is what the run was trained on"
_NOTHING = "nothing"

# What ends a question, or a part of it: the ids of ckpt_tools/errors.py.
OF_ERRORS: Mapping[str, FindingId] = {
    "busy": FindingId(_ERROR, "Another program is writing here now.", "wait for it, then run the same command again"),
    "corrupt": FindingId(
        ("damage", "warning"), "The bytes of a file break a rule of its format, or one of its checksums.", _REPAIR
    ),
    "mismatch": FindingId(
        _ERROR, "Two things that should agree do not, such as a measured metric and the stored one.", _CHECK_DATA
    ),
    "not-durable": FindingId(
        _NOTE, "The file system cannot be asked to make names durable.", "after a power loss, verify what was written"
    ),
    "not-found": FindingId(
        _READ, "There is no such file, or no checkpoint in it.", "see what is there: ckpt audit DIR"
    ),
    "not-locked": FindingId(
        _NOTE, "A directory is changed without its lock, as was asked for.", "let nothing else write there meanwhile"
    ),
    "storage": FindingId(
        ("error", "warning", "note"),
        "The operating system refused: permission, space, input or output.",
        "mend that, then run the same command again",
    ),
    "unsafe": FindingId(
        _READ, "Going on would leave the directory, follow a device or exceed a limit.", "look at what the file names"
    ),
    "unsupported": FindingId(
        ("note", "error", "warning", "damage"),
        "The file may be whole, but this version does not handle what it holds.",
        "open it with the program that wrote it",
    ),
    "usage": FindingId(("error", "warning"), "The request is wrong, or contradicts what is there.", "see --help"),
    "worker-lost": FindingId(
        _ERROR, "A process that takes part in the work is gone.", "start all of them again, with --resume --from latest"
    ),
}

OF_CKPT: Mapping[str, FindingId] = {
    "best-lost": FindingId(
        _WARNING, "The best model that the log knows of is in no checkpoint any more.", "look for a copy of that step"
    ),
    "best-metric-absent": FindingId(
        ("warning", "error"), "The checkpoint has no best_metric: a resumed run overwrites its best model.", _BACKFILL
    ),
    "best-metric-unset": FindingId(
        ("warning", "error"),
        "The checkpoint's best_metric was never set: a resumed run overwrites its best model.",
        _BACKFILL,
    ),
    "best-not-saved": FindingId(
        _WARNING, "A better value was seen than that of any save that is pinned.", "let the trainer save more often"
    ),
    "best-pinned": FindingId(
        _WARNING,
        "The best of a run is not in it any more, but a guard has pinned it.",
        "put it back: ckpt guard RUN --restore",
    ),
    "best-unknown": FindingId(
        _WARNING,
        "Nothing tells which of these checkpoints is the best: all of them stay.",
        "put the best in: ckpt backfill, or thin them out with --unknown-best",
    ),
    "damaged": FindingId(
        ("damage", "warning"),
        "A checkpoint stays damaged; a warning where others beside it are whole.",
        "go on from one that is whole",
    ),
    "damaged-run": FindingId(
        _DAMAGE, "A run's checkpoint is damaged, or its files do not belong together.", "ckpt repair the run"
    ),
    "declaration": FindingId(
        _WARNING, "A ckpt.toml cannot be used: the run is shown without it.", "see what is wrong: ckpt lineage test RUN"
    ),
    "deletion-interrupted": FindingId(
        _WARNING, "A deletion was killed: data of checkpoints that are gone is left.", "run the command that it names"
    ),
    "differs-from-manifest": FindingId(
        _ERROR, "A file or a tensor is not what the manifest says.", "get it again from where the manifest came from"
    ),
    "direction-suspect": FindingId(
        _WARNING,
        "A run kept the model with its lowest recall: its metric was minimised.",
        "train on with mode='max'",
    ),
    "fallback": FindingId(
        _WARNING, "What the checkpoint file names cannot be used: the newest that is whole is taken.", _REPAIR
    ),
    "fresh": FindingId(
        _NOTE, "A file looks left over, but was changed in the last minutes.", "look again when no save is under way"
    ),
    "guard-failed": FindingId(
        _WARNING, "Something that the guard had to do failed; the training was left alone.", "mend what it names"
    ),
    "incomplete": FindingId(
        _DAMAGE,
        "A Keras file lacks what it says that it has: its save was interrupted, or it was changed.",
        "go on from another copy or an earlier save",
    ),
    "latest-unusable": FindingId(
        _WARNING, "The newest state of a run cannot be used; its best can.", "resume from the best, or ckpt repair"
    ),
    "left-over": FindingId(_NOTE, "A save that was killed left files.", "set them aside: ckpt repair PATH"),
    "link-outside": FindingId(
        _WARNING, "A link leads out of the directory that is looked at: not followed.", "audit its target by itself"
    ),
    "log-unreadable": FindingId(
        _WARNING, "A log of the run cannot be read, or not all of it.", "mend it, or take its value as not known"
    ),
    "logs-disagree": FindingId(
        _WARNING, "Two logs of one run give different figures for the same step.", "find out which of them is its own"
    ),
    "metric-ambiguous": FindingId(
        _WARNING, "Two metrics are called so: no value was taken.", "name one of them in full with --metric"
    ),
    "metric-unknown": FindingId(
        _WARNING, "Nothing says which metric the best model is chosen by.", "name it with --metric and --mode"
    ),
    "missing-run": FindingId(_WARNING, "A run has no checkpoint, or not all of its files.", _REPAIR),
    "no-checksums": FindingId(
        _NOTE, "The format has no checksums, or none of single tensors: damage to values cannot be seen.", _NOTHING
    ),
    "no-manifest": FindingId(_ERROR, "There is no manifest, and none is made of what is damaged.", _REPAIR),
    "no-runs": FindingId(_WARNING, "There is no run where some were expected.", "name another directory"),
    "no-value": FindingId(
        _NOTE, "The object graph names a variable that has no value, as of one that was never built.", _NOTHING
    ),
    "not-better": FindingId(
        _ERROR, "The mean does not lead what it was made from by more than noise: it was not written.", _NOTHING
    ),
    "not-certain": FindingId(
        _ERROR,
        "What was exported may not be loaded as it was meant.",
        "compare an output of the model, once it is loaded, with one from before",
    ),
    "not-compared": FindingId(
        _WARNING, "A checkpoint was left out of the comparison: it could not be measured on the same users.", _NOTHING
    ),
    "not-exported": FindingId(
        _WARNING, "A tensor is left out: a file of that kind cannot hold it.", "export to another kind of file"
    ),
    "not-finite": FindingId(
        _WARNING, "The mean is not finite everywhere.", "look for NaN in what it is made of: ckpt inspect --stats"
    ),
    "not-in-log": FindingId(_WARNING, "The value is not one of those that the run logged.", "make sure of the data"),
    "nothing-to-salvage": FindingId(_NOTE, "No tensor of a damaged checkpoint can be used.", "look for another copy"),
    "old-trainer-loses": FindingId(
        _ERROR, "A resume with this trainer loses something.", "resume with: trainer train --resume EXPERIMENT"
    ),
    "orphan": FindingId(
        _NOTE, "Data without an index: of a save that was killed, or of a checkpoint that lost it.", _REPAIR
    ),
    "own-trainer-loses": FindingId(
        _ERROR,
        "A resume with the run's own trainer, as its declaration describes it, loses something.",
        "keep the best apart: ckpt guard, or put the value in: ckpt backfill",
    ),
    "partial": FindingId(
        _WARNING, "Only a part of a tensor's elements is here, of a sharded save.", "restore it piece by piece"
    ),
    "renamed": FindingId(
        _WARNING, "A tensor has another name in the exported file, where its own cannot be one.", "load it by that name"
    ),
    "resume-blocked": FindingId(
        _ERROR, "The run cannot be resumed from this checkpoint, or not without a loss.", "see ckpt resume-check PATH"
    ),
    "salvaged": FindingId(_NOTE, "What is whole has been salvaged before.", "go on from the salvaged checkpoint"),
    "state": FindingId(
        _NOTE, "A checkpoint file is wrong, and what it should name is not known.", "name the prefix to go on from"
    ),
    "nothing-shown": FindingId(
        _NOTE, "No tensor has a name that the filter matches.", "see their names: ckpt inspect PATH"
    ),
    "stopped-early": FindingId(
        _NOTE, "The checkpoint says that its run was stopped early.", "its own program stops again at once: reset that"
    ),
    "stored-not-restored": FindingId(
        _NOTE, "Weights or moments are stored that no variable of the trainer stands for.", _NOTHING
    ),
    "trailing-bytes": FindingId(_NOTE, "A data file is longer than its tensors; harmless.", _NOTHING),
    "unfinished-change": FindingId(
        _NOTE, "A change of a checkpoint was killed here.", "the next change ends it first, or: ckpt repair PATH"
    ),
    "unread-run": FindingId(_WARNING, "The index of a listed checkpoint could not be read.", "mend what it names"),
    "unreadable-run": FindingId(
        _ERROR,
        "A run's checkpoint could not be read, for want of permission or because of the storage.",
        "mend that, then run the same command again",
    ),
    "unsupported-run": FindingId(
        _WARNING, "A run's checkpoint is of a kind that is not read.", "open it with the program that wrote it"
    ),
    "what-to-do": FindingId(_NOTE, "How to make sure of what is not certain about an export.", "as it says"),
}

OF_TRAINER: Mapping[str, FindingId] = {
    "already-there": FindingId(
        _NOTE, "The run is at the wanted step already: nothing is trained.", "train on: --max-steps +N"
    ),
    "best-restored": FindingId(
        _WARNING, "The best model was not where it belongs, and is put back from another checkpoint.", _NOTHING
    ),
    "better-best": FindingId(
        _NOTE, "A better best was saved after this state: it stays until a better one is found.", _NOTHING
    ),
    "changed": FindingId(_NOTE, "A setting is another one than before the resume.", "leave the flag out to keep it"),
    "data-accepted": FindingId(_WARNING, "The training data has changed, and --accept-data was given.", _NOTHING),
    "early-stop": FindingId(_NOTE, "The run had run out of patience, and goes on as was asked for.", _NOTHING),
    "hyper-parameter": FindingId(
        _NOTE, "Nothing told a hyper-parameter: where its value comes from.", "name it with its flag if it is another"
    ),
    "left-out": FindingId(
        _WARNING, "A baseline needs more memory than is allowed.", "allow more, or name that method alone"
    ),
    "metric-accepted": FindingId(
        _WARNING, "The measured recall is not that of the run so far, and --accept-metric was given.", _CHECK_DATA
    ),
    "no-baselines": FindingId(
        _WARNING, "The figures of the baselines cannot be read.", "make them again: trainer baseline"
    ),
    "no-history": FindingId(
        _WARNING, "Validation users have a single item: every one of them gets the same list.", "leave them out"
    ),
    "no-lists": FindingId(_NOTE, "Diversity and coverage need faiss, which is not installed.", "install it"),
    "no-report": FindingId(
        _WARNING, "The best model could not be measured at the end.", "measure it: trainer evaluate EXPERIMENT"
    ),
    "not-re-ranked": FindingId(
        _NOTE, "--coef re-ranks what several interests fetch, and this model has one.", "leave the flag out"
    ),
    "other-best": FindingId(
        _NOTE, "The newest best is of another validation split: the one of this split is taken.", _CHECK_DATA
    ),
    "other-data": FindingId(
        _WARNING, "The validation split is not the one that the run measured its best on.", _CHECK_DATA
    ),
    "padding-id": FindingId(
        _WARNING, "Item id 0 occurs in the data, where it stands for padding.", "number the items from 1"
    ),
    "remeasured": FindingId(
        _WARNING, "The stored best is of another N or split: it was measured again.", "give the same --top-n and data"
    ),
    "routing-noise": FindingId(
        _NOTE, "MIND draws noise at each evaluation: no single recall repeats.", "compare within the spread it names"
    ),
    "short-users": FindingId(_NOTE, "Users have too few items to be trained on, and are never drawn.", _NOTHING),
    "tracker-failed": FindingId(
        _WARNING,
        "MLflow or Weights & Biases failed; the training went on, and its own log is whole.",
        "see its message",
    ),
    "trial-failed": FindingId(
        _ERROR, "A run of a sweep diverged, or another process trains it.", "see its message; the others are compared"
    ),
    "untrained-better": FindingId(
        _WARNING,
        "The untrained model scored more than any trained one: the metric rewards frequent ids here.",
        "train on, or with another learning rate",
    ),
}

ALL: Mapping[str, FindingId] = {**OF_ERRORS, **OF_CKPT, **OF_TRAINER}


def markdown(say: Callable[[str], str] = str) -> str:
    """The tables of the reference page, in the language of ``say``; each id is an anchor."""
    parts = (("Of errors", OF_ERRORS), ("Of ckpt", OF_CKPT), ("Of trainer", OF_TRAINER))
    head = " | ".join(say(column) for column in ("id", "level", "meaning", "what to do"))
    lines: list[str] = []
    for title, table in parts:
        lines += [f"## {say(title)}", "", f"| {head} |", "|---|---|---|---|"]
        for identity, (levels, meaning, advice) in sorted(table.items()):
            words = ", ".join(say(level) for level in levels)
            lines.append(f'| <a id="{identity}"></a>`{identity}` | {words} | {say(meaning)} | {say(advice)} |')
        lines.append("")
    return "\n".join(lines)
