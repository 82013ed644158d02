"""Metrics in lines that a trainer printed or logged. Pure: from text to readings, no files, no state between lines.

A reading is a name, a separator and a number: ``val_auc: 0.71``, ``recall = 3.4e-2``, ``Val Acc: 94.12%``,
``{"loss": 0.5}``, ``'auc': 0.7``, ``recall=[0.1, 0.2]`` (the first), ``| auc | 0.7 |``. Colours are stripped, what a
carriage return draws over is a line of its own, prefixes of loggers and progress bars are no part of a name.

A trainer's own *best* line says which metric its best one is:

    Epoch 3: val_auc improved from 0.61000 to 0.64000, saving model to best.keras      (Keras ModelCheckpoint)
    Validation loss decreased (0.5100 --> 0.4900). Saving model ...
    new best dev f1 score: 83.2     Saved new best model with loss 0.31     best_auc: 0.71
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ckpt_tools.format import json_text
from ckpt_tools.format.stored_best import BEST_METRIC

Mode = Literal["min", "max"]

# What a person reads at a glance; what is longer is data, and is not looked at beyond this.
MAX_LINE = 16_384
_NEAR = 100
# Where a collector of logs keeps the line itself: Docker, Kubernetes, structured loggers.
_WRAPPERS = ("log", "message", "msg")

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])")
# As TensorFlow shows a value: <tf.Tensor: shape=(), dtype=float32, numpy=0.5>.
_TENSOR = re.compile(r"<tf\.(?:Tensor|Variable)[^<>\n]{1,120}numpy=(?P<value>[^<>\n]{1,40})>")
# The lines between the columns of a table.
_RULES = str.maketrans("│┃║┆┊", "|||||")
_BARS = re.compile(r"[━╸╺─█▉▊▋▌▍▎▏▁-▇░▒▓]+")
_NUMBER = r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?|[-+]?(?:inf(?:inity)?|nan)\b"
# Not the 1 of ``top-1``, which is a name; nor what a version, an address or the name of a file begins with: ``2.1.0``,
# ``loss=12.3456.ckpt``.
_VALUE = re.compile(rf"(?<![\w.@/])(?<!\w-)(?:{_NUMBER})(?!\.?\w)", re.IGNORECASE)
_WORD = r"(?:[^\W\d_][\w@./+%-]{0,60}(?:\(\w{1,20}\))?|_\w{1,60})"
# A name ends right before its separator; words of it are parted by one blank.
_BEFORE = re.compile(
    rf"(?P<name>{_WORD}(?: (?:\({_WORD}\)|{_WORD})){{0,5}})['\"\])]?"
    r"(?P<sep>\s*(?:[:=|]|-{1,2}>|=>|\.{4,})\s*['\"]?(?:[\[({]|[\w.]{1,20}\()?\s*|\s+(?:is|of|was|with)\s+|\s*[\[(]|\s+)$"
)
# ``valid (NDCG@10: 0.5, HR@10: 0.7), test (...)`` and ``Train: loss 0.5 | Valid: loss 0.4``: a word that all up to the
# closing bracket, or up to the next such word, belong to.
_SPLIT = re.compile(
    r"(?<![\w/@.])(?P<split>train(?:ing)?|val(?:id(?:ation)?)?|dev|eval(?:uation)?|test)"
    r"(?: (?:set|data(?:set)?|results?|metrics?|info|stats|scores?))?"
    r"(?:\s?(?P<bracket>[(\[{])|['\"]?\s?(?::|->|=>|\||(?<=\s)-{1,3}(?=\s))\s?(?:(?P<braces>[{(\[])|(?=[^\W\d_])))",
    re.IGNORECASE,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_SPLIT_WORDS = {
    *("train", "training", "val", "valid", "validation", "dev", "eval", "evaluation", "test"),
}
_FILLER = re.compile(r" (?:is|of|was|with|at|to|from|the|a)$", re.IGNORECASE)

_IMPROVED = re.compile(
    rf"(?P<name>{_WORD}(?: {_WORD}){{0,3}}) "
    r"(?P<verb>improve[sd]?|improvement|(?:de|in)crease[sd]?|reduce[sd]?|drop(?:s|ped)|r[io]ses?)"
    rf"\s*[:,]?\s+\(?(?:from\s+)?(?P<before>{_NUMBER}|None)\s*(?:to|-{{1,3}}>|=>|→)\s*(?P<after>{_NUMBER})",
    re.IGNORECASE,
)
# ``Accuracy improved, save model`` and ``*** new best model found``: news of the evaluation before, without a number.
_NEWS = re.compile(r"\b(?:sav(?:e|ed|es|ing)|new|found|detected)\b", re.IGNORECASE)
_NO_NEWS = re.compile(
    r"\b(?:not?|never|without|load(?:ed|ing)?|restor\w+|using|stop\w*|until|if)\b|n't\b", re.IGNORECASE
)
_KEPT = r"(?:models?|checkpoints?|ckpt|weights|snapshots?|networks?|variables|param(?:eter)?s|session)"
_SAVES = re.compile(
    rf"\bsav(?:e|ed|es|ing)\b.{{0,60}}?\b{_KEPT}\b|\b{_KEPT}\b.{{0,200}}?\bsaved?\b|\bsav(?:ed|ing)\b.{{0,30}}?\S[/\\]\S",
    re.IGNORECASE,
)
# What is evaluated next, or was taken up again.
_RESTORED = re.compile(
    r"\b(?:restor(?:ed|ing)|load(?:ed|ing)|evaluat(?:e|ed|ing)|test(?:ed|ing))\b[^:=\d]{0,60}?[:\s]\s?'?"
    r"(?P<path>[^\s'\",:]{0,500}[/\\][^\s'\",:]{1,500}|[\w.-]{1,200}\.ckpt[\w.-]{0,40})",
    re.IGNORECASE,
)
# A file, not a number: ``saved ... to 0.5`` names none.
_PATH = re.compile(
    r"(?:-{1,2}>|=>|→)\s*'?(?P<arrow>[^\s'<>|=→]{1,1000})'?$|"
    r"\bsav(?:ing|ed)\b.{0,120}?(?<!due )\bto:? '?(?![\d.+-]+'?$)(?P<path>\S.{0,1000}?)'?$",
    re.IGNORECASE,
)
_BEST = re.compile(r"(?<![^\W_])best(?![^\W_])|(?<!not )(?<![^\W_])improved(?![^\W_])", re.IGNORECASE)
# ``0.61 -> 0.64``: what was measured is behind the arrow.
_ARROW = re.compile(rf"%?\s*(?:-{{1,3}}>|=>|→)\s*(?P<after>{_NUMBER})(?![\w])", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[a-z])(?P<sep>[ =:]{1,3})(?P<number>\d{1,3}(?:,\d{3}){1,4})(?![\d,.]*\d)", re.IGNORECASE)
# ``step 12k`` and ``iter=1.5M``.
_KILOS = re.compile(
    r"(?<=[a-z])(?P<sep>[ =:]{1,3})(?P<number>\d{1,9}(?:\.\d{1,3})?)(?P<unit>[km])(?![\w.])", re.IGNORECASE
)
# A comma between digits: of a fraction where the language writes it so, of thousands, or of a list.
_COMMA = re.compile(r"(?<![\d.,\w])(?<!\d:)(?P<whole>\d{1,12}),(?P<part>\d{1,12})(?![\d]|[.,]\d)")
# The prefix of glog and absl, and the step in brackets that writers of metrics put behind it.
_GLOG = re.compile(r"^[IWEF]\d{4,8} [\d:.]{5,15}\s+\d{1,20} [^\s\]]{1,200}:\d{1,6}\]\s*")
_LONE = re.compile(r"^\[(?P<step>\d{1,12})\](?=\s)")
# ``(best: 71.9 @ epoch 4)``: what was, not what this line is about.
_ASIDE = re.compile(r"[(\[]\s{0,4}(?:best|previous)\b[^()\[\]\d]{0,80}\d[^()\[\]]{0,80}[)\]]", re.IGNORECASE)
# ``saved in 12 seconds``, ``saved at 2000 images``: a place or a time, not a metric.
_SAVED_TO = re.compile(
    r"\bsav(?:ed|ing)\b[^:=\d]{0,60}?\s(?:to|at|in|as|into):?\s'?(?P<path>[^\s'\",]{0,500}[/\\.][^\s'\",]{0,500})'?(?=\s)",
    re.IGNORECASE,
)
# ``Accuracy at step 100: 0.93``: the count in the midst of a name and its number.
_COUNT_INSIDE = re.compile(
    rf"(?P<name>{_WORD}(?: {_WORD}){{0,4}}) (?:at|after|in|on|for) (?:the )?"
    rf"(?P<count>(?:(?:global |training )?(?:step|iteration|iter)|epoch) \d{{1,12}})"
    rf"\s?(?P<sep>[:=]|is|was)\s?(?={_NUMBER})",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:^|\s)(?:in|after|at|for|on|by|every|within|last|than|since|until|over|per)$", re.IGNORECASE)
_COUNTED = re.compile(r"(?:steps?|iter(?:ation)?s?|batch(?:es)?)$", re.IGNORECASE)
_OF = re.compile(r"^\W{0,3}\[\s*(?P<step>\d{1,12})\s*/\s*\d{1,12}\s*\]")
# ``monitor.py:467``: where in a program a line was written.
_SOURCE = re.compile(r"\.(?:py|cc|cpp|cu|h)$")
# Words around a metric's name that say that it is the best one, not which.
_PRAISE = {
    *("new", "best", "so", "far", "current", "model", "found", "saved", "saving", "save", "achieved", "got", "now"),
    *("the", "a", "with", "and", "our", "previous", "old", "last", "max", "maximum", "min", "minimum", "highest"),
    *(
        "lowest",
        "checkpoint",
        "weights",
        "is",
        "of",
        "to",
        "at",
        "value",
        "result",
        "update",
        "updated",
        "reached",
        "improved",
        "due",
        "checkpointing",
        "storing",
        "keeping",
        "writing",
    ),
}
STEPS = {
    "step",
    "steps",
    "it",
    "iter",
    "iters",
    "iteration",
    "iterations",
    "global_step",
    "global_steps",
    "batch",
    "batches",
    "timesteps",
    *("schritt", "étape", "paso", "passo", "шаг", "步"),
}
EPOCHS = {"epoch", "epochs", "ep", "époque", "epoche", "época", "epoca", "эпоха", "轮", "轮次", "エポック"}
# How a table of pairs counts beside these: Baselines' nupdates.
_UPDATES = {"nupdates", "updates", "update"}
# What is measured, but never what a best model is chosen by.
OTHER = {
    *("eta", "time", "elapsed", "lr", "learning_rate", "sec", "secs", "seconds", "s", "ms", "speed", "it/s", "size"),
    *("patience", "trials", "wait", "counter", "seed", "info", "warning", "debug", "version", "gpu", "cpu", "rank"),
    *("lineno", "levelno", "pid", "process", "thread", "created", "msecs", "relativecreated", "ts", "timestamp"),
}

_SMALL = {
    *(
        "loss",
        "losses",
        "error",
        "err",
        "perplexity",
        "ppl",
        "rmse",
        "mse",
        "mae",
        "mape",
        "wer",
        "cer",
        "pplx",
        "ter",
        "logloss",
    ),
    *("nll", "cost", "distance", "fid", "bpc", "bpd", "bpb", "eer", "crossentropy", "cross_entropy", "deviance"),
}
_LARGE = {
    *("acc", "accuracy", "auc", "gauc", "recall", "precision", "ndcg", "hit", "hits", "hr", "hitrate", "mrr", "map"),
    *("f1", "fscore", "fmeasure", "bleu", "rouge", "meteor", "cider", "iou", "miou", "dice", "psnr", "ssim", "r2"),
    *(
        "reward",
        "rewards",
        "eprewmean",
        "fb1",
        "return",
        "returns",
        "io_u",
        "kappa",
        "mcc",
        "auroc",
        "auprc",
        "prauc",
        "em",
        "correlation",
        "pearson",
        "spearman",
        "ap",
    ),
}


@dataclass(frozen=True)
class Reading:
    """One number with its name. ``value`` is as printed (94.12 of ``94.12%``); ``unit`` half of its last digit."""

    name: str
    value: float
    percent: bool = False
    unit: float = 0.0

    @property
    def key(self) -> str:
        return canonical(self.name)

    def same_as(self, other: Reading) -> bool:
        """Whether both may be one number, printed with more digits and with fewer."""
        return self.value == other.value or abs(self.value - other.value) <= max(self.unit, other.unit) * 1.0001


@dataclass(frozen=True)
class Best:
    """What a best line says: the metric (its name may be empty), the direction where the line tells, and the file.

    ``saving``: the file is about to be written; else the line may come after that.
    """

    reading: Reading
    mode: Mode | None = None
    path: str | None = None
    saving: bool = False


@dataclass(frozen=True)
class MetricLine:
    """All that a line tells; ``step`` and ``epoch`` as the trainer counts them.

    ``praise``: the words that say, without a number, that what was measured before is the best so far. ``saves``: it
    tells of a save. ``restored``: the checkpoint that is read again, to go on from or to be evaluated.
    """

    readings: tuple[Reading, ...] = ()
    step: int | None = None
    epoch: int | None = None
    best: Best | None = None
    praise: str = ""
    saves: bool = False
    restored: str | None = None


# The words of a name that tell which data a metric was measured on.
TRAINING = frozenset({"train", "training", "tr", "batch"})
HELD_OUT = frozenset({"val", "valid", "validation", "dev", "eval", "evaluation", "test", "heldout"})


def canonical(name: str) -> str:
    """A name as it is compared: ``Valid Recall``, ``valid-recall`` and ``valid_recall`` are one."""
    return re.sub(r"[^\w@.+/]+|_+", "_", name.strip().lower()).strip("_")


def words_of(name: str) -> list[str]:
    """``val_hitRate@10`` -> val, hit, rate, 10: what is asked about a name is asked about its words."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[\W_]+", split.lower()) if word]


