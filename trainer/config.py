"""What defines a run: its hyper-parameters, their defaults, and the name of the experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ckpt_tools.errors import UsageError
from trainer.originals import MULTI_INTEREST, TOP_N, TRAINERS, habits

VARIANTS = ("paper", "keras")
MODEL_TYPES = ("DNN", "GRU4REC", "MIND", "ComiRec-DR", "ComiRec-SA")
# What is trained of several interests: for each item, negatives too, the one that scores it highest, as retrieval ranks
# (max); the one nearest to the target or to the padding item; a mixture by nearness to one of them; the mean of all; or
# always the first.
READOUTS = ("target", "padding", "soft-target", "soft-padding", "mean", "first", "max")
# How the first versions of this trainer called two of them.
OLD_READOUTS = {"hard": "target", "soft": "soft-target"}
# How a new run begins: with the best that was found (docs/reference/recipes.md), or as one of the older trainers
# does. The variant that each defines its models by.
RECIPES = {"best": "paper", "paper": "paper", "port": "keras"}
BEST: dict[str, Any] = {"readout": "max", "min_history": 1, "history_dropout": 0.3}
_BEST_RATE = 0.004
# Capsules are no longer than 1, so that only long vectors of items make a difference in a score.
_BEST_RATES = {"MIND": 0.02, "ComiRec-DR": 0.02}
# The fewest items before a target in both older trainers (src/data_iterator.py).
MIN_HISTORY = 4

# How Adam's second moment sees a row that occurs several times in a batch: squared after its gradients are added up, or
# each gradient squared by itself.
REPEATED_ROWS = ("summed", "apart")

# Where negatives come from: drawn by frequency or all alike, the other targets of the batch, or both together.
NEGATIVES = ("log-uniform", "uniform", "in-batch", "mixed")
# What the learning rate does over the steps: nothing, or it falls along a line or half a cosine.
SCHEDULES = ("constant", "linear", "cosine")

# What the factors of a product are rounded to before they are multiplied; all else is float32.
PRECISIONS = ("float32", "bfloat16")

# What came to this trainer after its first versions, as those trained: nothing of it.
FIRST_VERSIONS: dict[str, Any] = {
    "min_history": MIN_HISTORY,
    "history_dropout": 0.0,
    "negatives": "log-uniform",
    "hard_negatives": 0.0,
    "routing_regularization": 0.0,
    "schedule": "constant",
    "warmup_steps": 0,
    "decay_steps": 0,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "precision": "float32",
}

# What a resume may change without becoming another run. With another N the best is measured again.
ADJUSTABLE = (
    "learning_rate",
    "batch_size",
    "test_iter",
    "patience",
    "top_n",
    "seed",
    "readout",
    "adam_epsilon",
    "repeated_rows",
    *FIRST_VERSIONS,
)

# Stands for "as many items as the data has" until the data has been read.
UNKNOWN_ITEM_COUNT = 0

LARGEST_SEED = 2**63 - 1
# Of steps and of factors: the table of rates has a row for each step of the schedule.
_LARGEST = 10_000_000
_FROM_ZERO = ("hard_negatives", "routing_regularization", "warmup_steps", "decay_steps", "weight_decay", "clip_norm")
# Of a weight in one step; nobody wants a tenth of it.
_LARGEST_DECAY = 0.05


@dataclass(frozen=True)
class DatasetDefaults:
    """The settings that the original trainer ties to a dataset (THUDM/ComiRec, src/train.py)."""

    batch_size: int
    maxlen: int
    test_iter: int


_DATASET_DEFAULTS = {"taobao": DatasetDefaults(256, 50, 500)}
_OTHER_DATASETS = DatasetDefaults(128, 20, 1000)


def dataset_defaults(dataset: str) -> DatasetDefaults:
    """``book``'s settings for every dataset that has none of its own."""
    return _DATASET_DEFAULTS.get(dataset, _OTHER_DATASETS)