def mode_of(name: str) -> Mode | None:
    """The direction that a metric's name tells, None when it tells none or both."""
    words = words_of(name)
    pairs = {f"{a}_{b}" for a, b in itertools.pairwise(words)}
    bare = {word.rstrip("0123456789") or word for word in words} | set(words) | pairs
    if bare & {"neg", "negative", "minus", "inverse"}:
        return None
    small, large = bool(bare & _SMALL), bool(bare & _LARGE)
    return None if small == large else "min" if small else "max"


def is_like(one: str | None, one_mode: str | None, other: str | None, other_mode: str | None) -> bool:
    """Whether values of two metrics, by their names and directions, can be compared.

    ``recall`` and ``valid recall`` can, ``recall@20`` and ``recall@50`` cannot, a ``train loss`` not with another one.
    A value without a name is what its run goes by.
    """
    if one_mode is not None and other_mode is not None and one_mode != other_mode:
        return False
    if one in (None, "", BEST_METRIC) or other in (None, "", BEST_METRIC):
        return True
    first, second = {*words_of(one)}, {*words_of(other)}
    if bool(first & TRAINING) != bool(second & TRAINING):
        return False
    first, second = first - HELD_OUT, second - HELD_OUT
    return first == second or (bool(first) and first < second) or (bool(second) and second < first)


def data_of(name: str) -> str:
    """The data that a metric's name says it was measured on; an empty word where it says none."""
    words = {*words_of(name)}
    told = (("test", {"test"}), ("training", TRAINING), ("validation", HELD_OUT))
    return next((data for data, of_it in told if words & of_it), "")


def better(mode: Mode | None, value: float, than: float) -> bool:
    """Whether a value is better than another one; where no direction is known, the smaller one is."""
    return value > than if mode == "max" else value < than


def lines_of(text: str) -> list[str]:
    """The lines of a text; what a carriage return or a backspace drew over is one of its own."""
    return [line for line in re.split(r"[\r\n\x08]+", text) if line.strip()]


def plain(line: str) -> str:
    """A line without colours and bars, no longer than is looked at."""
    return _BARS.sub(" ", _ESCAPES.sub("", line[:MAX_LINE])).translate(_RULES)


def read_line(line: str) -> MetricLine:
    """What one line says. Never raises; a line without a metric has no readings."""
    text = _THOUSANDS.sub(_joined, _TENSOR.sub(r"\g<value>", plain(line)).strip())
    document = _document(text)
    if document is not None:
        readings = list(of_document(document))
        told = next((document[name] for name in _WRAPPERS if isinstance(document.get(name), str)), None)
        if told is not None and not any(map(_is_metric, readings)):
            return read_line(told)  # it is shorter
    else:
        return _of_line(text)
    said = _counted(readings)
    at = document.get("step")
    if isinstance(at, list) and 0 < len(at) < 4 and all(isinstance(each, int) for each in at):
        # NVIDIA's dllogger counts epochs, and in them the steps.
        said = replace(said, epoch=at[0], step=at[1] if len(at) > 1 else said.step)
    return said