@dataclass(frozen=True)
class TrainConfig:
    """Every hyper-parameter of a run. Stored as JSON in each checkpoint (``state/config``).

    ``variant`` picks the definition of the model: ``paper`` (the original TF 1 trainer) or ``keras`` (the
    Keras port). ``num_interest`` is 1 for models with one vector per user. ``readout`` is one of ``READOUTS``,
    ``repeated_rows`` one of ``REPEATED_ROWS``. ``relu_projection``: MIND ends in a dense layer. ``padding_place``: item
    0 takes a place in the list that each interest fetches, before it is dropped. ``test_iter`` counts steps between
    evaluations, ``patience`` the evaluations without improvement that are tolerated. ``min_history``: the fewest items
    before a target of training; ``history_dropout``: the chance of each of them to be left out of a batch.
    ``negatives`` is one of ``NEGATIVES``, ``schedule`` one of ``SCHEDULES``. Of what is 0 where it is not wanted:
    ``hard_negatives`` is REMI's beta, ``routing_regularization`` its lambda; the rate rises over ``warmup_steps`` and
    falls until ``decay_steps``; ``weight_decay`` of the item table is decoupled (AdamW's), ``clip_norm`` bounds the
    norm of all gradients together. ``precision`` is one of ``PRECISIONS``.
    """

    dataset: str
    model_type: str
    variant: str
    item_count: int
    embedding_dim: int
    hidden_size: int
    num_interest: int
    readout: str
    relu_projection: bool
    maxlen: int
    batch_size: int
    neg_num: int
    learning_rate: float
    seed: int
    test_iter: int
    patience: int
    top_n: int
    adam_epsilon: float
    repeated_rows: str
    padding_place: bool
    min_history: int
    history_dropout: float
    negatives: str
    hard_negatives: float
    routing_regularization: float
    schedule: str
    warmup_steps: int
    decay_steps: int
    weight_decay: float
    clip_norm: float
    precision: str

    @property
    def reads_by_padding(self) -> bool:
        return self.readout in ("padding", "soft-padding")

    @property
    def places(self) -> int:
        """How many vectors of items a batch looks up: histories, targets, negatives, and what the readout goes by."""
        readout = self.batch_size if self.reads_by_padding else 0
        return self.batch_size * (self.maxlen + 1) + self.sample_size + readout

    @property
    def drawn(self) -> int:
        """How many different ids are drawn as negatives for a batch."""
        return 0 if self.negatives == "in-batch" else self.neg_num * self.batch_size

    @property
    def sample_size(self) -> int:
        """Ids in one sample of negatives, shared by the batch: what is drawn, and its targets where they count."""
        return self.drawn + (self.batch_size if self.negatives in ("in-batch", "mixed") else 0)

    @property
    def multi_interest(self) -> bool:
        return self.model_type in MULTI_INTEREST

    @property
    def draws_routing_noise(self) -> bool:
        """Whether the model starts its routing from random logits: MIND of the paper does, at every call."""
        return self.model_type == "MIND" and self.variant == "paper"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def default_config(dataset: str, model_type: str, item_count: int, variant: str = "paper") -> TrainConfig:
    """The defaults of a variant's own trainer for a dataset; its names and units are kept. Retrieval is exact."""
    by_dataset = dataset_defaults(dataset)
    of_trainer = habits(TRAINERS[variant], model_type) if variant in TRAINERS else habits(TRAINERS["paper"], model_type)
    return TrainConfig(
        dataset=dataset,
        model_type=model_type,
        variant=variant,
        item_count=item_count,
        embedding_dim=64,
        hidden_size=64,
        num_interest=4 if model_type in MULTI_INTEREST else 1,
        readout=of_trainer["readout"],
        relu_projection=model_type == "MIND" and dataset == "book",
        maxlen=by_dataset.maxlen,
        batch_size=by_dataset.batch_size,
        neg_num=10,
        learning_rate=0.001,
        seed=19,
        test_iter=by_dataset.test_iter,
        patience=of_trainer["patience"],
        top_n=TOP_N,
        adam_epsilon=of_trainer["adam_epsilon"],
        repeated_rows=of_trainer["repeated_rows"],
        padding_place=False,
        **FIRST_VERSIONS,
    )


def new_config(recipe: str | None, variant: str | None, dataset: str, model_type: str, item_count: int) -> TrainConfig:
    """The defaults of a new run by one of ``RECIPES``. Without one it is the older trainer whose ``variant`` was asked
    for, else ``best``."""
    if recipe is None:
        recipe = next((name for name in ("paper", "port") if RECIPES[name] == variant), "best")
    config = default_config(dataset, model_type, item_count, variant or RECIPES.get(recipe, recipe))
    if recipe != "best":
        return config
    return override(config, {**BEST, "learning_rate": _BEST_RATES.get(model_type, _BEST_RATE)})