def _counted(readings: list[Reading]) -> MetricLine:
    """What readings say that stand for themselves: metrics, and the counts among them."""
    return MetricLine(tuple(filter(_is_metric, readings)), _count(readings, STEPS), _count(readings, EPOCHS))


def _of_line(text: str) -> MetricLine:
    logger = _GLOG.match(text)
    text = _COMMA.sub(_fraction, _KILOS.sub(_thousandfold, text[logger.end() :] if logger else text))
    text = _COUNT_INSIDE.sub(r"\g<count> \g<name>\g<sep> ", text)
    if improved := _IMPROVED.search(text):
        return _improved(text, improved)
    saved = _SAVED_TO.search(text)
    if saved is not None and re.search(r"[^\W\d_]", saved["path"]):
        said = _of_words(f"{text[: saved.start('path')]} , {text[saved.end() :]}", logger is not None)
        best = said.best and replace(said.best, path=said.best.path or saved["path"])
        return replace(said, best=best)
    return _of_words(text, logger is not None)


def _of_words(text: str, logger: bool) -> MetricLine:
    # What is said in passing of the best so far has a count of its own.
    bare, aside = _ASIDE.sub(" ", text), _ASIDE.search(text)
    readings = list(_of_text(bare))
    if aside is not None and not any(map(_is_metric, readings)):
        bare, aside, readings = text, None, list(_of_text(text))
    step, epoch = _count(readings, STEPS), _count(readings, EPOCHS)
    if step is None and epoch is None and (of := _OF.match(bare) or (_LONE.match(bare) if logger else None)):
        step = int(of["step"])
    metrics = tuple(filter(_is_metric, readings))
    best = _best(text, metrics) if aside is None else _told_in_passing(text, aside[0], metrics)
    news = not metrics and _BEST.search(text) and _NEWS.search(text) and not _NO_NEWS.search(text)
    restored = _RESTORED.search(text)
    return MetricLine(
        metrics,
        step,
        epoch,
        best,
        praise=text if news else "",
        saves=_SAVES.search(text) is not None and restored is None,
        restored=restored["path"] if restored else None,
    )


def _is_metric(reading: Reading) -> bool:
    return not _is_count(reading) and reading.key not in OTHER and not _SOURCE.search(reading.name)


def _told_in_passing(text: str, aside: str, metrics: tuple[Reading, ...]) -> Best | None:
    """The reading that is the best so far, where a remark in brackets repeats its number."""
    best = next((reading for reading in _of_text(aside) if reading.name), None)
    same = [reading for reading in metrics if best is not None and reading.same_as(best)]
    return Best(same[0], None, _path_in(text), _is_saving(text)) if len(same) == 1 else None


def _thousandfold(match: re.Match[str]) -> str:
    """``step 12k`` is step 12000; 12k of anything else is left."""
    number = float(match["number"]) * (1_000 if match["unit"] in "kK" else 1_000_000)
    counted = _COUNTED.search(match.string, max(0, match.start() - 20), match.start())
    return f"{match['sep']}{number:.0f}" if counted and number.is_integer() else match[0]


def _fraction(match: re.Match[str]) -> str:
    """A decimal comma as a point. In brackets it may part two numbers, and three digits may be thousands: then there is
    no number that can be told."""
    listed = match.string[match.start() - 1 : match.start()] in ("[", "(", "{")
    thousands = len(match["part"]) == 3 and match["whole"] != "0"
    return "?" if listed or thousands else f"{match['whole']}.{match['part']}"