def override(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """``config`` with those ``values`` that are hyper-parameters and not None."""
    known = {field.name for field in fields(TrainConfig)}
    given = {key: value for key, value in values.items() if key in known and value is not None}
    if given.get("readout") in OLD_READOUTS:
        given["readout"] = OLD_READOUTS[given["readout"]]
    if not config.multi_interest:
        for name in ("num_interest", "readout"):
            given.pop(name, None)  # a model with one vector has no such parameter
    return replace(config, **given)


def validate(config: TrainConfig, *, resumed: bool = False) -> None:
    """Raise UsageError for a value that no run could use. A ``resumed`` one is told only what it may change."""
    if config.model_type not in MODEL_TYPES:
        raise UsageError(
            f"there is no model type {config.model_type!r}", hint=f"choose one of {', '.join(MODEL_TYPES)}"
        )
    if config.variant not in VARIANTS:
        raise UsageError(f"there is no variant {config.variant!r}", hint=f"choose {' or '.join(VARIANTS)}")
    for name, choices in (
        ("readout", READOUTS),
        ("repeated_rows", REPEATED_ROWS),
        ("negatives", NEGATIVES),
        ("schedule", SCHEDULES),
        ("precision", PRECISIONS),
    ):
        if getattr(config, name) not in choices:
            raise UsageError(
                f"{flag(name)} {getattr(config, name)} is not known", hint=f"choose one of {', '.join(choices)}"
            )
    sizes = "item_count embedding_dim hidden_size num_interest maxlen batch_size neg_num test_iter top_n min_history"
    for name in sizes.split():
        if getattr(config, name) < 1:
            raise UsageError(
                f"{flag(name)} has to be at least 1, not {getattr(config, name)}",
                hint="leave it out for its default, see trainer train --help",
            )
    if config.patience < 0:
        raise UsageError(f"--patience has to be at least 0, not {config.patience}")
    if not 0 <= config.seed <= LARGEST_SEED:
        raise UsageError(f"--seed has to lie between 0 and {LARGEST_SEED}, not {config.seed}")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise UsageError(
            f"--learning-rate has to be a positive number, not {config.learning_rate}", hint="the default is 0.001"
        )
    if not (math.isfinite(config.adam_epsilon) and config.adam_epsilon > 0):
        raise UsageError(f"--adam-epsilon has to be a positive number, not {config.adam_epsilon}")
    if not 0 <= config.history_dropout < 1:
        raise UsageError(f"--history-dropout has to be at least 0 and below 1, not {config.history_dropout}")
    for name in _FROM_ZERO:
        value = getattr(config, name)
        if not (math.isfinite(value) and 0 <= value <= _LARGEST):
            raise UsageError(f"{flag(name)} has to be between 0 and {_LARGEST}, not {value}", hint="0 leaves it out")
    decay = config.weight_decay * config.learning_rate
    if decay > _LARGEST_DECAY:
        raise UsageError(
            f"--weight-decay {config.weight_decay} takes {decay:.0%} of a weight away in a step of rate "
            f"{config.learning_rate}",
            hint="it is multiplied by the rate: try 0.05",
        )
    if (config.schedule == "constant") != (config.decay_steps == 0) or config.warmup_steps > config.decay_steps > 0:
        raise UsageError(
            f"--schedule {config.schedule} with --decay-steps {config.decay_steps} and --warmup-steps "
            f"{config.warmup_steps}: the rate falls from the end of the warm-up on until step --decay-steps",
            hint="for example --schedule cosine --warmup-steps 500 --decay-steps 20000",
        )
    if config.routing_regularization and not config.multi_interest:
        raise UsageError(
            f"--routing-regularization is about several interests, and {config.model_type} has one", hint="leave it out"
        )
    if config.hidden_size != config.embedding_dim:
        raise UsageError(
            f"--hidden-size {config.hidden_size} and --embedding-dim {config.embedding_dim} differ, but a "
            "user is compared with items by inner product, so both vectors need the same length",
            hint=f"use --hidden-size {config.embedding_dim}",
        )
    if config.drawn >= config.item_count:
        most = (config.item_count - 1) // config.batch_size
        hint = f"use --neg-num {most}"
        if resumed or not most:
            users = (config.item_count - 1) // config.neg_num
            hint = f"use --batch-size {users}" if users else "the item table is too small for any batch"
        raise UsageError(
            f"{config.neg_num} negatives for each of {config.batch_size} users are {config.drawn} "
            f"different ids, but the item table has only {config.item_count} rows",
            hint=hint,
        )


def flag(name: str) -> str:
    """The command-line spelling of a hyper-parameter."""
    return "--" + name.replace("_", "-")


def experiment_name(config: TrainConfig, name: str) -> str:
    """The folder's name, as both older trainers spell it: ``book_ComiRec-DR_b128_lr0.005_d64_len20_test85``.

    Raises UsageError when ``name`` or the dataset cannot be part of a file's name.
    """
    for part in (config.dataset, name):
        require_name(part)
    return (
        f"{config.dataset}_{config.model_type}_b{config.batch_size}_lr{config.learning_rate}"
        f"_d{config.embedding_dim}_len{config.maxlen}_{name}"
    )


def require_name(text: str) -> None:
    """Raise UsageError for what cannot be part of the name of a file or a folder, for those who have to type it."""
    if not text or "/" in text or not text.isprintable() or text != text.strip():
        raise UsageError(f"{text!r} cannot be part of a file's name", hint="use letters, digits, - and _")