def _joined(match: re.Match[str]) -> str:
    """``step 12,000`` is one number; ``auc: 1,200`` are two."""
    counted = _COUNTED.search(match.string, max(0, match.start() - 20), match.start())
    return match["sep"] + match["number"].replace(",", "") if counted else match[0]


def _document(text: str) -> dict[str, Any] | None:
    """The JSON object that a line is, perhaps behind the prefix of a logger."""
    start = text.find("{")
    if start < 0 or not text.endswith("}") or '"' not in text:
        return None
    try:
        document = json_text.parse(text[start:])
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def of_document(document: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[Reading]:
    """The numbers of a JSON object, also of those in it, with the way to each as its name."""
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and depth < 4:
            yield from of_document(value, f"{path}/", depth + 1)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # 400 digits are an integer, but no float
                yield Reading(path, float(value))


def _splits(text: str) -> list[tuple[int, int, str]]:
    """The parts of a line that one word names the data of: begin, end, word."""
    found: list[tuple[int, int, str]] = []
    for match in _SPLIT.finditer(text):
        if found and match.start() < found[-1][1]:
            begin, _, word = found.pop()
            found.append((begin, match.start(), word))
        bracket = match["bracket"] or match["braces"]
        end = text.find(_CLOSING[bracket], match.end()) if bracket else len(text)
        found.append((match.end(), end if end >= 0 else len(text), match["split"]))
    return found


def _of_text(text: str) -> Iterator[Reading]:
    end = 0
    splits = _splits(text)
    split = 0
    for match in _VALUE.finditer(text):
        before = _BEFORE.search(text, max(end, match.start() - _NEAR), match.start())
        arrow = _ARROW.match(text, match.end())
        number, end = (arrow["after"], arrow.end()) if arrow else (match[0], match.end())
        follows = text[end : end + 3].lstrip()
        if before is None:
            continue
        name = before["name"]
        if before["sep"].isspace() and _PLACE.search(name) and (number.isdecimal() or follows[:1].isalpha()):
            continue
        while (shorter := _FILLER.sub("", name)) != name:
            name = shorter
        while split < len(splits) and splits[split][1] <= match.start():
            split += 1
        inside = split < len(splits) and splits[split][0] <= match.start()
        if inside and not _is_of_data(name) and before.start("name") >= splits[split][0]:
            name = f"{splits[split][2]} {name}"
        yield Reading(name, float(number), follows.startswith("%"), _unit(number))


def _is_of_data(name: str) -> bool:
    """Whether a name says of which data it is, or is a count, which is of none."""
    words = words_of(name)
    return bool({*words} & _SPLIT_WORDS) or canonical(name) in STEPS | EPOCHS | OTHER


def _unit(number: str) -> float:
    """Half a unit of the last digit that is printed."""
    mantissa, _, exponent = number.lower().partition("e")
    if not mantissa[-1:].isdigit() and not mantissa.endswith("."):
        return 0.0
    digits = len(mantissa.partition(".")[2])
    return 0.5 * float(f"1e{int(exponent or 0) - digits}")  # a power would overflow where this is infinite


def _improved(text: str, match: re.Match[str]) -> MetricLine:
    head = list(_of_text(text[: match.start("name")]))
    name = praised_name(match["name"])
    reading = Reading(name, float(match["after"]), "%" in text[match.end() : match.end() + 2], _unit(match["after"]))
    if not _is_metric(reading) or {*words_of(name)} & {"lr", "learning", "size", "batch", "patience"}:
        return MetricLine((), _count(head, STEPS), _count(head, EPOCHS))
    mode: Mode | None = None
    verb = match["verb"].lower()
    if verb.startswith(("decrease", "reduce", "drop")):
        mode = "min"
    elif verb.startswith(("increase", "rise", "rose")):
        mode = "max"
    elif match["before"].lower() != "none" and float(match["before"]) != reading.value:
        mode = "max" if float(match["before"]) < reading.value else "min"
    best = Best(reading, mode, _path_in(text), _is_saving(text))
    return MetricLine(
        (reading,), _count(head, STEPS), _count(head, EPOCHS), best, saves=_SAVES.search(text) is not None
    )


def _best(text: str, metrics: tuple[Reading, ...]) -> Best | None:
    """What a line with the word ``best`` praises: the reading that is called so, else the only one that there is."""
    if not _BEST.search(text):
        return None
    called = [reading for reading in metrics if _BEST.search(reading.name)]
    chosen = called if called else list(metrics)
    if len(chosen) != 1:
        return None
    praised = chosen[0]
    words = words_of(praised.name)
    mode: Mode | None = "min" if {"min", "minimum", "lowest"} & {*words} else None
    mode = "max" if {"max", "maximum", "highest"} & {*words} else mode
    name = praised_name(praised.name)
    if not {*words_of(name)} - _SPLIT_WORDS:  # "auc 0.7, best 0.7": the same number tells whose best it is
        name = next((r.name for r in metrics if r is not praised and r.value == praised.value), name)
    reading = Reading(name, praised.value, praised.percent, praised.unit)
    return Best(reading, mode, _path_in(text), _is_saving(text))


def _path_in(text: str) -> str | None:
    """The file that a line says something was saved to."""
    path = _PATH.search(text)
    if path is None or (path["arrow"] and not re.search(r"[\\/]", path["arrow"])):
        return None
    return (path["path"] or path["arrow"]).strip()


def _is_saving(text: str) -> bool:
    return re.search(r"\bsaving\b", text, re.IGNORECASE) is not None


def praised_name(name: str) -> str:
    """A name without the words that only say that it is the best."""
    parts = [part for part in re.split(r"[\s_]+", name) if part.lower().strip("()!:,.") not in _PRAISE]
    return " ".join(parts) if " " in name.strip() else "_".join(parts)


def row_of(header: list[str], line: str) -> MetricLine | None:
    """A row of a table whose header is known; None for what is no row of it."""
    cells = cells_of(line)
    if len(cells) == len(header) + 1 and cells[0].isdecimal() and "|" not in line:
        cells = cells[1:]  # the number of the row, as a DataFrame prints it
    percents = ["%" in cell for cell in cells]
    cells = [cell.strip("*`").rstrip("%*") for cell in cells]  # Markdown's emphasis, stars of what is best
    if len(cells) != len(header) or not all(_VALUE.fullmatch(cell) for cell in cells):
        return None
    readings = [
        Reading(name, float(cell), percent, _unit(cell))
        for name, cell, percent in zip(header, cells, percents, strict=True)
    ]
    return _counted(readings)


def header_of(line: str) -> list[str] | None:
    """The names of the columns of a table that a line begins; None for any other line."""
    cells = cells_of(line)
    if not 2 <= len(cells) <= 40 or not all(re.fullmatch(r"[A-Za-z][\w@./%() -]{0,60}", cell) for cell in cells):
        return None
    counts = {canonical(cell) for cell in cells} & (STEPS | EPOCHS)
    return cells if counts and any(mode_of(cell) for cell in cells) else None


def splits_of(line: str) -> list[str] | None:
    """The names of the columns of a table with a row for each split of the data: ``| split | loss | acc |``."""
    cells = cells_of(line) if "|" in line else []
    if not 2 <= len(cells) <= 40 or not all(re.fullmatch(r"[A-Za-z][\w@./%() -]{0,60}", cell) for cell in cells[1:]):
        return None
    return cells if any(mode_of(cell) for cell in cells[1:]) and not re.search(r"\d", cells[0]) else None


def row_of_split(header: list[str], line: str) -> MetricLine | None:
    """A row ``| val | 0.3 | 0.81 |`` of such a table, its metrics called by the data as well; None for what is none."""
    cells = cells_of(line)
    data = cells[0] if len(cells) == len(header) else ""
    if canonical(data) not in _SPLIT_WORDS:
        return None
    said = row_of(header[1:], " | ".join(cells[1:]))
    return said and replace(said, readings=tuple(replace(each, name=f"{data} {each.name}") for each in said.readings))


def cells_of(line: str) -> list[str]:
    """The cells of a line, parted by bars or by blanks."""
    text = line[:MAX_LINE].strip().removeprefix("#").strip().strip("|")
    return [cell.strip() for cell in text.split("|")] if "|" in text else text.split()


def pair_of(line: str) -> Reading | None:
    """A row ``| eprewmean | 20.1 |`` of a table that has one name and one value a row; None for any other line."""
    cells = cells_of(line) if line.lstrip().startswith("|") and line.rstrip().endswith("|") else []
    if len(cells) != 2 or not _VALUE.fullmatch(cells[1]) or not re.search(r"[^\W\d_]", cells[0]):
        return None
    return Reading(cells[0], float(cells[1]), unit=_unit(cells[1]))


def of_pairs(readings: list[Reading]) -> MetricLine:
    """What such a table tells: its counts are those of all its rows, wherever they stand in it.

    Where it counts both, the updates are the epochs, and what was seen for them (``total_timesteps``) the steps.
    """
    in_all_first = sorted(readings, key=lambda each: "total" not in words_of(each.name))
    said = _counted([each for each in in_all_first if not _is_update(each)])
    return replace(said, epoch=_count(readings, EPOCHS | _UPDATES))


def _is_update(reading: Reading) -> bool:
    return bool({*words_of(reading.name)[-1:]} & _UPDATES) and reading.value.is_integer()


def is_praised(name: str) -> bool:
    """Whether a name speaks of the best value so far, not of one that was just measured."""
    return bool({*words_of(name)} & {"best", "previous", "highest", "lowest"})


def _is_count(reading: Reading) -> bool:
    words = {reading.key, words_of(reading.name)[-1] if words_of(reading.name) else ""}
    return bool(words & (STEPS | EPOCHS)) and reading.value.is_integer()


def _count(readings: list[Reading], names: set[str]) -> int | None:
    for reading in readings:
        last = words_of(reading.name)[-1:]
        if (reading.key in names or (last and last[0] in names)) and reading.value.is_integer():
            return int(reading.value)
    return None
