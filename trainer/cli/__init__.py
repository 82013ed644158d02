"""``trainer``: the command line. It parses, calls and reports."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from ckpt_tools.console import program
from ckpt_tools.console.program import Json, Lang, Quiet, Version, epilog, finish
from ckpt_tools.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    CkptError,
    NotFoundError,
    UnsafeError,
    UsageError,
)
from ckpt_tools.findings import Finding
from ckpt_tools.fs import local, paths
from ckpt_tools.fs.durable import require_writable
from ckpt_tools.lineages.names import BEST_METRIC
from ckpt_tools.operations.growing import read_item_map
from ckpt_tools.runs.experiments import Experiment, usual_data_directory
from ckpt_tools.runs.logs import collect
from trainer.checkpoints.retention import KEEP
from trainer.cli.console import Console
from trainer.cli.listening import Listeners, tracking
from trainer.cli.native import serving_module, training_loop
from trainer.cli.sweep_command import sweep
from trainer.config import MODEL_TYPES, UNKNOWN_ITEM_COUNT, new_config, override
from trainer.data.interactions import (
    Interactions,
    default_data_dir,
    has_split,
    items_needed,
    read_categories,
    read_interactions,
    read_split,
    require_ids_below,
)
from trainer.data.names import Names, read_names
from trainer.data.preparation import FEWEST
from trainer.data.preparation import prepare as write_dataset
from trainer.data.public_sets import PUBLIC_SETS
from trainer.data.raw import Format, ItemField
from trainer.evaluation import baselines, indexes
from trainer.evaluation.baseline_records import Measured, keep, recalls
from trainer.evaluation.closing import Closing, Extent, closing_report
from trainer.evaluation.exporting import export as write_vectors
from trainer.evaluation.exporting import require_no_saved_model
from trainer.evaluation.full_report import report
from trainer.evaluation.lists import lists_for, require_writer, write_lists
from trainer.evaluation.measuring import first_true
from trainer.evaluation.opening import Opened, open_model
from trainer.extras import INSTALL, installed, require
from trainer.monitoring import trackers
from trainer.monitoring.curve import draw
from trainer.monitoring.trackers import require_tracker
from trainer.naming import data_flag, existing_experiment, new_experiment, resume_command
from trainer.training.cluster import Task, task_of
from trainer.training.starting_point import StartingPoint, new_run, resumed_run

if TYPE_CHECKING:
    from trainer.training.loop import Outcome

app = typer.Typer(
    help="Train ComiRec models, and never lose the best one.",
    epilog=epilog(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # The old trainers spell their options with underscores (--model_type).
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


Readout = Literal["max", "target", "padding", "soft-target", "soft-padding", "mean", "first", "hard", "soft"]

_MAX_STEPS = 1_000_000

_PANELS = {
    "MODEL": "The model",
    "TRAINING": "Training",
    "STOP": "Evaluating and stopping",
    "RESUME": "Resuming",
    "PLACES": "Data and places",
}


def _option(
    text: str,
    panel: str,
    metavar: str | None = None,
    show_default: str | bool = True,
    *names: str,
) -> Any:
    """An option of the long help. Names stay whole at 80 columns because what stands beside them is short."""
    if isinstance(show_default, str):
        # As typer shows a default that is in words, it stands in brackets and in parentheses.
        text, show_default = f"{text} Default: {show_default}.", False
    return typer.Option(*names, help=text, metavar=metavar, show_default=show_default, rich_help_panel=_PANELS[panel])


def _flag(name: str, text: str, panel: str) -> Any:
    """A flag without its opposite: what is not asked for is not done."""
    return typer.Option(name, help=text, rich_help_panel=_PANELS[panel])


@app.callback()
def _root(version: Version = False, lang: Lang = None) -> None:
    pass


@app.command(
    rich_help_panel="Train",
    epilog=epilog(
        "trainer train --dataset book --model-type ComiRec-DR --learning-rate 0.005 --exp-name test85",
        "trainer train best_model/book_ComiRec-DR_b128_lr0.005_d64_len20_test85 --resume --max-steps +20000",
    ),
)
def train(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT", help="The folder to resume: best_model/...", show_default=False),
    ] = None,
    recipe: Annotated[
        Literal["best", "paper", "port"] | None,
        _option(
            "How a new run trains: best, as the paper's trainer (paper), or as its Keras port (port).",
            "MODEL",
            "NAME",
            "best",
        ),
    ] = None,
    model_type: Annotated[
        str | None, _option("DNN, GRU4REC, MIND, ComiRec-DR or ComiRec-SA.", "MODEL", "TYPE", show_default=False)
    ] = None,
    variant: Annotated[
        Literal["paper", "keras"] | None,
        _option("paper: as the original defines the model; keras: as its Keras port.", "MODEL", "NAME", "paper"),
    ] = None,
    embedding_dim: Annotated[int | None, _option("Length of an item's vector.", "MODEL", "N", "64")] = None,
    hidden_size: Annotated[int | None, _option("Length of a user's vector.", "MODEL", "N", "64")] = None,
    num_interest: Annotated[int | None, _option("Vectors for each user.", "MODEL", "N", "4")] = None,
    maxlen: Annotated[int | None, _option("Items of history that are seen.", "MODEL", "N", "20; taobao 50")] = None,
    item_count: Annotated[int | None, _option("Rows of the item table.", "MODEL", "N", "largest id + 1")] = None,
    relu_projection: Annotated[
        bool | None,
        _option("MIND: end in a dense layer.", "MODEL", None, "dataset book", "--relu-projection/--no-relu"),
    ] = None,
    learning_rate: Annotated[
        float | None, _option("Adam's.", "TRAINING", "RATE", "0.004; DR, MIND 0.02; paper, port 0.001")
    ] = None,
    batch_size: Annotated[int | None, _option("Users in a step.", "TRAINING", "N", "128; taobao 256")] = None,
    neg_num: Annotated[int | None, _option("Negatives for each user.", "TRAINING", "N", "10")] = None,
    readout: Annotated[
        Readout | None,
        _option(
            "Which interest is trained: max (for each item its best, as retrieval ranks), target, padding (nearest to "
            "it), soft-target, soft-padding, mean or first.",
            "TRAINING",
            "NAME",
            "as the recipe",
        ),
    ] = None,
    adam_epsilon: Annotated[float | None, _option("Adam's epsilon.", "TRAINING", "E", "1e-8; keras 1e-7")] = None,
    repeated_rows: Annotated[
        Literal["summed", "apart"] | None,
        _option(
            "How Adam squares gradients of an item that a batch has twice: summed first, or apart, as Keras 3.",
            "TRAINING",
            "NAME",
            "summed; keras apart",
        ),
    ] = None,
    min_history: Annotated[int | None, _option("Fewest items before a target.", "TRAINING", "N", "4; best 1")] = None,
    history_dropout: Annotated[
        float | None, _option("Chance of an item of a history to be left out.", "TRAINING", "P", "0; best 0.3")
    ] = None,
    negatives: Annotated[
        Literal["log-uniform", "uniform", "in-batch", "mixed"] | None,
        _option(
            "Negatives: drawn log-uniform (by frequency) or uniform; in-batch, the other users' targets; or mixed, "
            "log-uniform and in-batch. All with log-Q correction.",
            "TRAINING",
            "NAME",
            "log-uniform",
        ),
    ] = None,
    hard_negatives: Annotated[
        float | None, _option("REMI's beta: hard negatives count more.", "TRAINING", "B", "0")
    ] = None,
    routing_regularization: Annotated[
        float | None, _option("REMI's lambda: interests rest on several items.", "TRAINING", "L", "0")
    ] = None,
    schedule: Annotated[
        Literal["constant", "linear", "cosine"] | None,
        _option("How the rate falls, until --decay-steps.", "TRAINING", "NAME", "constant"),
    ] = None,
    warmup_steps: Annotated[int | None, _option("The rate rises so long.", "TRAINING", "N", "0")] = None,
    decay_steps: Annotated[int | None, _option("The rate falls until then, to 1 %.", "TRAINING", "N", "0")] = None,
    weight_decay: Annotated[float | None, _option("Of the item table, as AdamW.", "TRAINING", "W", "0")] = None,
    clip_norm: Annotated[float | None, _option("Largest norm of all gradients.", "TRAINING", "C", "0: any")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        _option("Of the factors of products: bfloat16 is faster on some devices.", "TRAINING", "NAME", "float32"),
    ] = None,
    seed: Annotated[int | None, _option("Decides every random draw.", "TRAINING", "N", "19")] = None,
    distribute: Annotated[
        bool, _flag("--distribute", "Share each batch between all GPUs here, or the workers of TF_CONFIG.", "TRAINING")
    ] = False,
    max_iter: Annotated[int | None, _option("Train until so many thousand steps.", "STOP", "N", "1000")] = None,
    max_steps: Annotated[
        str | None, _option("Train until step N, or +N more; instead of --max-iter.", "STOP", "N|+N")
    ] = None,
    test_iter: Annotated[int | None, _option("Steps between evaluations.", "STOP", "N", "1000; taobao 500")] = None,
    patience: Annotated[
        int | None, _option("Evaluations without a new best.", "STOP", "N", "50; keras with interests 100")
    ] = None,
    top_n: Annotated[int | None, _option("Recall is measured at N.", "STOP", "N", "50")] = None,
    untrained_best: Annotated[bool, _flag("--untrained-best", "Let the weights of step 0 be a best.", "STOP")] = False,
    closing: Annotated[
        Literal["auto", "full", "quick", "none"],
        _option(
            "Measure the best on valid and test at the end: auto, full (with diversity and coverage), quick or none.",
            "STOP",
            "EXTENT",
            "full, unless it takes minutes",
            "--report",
        ),
    ] = "auto",
    resume: Annotated[bool, _flag("--resume", "Go on with an experiment, from its best.", "RESUME")] = False,
    source: Annotated[
        Literal["best", "latest"] | None,
        _option("best, or latest: where the run was.", "RESUME", "LINE", "best", "--from"),
    ] = None,
    continue_after_stop: Annotated[
        bool, _flag("--continue-after-stop", "Also a run out of patience.", "RESUME")
    ] = False,
    accept_metric: Annotated[bool, _flag("--accept-metric", "Believe the recall of now.", "RESUME")] = False,
    accept_data: Annotated[bool, _flag("--accept-data", "Although training data changed.", "RESUME")] = False,
    dataset: Annotated[str | None, _option("Names the data files.", "PLACES", "NAME", "book")] = None,
    data_dir: Annotated[str | None, _option("Holds the data files.", "PLACES", "DIR", "ROOT/data/DATASET_data")] = None,
    root: Annotated[str, _option("Holds best_model/ and runs/.", "PLACES", "DIR")] = ".",
    exp_name: Annotated[
        str | None, _option("The run's name; asked for on a terminal.", "PLACES", "NAME", show_default=False)
    ] = None,
    keep: Annotated[int, _option("How many newest states stay, beside the best.", "PLACES", "N")] = KEEP,
    log_to: Annotated[
        Literal["mlflow", "wandb"] | None,
        _option("Also log to mlflow or wandb, if it is installed.", "PLACES", "NAME", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a new model, or go on with an old one from any of the known trainers."""
    given = {
        "dataset": dataset,
        "model_type": model_type,
        "variant": variant,
        "item_count": item_count,
        "embedding_dim": embedding_dim,
        "hidden_size": hidden_size,
        "num_interest": num_interest,
        "readout": readout,
        "adam_epsilon": adam_epsilon,
        "repeated_rows": repeated_rows,
        "min_history": min_history,
        "history_dropout": history_dropout,
        "negatives": negatives,
        "hard_negatives": hard_negatives,
        "routing_regularization": routing_regularization,
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "decay_steps": decay_steps,
        "weight_decay": weight_decay,
        "clip_norm": clip_norm,
        "precision": precision,
        "relu_projection": relu_projection,
        "maxlen": maxlen,
        "batch_size": batch_size,
        "neg_num": neg_num,
        "learning_rate": learning_rate,
        "seed": seed,
        "test_iter": test_iter,
        "patience": patience,
        "top_n": top_n,
    }
    console = Console("train", experiment or exp_name, json=json, quiet=quiet)

    def body() -> int:
        require("training", "tensorflow", "tensorboard")
        if log_to is not None:
            require_tracker(log_to)
        for name, value, least in (("--keep", keep, 1), ("--max-iter", max_iter, 0), ("--item-count", item_count, 1)):
            if value is not None and value < least:
                raise UsageError(f"{name} has to be at least {least}, not {value}", hint="leave it out for its default")
        budget = _budget(max_iter, max_steps)
        task = task_of(os.environ) if distribute else None
        if resume:
            if recipe is not None:
                raise UsageError(
                    "--recipe means something only in a new run: a resumed one goes on as it was", hint="leave it out"
                )
            if untrained_best:
                raise UsageError("--untrained-best means something only in a new run", hint="leave it out")
            target = existing_experiment(experiment, root, exp_name, given)
            console.phase("reading the checkpoint and the data")
            start = resumed_run(
                target,
                source or "best",
                given,
                data_dir=data_dir,
                accept_metric=accept_metric,
                accept_data=accept_data,
                continue_after_stop=continue_after_stop,
                progress=console.measured,
            )
        else:
            if experiment is not None:
                raise UsageError(
                    "an experiment's folder is given to resume it",
                    path=experiment,
                    hint=f"{resume_command(experiment, data_dir)}; or name a new run with --exp-name",
                )
            stray = {
                "--from": source,
                "--accept-metric": accept_metric,
                "--accept-data": accept_data,
                "--continue-after-stop": continue_after_stop,
            }
            if wrong := next((flag for flag, value in stray.items() if value), None):
                raise UsageError(f"{wrong} means something only with --resume", hint="add --resume, or leave it out")
            target, start = _new(given, recipe, root, exp_name, data_dir, console, untrained_best=untrained_best)
        if task is None or task.is_chief:
            for directory in (target.path, target.runs):
                require_writable(_existing_parent(directory))
        steps = budget.until(start.run_state.step)
        return _run(start, target, steps, console, keep, closing, log_to, distribute=distribute, task=task)

    finish(console, body)


_Path = Annotated[str, typer.Argument(help="An experiment (best_model/...), or a checkpoint.", show_default=False)]
_DataDir = Annotated[str | None, typer.Option(help="Holds the data files.", show_default="ROOT/data/DATASET_data")]
_Dataset = Annotated[str | None, typer.Option(help="Names the data files.", show_default="from the checkpoint")]
_NumInterest = Annotated[
    int | None, typer.Option(help="Vectors for each user, where the weights do not tell (MIND).", show_default=False)
]
_Maxlen = Annotated[int | None, typer.Option(help="Items of history, where nothing tells.", show_default=False)]


_Lists = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Also write each user's top N with names, as JSON lines; Parquet if it ends in .parquet.",
        show_default=False,
    ),
]
_WithSeen = Annotated[bool, typer.Option("--with-seen", help="Leave items of the history in the lists.")]


@app.command(
    rich_help_panel="Measure",
    epilog=epilog(
        "trainer evaluate best_model/book_DNN_b128_lr0.001_d64_len20_a --split test --top-n 50",
        "trainer evaluate best_model/book_DNN_b128_lr0.001_d64_len20_a --lists lists.jsonl",
    ),
)
def evaluate(
    path: _Path,
    data_dir: _DataDir = None,
    dataset: _Dataset = None,
    split: Annotated[Literal["valid", "test"], typer.Option(help="The users to measure on.")] = "valid",
    top_n: Annotated[list[int] | None, typer.Option(min=1, help="Repeat for several.", show_default="50")] = None,
    coef: Annotated[
        float | None,
        typer.Option(min=0.0, help="Re-rank: this much less for each item of the same category.", show_default=False),
    ] = None,
    lists: _Lists = None,
    with_seen: _WithSeen = False,
    num_interest: _NumInterest = None,
    maxlen: _Maxlen = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a checkpoint of any known trainer: recall, NDCG in both definitions, hit rate, diversity."""
    console = Console("evaluate", path, json=json, quiet=quiet)

    def body() -> int:
        _require_lists(lists, with_seen)
        given = {"dataset": dataset, "num_interest": num_interest, "maxlen": maxlen}
        opened = open_model(path, given, data_dir, needs_data=True)
        assert opened.data_dir is not None
        interactions = read_split(opened.data_dir, opened.config.dataset, split)
        if coef is not None:
            require("re-ranking", "faiss")
        try:
            categories = read_categories(opened.data_dir, opened.config.dataset) if installed("faiss") else None
        except NotFoundError:
            if coef is not None:
                raise
            categories = None
        lines = report(
            opened.model,
            interactions,
            maxlen=opened.config.maxlen,
            top_n=sorted(set(top_n or [50])),
            categories=categories,
            coef=coef,
            progress=console.measured,
        )
        findings = [Finding("hyper-parameter", "note", text) for text in opened.notes]
        if not installed("faiss"):
            findings.append(Finding("no-lists", "note", f"diversity and coverage need faiss: {INSTALL}"))
        if coef is not None and not opened.model.excludes_padding:
            text = (
                f"--coef re-ranks what several interests fetch; {opened.config.model_type} has one, so nothing changes"
            )
            findings.append(Finding("not-re-ranked", "note", text))
        if split == "valid" and opened.valid_digest not in (None, interactions.digest):
            text = (
                f"the run measured its best on another valid split ({str(opened.valid_digest)[:8]}, this is "
                f"{interactions.digest[:8]}): its recall and these figures are of different users or ids"
            )
            findings.append(Finding("other-data", "warning", text, interactions.path))
        if opened.spread is not None:
            text = f"MIND draws routing noise at each evaluation: its recall is {opened.spread}"
            findings.append(Finding("routing-noise", "note", text))
        console.findings(findings)
        kind = f"{opened.config.model_type} ({opened.config.variant})"
        console.say(f"{opened.prefix}: {kind}, {len(interactions.users)} {split} users")
        for line in lines:
            found = line.metrics
            shown = "" if line.diversity is None else f"  diversity {line.diversity:.6f}  coverage {line.coverage:.6f}"
            console.say(
                f"@{line.top_n}  recall {found.recall:.6f}  ndcg_hits_ideal {found.ndcg_hits_ideal:.6f}  "
                f"ndcg_truth_ideal {found.ndcg_truth_ideal:.6f}  hitrate {found.hitrate:.6f}{shown}"
            )
            if line.published is not None:
                published = line.published
                console.say(f"     as published: recall {published.recall:.6f}  ndcg {published.ndcg:.6f}")
        if lists is not None:
            longest = max(top_n or [50])
            cuts = first_true(interactions)
            _write_lists(lists, opened, interactions, cuts, longest, opened.data_dir, console, with_seen=with_seen)
        console.document(
            {
                "findings": [finding.to_json() for finding in findings],
                "prefix": opened.prefix,
                # Where its training measured says nothing of what was asked for here: each of the metrics tells its N.
                "config": {name: value for name, value in asdict(opened.config).items() if name != "top_n"},
                "sources": {name: source for name, source in opened.settings.sources.items() if name != "top_n"},
                "routing_noise": None if opened.spread is None else asdict(opened.spread),
                "split": split,
                "digest": interactions.digest,
                "coef": coef,
                "metrics": [line.to_json() for line in lines],
                "lists": lists,
            },
        )
        return EXIT_OK

    finish(console, body)


@app.command(
    rich_help_panel="Data in, vectors out",
    epilog=epilog(
        "trainer export best_model/book_DNN_b128_lr0.001_d64_len20_a out --index hnsw",
        "trainer export best_model/book_DNN_b128_lr0.001_d64_len20_a out --users histories.txt --lists lists.parquet",
    ),
)
def export(
    path: _Path,
    out: Annotated[str, typer.Argument(help="The directory to write to.", show_default=False)],
    index: Annotated[
        indexes.Kind | None,
        typer.Option(
            metavar="KIND",
            help="Also write a faiss index of the items: flat (exact), ivf or hnsw (faster).",
            show_default=False,
        ),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(help="Also write user vectors, for this file of user,item,time lines.", show_default=False),
    ] = None,
    lists: _Lists = None,
    top_n: Annotated[int, typer.Option(metavar="N", min=1, help="How many items of lists and a SavedModel.")] = 50,
    with_seen: _WithSeen = False,
    saved_model: Annotated[
        bool, typer.Option("--saved-model", help="Also write a SavedModel: histories to the top N.")
    ] = False,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Holds the maps of names.", show_default="ROOT/data/DATASET_data")
    ] = None,
    num_interest: _NumInterest = None,
    maxlen: _Maxlen = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint's item vectors as .npy, and what else is asked for: an index, lists, a SavedModel."""
    console = Console("export", path, json=json, quiet=quiet)

    def body() -> int:
        if index is not None:
            require("an index", "faiss")
        if saved_model:
            require("a SavedModel", "tensorflow")
            require_no_saved_model(out)
        _require_lists(lists, with_seen)
        if data_dir is not None:
            if lists is None:
                raise UsageError("--data-dir holds the names of --lists", hint="add --lists FILE, or leave it out")
            if not local.is_directory(data_dir, follow=True):
                raise NotFoundError("no such directory", path=data_dir, hint="leave it out for lists without names")
        if lists is not None and users is None:
            raise UsageError("--lists are of users", hint="name their file of user,item,time lines with --users")
        opened = open_model(path, {"num_interest": num_interest, "maxlen": maxlen}, None, needs_data=False)
        exported = write_vectors(
            opened.model, out, maxlen=opened.config.maxlen, index=index, histories=users, top_n=top_n
        )
        written = list(exported.paths)
        if saved_model:
            written.append(serving_module().save(opened.model, out, top_n))
        for file in written:
            console.say(f"written: {file}")
        if exported.tried is not None:
            tried = exported.tried
            console.say(
                f"{index}: {tried.recall:.4f} of the exact top {top_n}, {tried.milliseconds:.3f} ms a query "
                f"(exact {tried.exact_milliseconds:.3f} ms)"
            )
        if lists is not None:
            assert users is not None
            histories = read_interactions(users)
            names = data_dir or _data_of(opened)
            _write_lists(lists, opened, histories, histories.lengths, top_n, names, console, with_seen=with_seen)
            written.append(lists)
        tried_json = None if exported.tried is None else asdict(exported.tried)
        console.document({"findings": [], "prefix": opened.prefix, "written": written, "index": tried_json})
        return EXIT_OK

    finish(console, body)


@app.command(
    rich_help_panel="Data in, vectors out",
    epilog=epilog(
        "trainer prepare UserBehavior.csv --format taobao --dataset taobao",
        "trainer prepare Books.jsonl.gz --format amazon2023 --metadata meta_Books.jsonl.gz --dataset book",
    ),
)
def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The raw file; .gz is unpacked on the way.", show_default=False)
    ],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Names the files that are written.", show_default=False)],
    kind: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv (user,item,time with commas or tabs), pairs (user item, in order), amazon2014, amazon2023, "
            "taobao, movielens or steam.",
        ),
    ] = "csv",
    metadata: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The data set's file about the items, for their categories."),
    ] = None,
    item_field: Annotated[
        ItemField | None,
        typer.Option(
            metavar="FIELD",
            help="amazon2023: parent_asin, or asin: a variation is an item of its own.",
            show_default="parent_asin",
        ),
    ] = None,
    behavior: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="taobao: what counts (pv, cart, fav, buy); repeat.", show_default="pv"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="The file's encoding, gbk say.", show_default="UTF-8, else GBK")
    ] = None,
    fewest: Annotated[int, typer.Option(metavar="N", help="Interactions that an item and a user need.")] = FEWEST,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where to write to.", show_default="data/DATASET_data")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides which users are for training.")] = 1230,
    grow: Annotated[
        str | None,
        typer.Option("--grow", metavar="MAP", help="The item map of older data: say which items stay, for ckpt grow."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a data set of this name.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the trainer's files from raw interactions: 5 or more for each item and user, ids by frequency, 80/10/10."""
    console = Console("prepare", source, json=json, quiet=quiet)

    def body() -> int:
        require("preparing data", "polars")
        if fewest < 1:
            raise UsageError(f"--fewest has to be at least 1, not {fewest}", hint="leave it out for 5")
        for flag, given, of in (("--behavior", behavior, "taobao"), ("--item-field", item_field, "amazon2023")):
            if given and kind != of:
                raise UsageError(f"{flag} is about --format {of}, not {kind}", hint="leave it out")
        directory = data_dir or usual_data_directory(".", dataset)
        old = None if grow is None else read_item_map(grow)
        new_map = os.path.join(directory, f"{dataset}_item_map.txt")
        if grow is not None and paths.identity(grow) == paths.identity(new_map):
            raise UsageError(
                "the map of the older data would be written over, and no checkpoint could be moved any more",
                path=grow,
                hint="choose another --dataset or --data-dir",
            )
        done = write_dataset(
            source,
            kind,
            directory,
            dataset,
            seed=seed,
            fewest=fewest,
            behaviors=tuple(behavior or ["pv"]),
            item_field=item_field or "parent_asin",
            metadata=metadata,
            encoding=encoding,
            overwrite=overwrite,
            progress=console.read,
        )
        for file in done.paths:
            console.say(f"written: {file}")
        console.say(f"{done.kept} of {done.read} interactions, {done.users} users, {done.items} items")
        if done.left_out:
            console.say(f"{done.left_out} lines of other behaviors than {', '.join(behavior or ['pv'])} do not count")
        if encoding is None and done.encoding == "gb18030":
            console.say("not UTF-8, and read as GBK (GB 18030): where names look wrong, name another --encoding")
        if done.times != "as given":
            console.say(
                "times have fractions: the files hold the position of each interaction among its user's instead"
            )
        if done.categories is not None:
            console.say(f"{done.categories} of {done.items} items have a category")
        catalogue = None
        if grow is not None and old is not None:
            stay = old.keys() & read_item_map(new_map).keys()
            catalogue = {"kept": len(stay), "added": done.items - len(stay), "gone": len(old) - len(stay)}
            console.say(", ".join(f"{number} items {what}" for what, number in catalogue.items()))
            maps = f"{shlex.quote(grow)} {shlex.quote(new_map)}"
            console.say(f"a checkpoint is moved to these items with: ckpt grow CHECKPOINT OUT --map {maps}")
        following = f"trainer train --dataset {shlex.quote(dataset)} --model-type ComiRec-SA --exp-name first"
        if data_dir is not None:
            following += f" --data-dir {shlex.quote(data_dir)}"
        console.say(f"next: {following}")
        console.document({"findings": [], **asdict(done), "catalogue": catalogue, "next": following})
        return EXIT_OK

    finish(console, body)


@app.command(rich_help_panel="Data in, vectors out", epilog=epilog("trainer datasets"))
def datasets(json: Json = False, quiet: Quiet = False) -> None:
    """Where to get which public data set, and the command that prepares it."""
    console = Console("datasets", None, json=json, quiet=quiet)

    def body() -> int:
        for one in PUBLIC_SETS:
            console.say(one.title)
            if one.url:
                console.say(f"  from {one.url}")
            console.say(f"  {one.command}")
        console.document({"datasets": [{**asdict(one), "command": one.command} for one in PUBLIC_SETS]})
        return EXIT_OK

    finish(console, body)


@app.command(rich_help_panel="Measure", epilog=epilog("trainer baseline --dataset book"))
def baseline(
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Names the data files.")] = "book",
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="popularity, item-knn or ease; repeat.", show_default="what memory allows"),
    ] = None,
    top_n: Annotated[int, typer.Option(metavar="N", min=1, help="Recall is measured at N.")] = 50,
    neighbors: Annotated[int, typer.Option(metavar="N", min=1, help="item-knn: of each item.")] = 100,
    shrink: Annotated[float, typer.Option(metavar="X", min=0, help="item-knn: added to the denominator.")] = 30.0,
    regularization: Annotated[float, typer.Option(metavar="X", min=0, help="ease: its lambda.")] = 300.0,
    memory: Annotated[float, typer.Option(metavar="GB", min=0, help="What a method may need.")] = 4.0,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Holds the data files.", show_default="ROOT/data/DATASET_data")
    ] = None,
    root: Annotated[str, typer.Option(metavar="DIR", help="Holds baselines/, where figures are kept.")] = ".",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What a model has to beat: popularity, item-kNN and EASE on the same data, by the same metrics."""
    console = Console("baseline", data_dir or dataset, json=json, quiet=quiet)

    def body() -> int:
        require("a baseline", "scipy")
        directory = data_dir or usual_data_directory(root, dataset)
        train = read_split(directory, dataset, "train")
        splits = {
            split: read_split(directory, dataset, split)
            for split in ("valid", "test")
            if split == "valid" or has_split(directory, dataset, split)
        }
        count = items_needed(train, *splits.values())
        for part in (train, *splits.values()):
            require_ids_below(part, count, error=UsageError)
        settings = baselines.Settings(neighbors, shrink, regularization)
        limit = int(memory * 2**30)
        require_writable(_existing_parent(os.path.join(root, "baselines")))
        findings, path = [], None
        figures: list[Measured] = []
        for name in baselines.methods(method):
            try:
                baselines.require_memory(name, count, settings, limit)
            except UnsafeError as error:
                if method or (name == baselines.METHODS[-1] and not figures):
                    raise
                findings.append(Finding("left-out", "warning", f"left out: {error}; {error.hint}"))
                console.findings(findings[-1:])
                continue
            needed = baselines.gigabytes(baselines.memory_needed(name, count, settings))
            console.say(f"{name}: {count} items, at most {needed} GB of memory")
            scores = baselines.fit(name, train, count, settings)
            for split, users in splits.items():
                ranking = baselines.rank_by(scores, users, count, limit=top_n, progress=console.measured)
                found = Measured(name, settings.of(name), train.digest, split, users.digest, top_n, ranking.at(top_n))
                path = keep(root, dataset, found)
                figures.append(found)
                console.say(
                    f"  {split} @{top_n}  recall {found.metrics.recall:.6f}  ndcg {found.metrics.ndcg_hits_ideal:.6f}  "
                    f"hitrate {found.metrics.hitrate:.6f}"
                )
            del scores
        if path is not None:
            console.say(f"kept in {path}; a run on this data ends with them beside its own figures")
        console.document(
            {
                "path": directory,
                "findings": [finding.to_json() for finding in findings],
                "items": count,
                "kept": path,
                "baselines": [found.to_json() for found in figures],
            },
        )
        return EXIT_OK

    finish(console, body)


app.command(
    rich_help_panel="Train",
    epilog=epilog(
        "trainer sweep --dataset book --model-type ComiRec-SA --exp-name k --grid num_interest=1,4 --seeds 19,20,21 "
        "--max-steps 3000"
    ),
)(sweep)


def _require_lists(path: str | None, with_seen: bool) -> None:
    """Refuse what cannot be written before anything is measured."""
    if path is not None:
        require_writer(path)
        require_writable(local.directory_of(path))
    elif with_seen:
        raise UsageError("--with-seen is about --lists", hint="add --lists FILE, or leave it out")


def _write_lists(
    path: str,
    opened: Opened,
    split: Interactions,
    cuts: np.ndarray,
    top_n: int,
    data_dir: str | None,
    console: Console,
    *,
    with_seen: bool,
) -> None:
    names = Names() if data_dir is None else read_names(data_dir, opened.config.dataset)
    found = lists_for(
        opened.model,
        split,
        cuts,
        maxlen=opened.config.maxlen,
        top_n=top_n,
        with_seen=with_seen,
        progress=console.measured,
    )
    console.say(f"written: {path}, the top {top_n} of {write_lists(path, found, names)} users")


def _data_of(opened: Opened) -> str | None:
    """Where the data of a checkpoint's run is, None when it is not where it would be looked for."""
    experiment = Experiment.containing(opened.prefix)
    directory = default_data_dir(experiment.root if experiment else ".", opened.config.dataset)
    return directory if local.is_directory(directory, follow=True) else None


@dataclass(frozen=True)
class _Budget:
    """``steps`` to train: in all, or from where the run starts."""

    steps: int
    relative: bool

    def until(self, step: int) -> int:
        return step + self.steps if self.relative else self.steps


def _budget(max_iter: int | None, max_steps: str | None) -> _Budget:
    """Raises UsageError for both at once, or for anything but N and +N."""
    if max_steps is None:
        return _Budget(_MAX_STEPS if max_iter is None else max_iter * 1000, relative=False)
    if max_iter is not None:
        raise UsageError(f"--max-iter {max_iter} and --max-steps {max_steps} both limit the run", hint="give one")
    digits = max_steps.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        raise UsageError(f"--max-steps {max_steps} is neither N nor +N", hint="for example --max-steps +1000")
    return _Budget(int(digits), relative=max_steps.startswith("+"))


def _new(
    given: Mapping[str, Any],
    recipe: str | None,
    root: str,
    name: str | None,
    data_dir: str | None,
    console: Console,
    *,
    untrained_best: bool,
) -> tuple[Experiment, StartingPoint]:
    if given["model_type"] is None:
        raise UsageError("a new run needs --model-type", hint=f"choose one of {', '.join(MODEL_TYPES)}")
    if name is None:
        if not sys.stdin.isatty():
            raise UsageError("a new run needs --exp-name", hint="to continue an old one, add --resume")
        with console.held():
            name = typer.prompt("Experiment name", err=True)
    dataset = given["dataset"] or "book"
    config = override(new_config(recipe, given["variant"], dataset, given["model_type"], UNKNOWN_ITEM_COUNT), given)
    target = new_experiment(root, config, name, data_dir)
    data_dir = data_dir or default_data_dir(root, dataset)
    console.phase("reading the data")
    return target, new_run(config, data_dir, untrained_best=untrained_best, progress=console.measured)


def _elsewhere(start: StartingPoint, target: Experiment) -> str:
    """The flag without which the data of a run would be looked for where it is not; empty when it is not needed."""
    return data_flag(start.data_elsewhere(target))


def _run(
    start: StartingPoint,
    target: Experiment,
    max_steps: int,
    console: Console,
    keep: int,
    closing: Extent | Literal["none"],
    log_to: trackers.Name | None,
    *,
    distribute: bool,
    task: Task | None,
) -> int:
    console.say(f"{target.path}: {_beginning(start)}")
    there = list(_already_there(start, target, max_steps))
    findings = [*start.findings, *there]
    console.findings(findings)
    # Everything that can be refused has been; only now is TensorFlow worth its seconds.
    console.phase("starting TensorFlow")
    run = training_loop()
    team = _team(task, console) if distribute else None
    chief = task is None or task.is_chief
    with tracking(log_to if chief else None, target, start.config, console) as tracked:
        console.phase("building the model")
        outcome = run(start, target, max_steps, Listeners(console, tracked), team, keep=keep)
        again = {
            "--max-steps": (max_steps, _MAX_STEPS),
            "--keep": (keep, KEEP),
            "--report": (closing, "auto"),
            "--log-to": (log_to, None),
        }
        flags = "".join(f" {flag} {value}" for flag, (value, usual) in again.items() if value != usual)
        if distribute:
            flags += " --distribute"
        return _ended(
            start, target, outcome, console, closing, findings, tracked, chief=chief, trained=not there, flags=flags
        )


def _ended(
    start: StartingPoint,
    target: Experiment,
    outcome: Outcome,
    console: Console,
    closing: Extent | Literal["none"],
    findings: list[Finding],
    tracked: trackers.Tracking | None,
    *,
    chief: bool,
    trained: bool,
    flags: str,
) -> int:
    """What is said of a run when it is over, and its exit code. ``flags``: with which it goes on as it was started."""
    run_state = outcome.run_state
    best = (
        f"best recall {run_state.best_metric:.6f} at step {run_state.best_step}"
        if run_state.has_best
        else "no best yet"
    )
    end = f"stopped at step {run_state.step} ({outcome.reason})" if trained else "nothing trained"
    console.say(f"{end}; {best}")
    untrained = list(_untrained_is_better(outcome))
    console.findings(untrained)
    findings += untrained
    if outcome.reason == "interrupted":
        going_on = f"trainer train {shlex.quote(target.path)} --resume --from latest{_elsewhere(start, target)}{flags}"
        console.say(f"everything is saved; to go on: {going_on}")
    picture = draw(collect(target).curve, target.name, target.runs) if chief else None
    if picture is not None:
        console.say(f"the whole history of the run: {picture}")
    wanted = chief and run_state.has_best and outcome.reason != "interrupted" and trained
    figures = _closing(start, target, closing, console) if wanted and closing != "none" else []
    if tracked is not None:
        tracked.finished({f"{one.split}_recall": one.line.metrics.recall for one in figures}, run_state.step)
    beside = _beside(start, target, figures, console)
    first = {key: getattr(outcome.first, key) for key in ("step", "recall", "ndcg", "hitrate")}
    console.document(
        {
            "path": target.path,
            "findings": [finding.to_json() for finding in findings],
            "experiment": target.name,
            "resumed_from": start.resumed_from,
            "config": asdict(start.config),
            "sources": dict(start.sources),
            "routing_noise": None if start.spread is None else asdict(start.spread),
            "first_evaluation": first,
            BEST_METRIC: run_state.best_metric,
            "best_step": run_state.best_step,
            "step": run_state.step,
            "trials": run_state.trials,
            "stopped": outcome.reason,
            "picture": picture,
            "report": {found.split: found.line.to_json() for found in figures},
            "baselines": beside,
        },
    )
    return EXIT_INTERRUPTED if outcome.reason == "interrupted" else EXIT_OK


def _team(task: Task | None, console: Console) -> Any:
    """Those who train together, once they are all there."""
    from trainer.training.distribution import gather_team

    if task is not None:
        role = "the chief, who writes" if task.is_chief else "writes nothing"
        console.say(f"worker {task.number} of {task.count}, {role}; waiting for the others")
    team = gather_team(task)
    console.say(f"each batch is shared by {team.replicas} {'replica' if team.replicas == 1 else 'replicas'}")
    return team


def _closing(start: StartingPoint, target: Experiment, extent: Extent, console: Console) -> list[Closing]:
    """The figures that the older trainers end with; without them the run is no worse."""
    try:
        figures = closing_report(target, start.config, start.data_dir, extent, progress=console.measured)
    except CkptError as error:
        console.findings([Finding("no-report", "warning", f"the best model could not be measured at the end: {error}")])
        return []
    for found in figures:
        console.say(str(found))
    return figures


def _beside(
    start: StartingPoint, target: Experiment, figures: list[Closing], console: Console
) -> dict[str, dict[str, float]]:
    """Where the run stands: the recall of the baselines that were measured on the same data, by split and method."""
    config = start.config
    try:
        found = {
            one.split: recalls(target.root, config.dataset, start.sampler.digest, one.digest, config.top_n)
            for one in figures
        }
    except CkptError as error:
        console.findings([Finding("no-baselines", "warning", f"the baselines cannot be read: {error}")])
        return {}
    found = {split: by_method for split, by_method in found.items() if by_method}
    for split, by_method in found.items():
        shown = ", ".join(f"{method} {recall:.6f}" for method, recall in by_method.items())
        console.say(f"{split} recall of baselines on the same data: {shown}")
    if figures and not found:
        command = f"trainer baseline --dataset {shlex.quote(config.dataset)} --top-n {config.top_n}"
        if os.path.abspath(target.root) != os.path.abspath("."):
            command += f" --root {shlex.quote(target.root)}"
        console.say(f"to see where this run stands: {command}{_elsewhere(start, target)}")
    return found


def _already_there(start: StartingPoint, target: Experiment, max_steps: int) -> Iterator[Finding]:
    """A note when a resumed run has no step to train."""
    step = start.run_state.step
    if start.resumed_from is not None and max_steps <= step:
        message = (
            f"this run is at step {step} already, and was to be trained until step {max_steps}; to train "
            f"{max_steps or 1000} steps more: --max-steps +{max_steps or 1000}"
        )
        yield Finding("already-there", "note", message, target.path)


def _untrained_is_better(outcome: Outcome) -> Iterator[Finding]:
    """A warning when no trained model beats the fresh weights, which rank the users that they know nothing of by id."""
    first, run_state = outcome.first, outcome.run_state
    if first.event == "start" and run_state.has_best and (first.recall or 0) > run_state.best_metric:
        message = (
            f"the untrained model scored {first.recall:.6f}, more than any trained one "
            f"(best {run_state.best_metric:.6f}): the metric rewards ids in order of frequency here"
        )
        yield Finding("untrained-better", "warning", message)


def _beginning(start: StartingPoint) -> str:
    if start.resumed_from is None:
        return f"a new run of {start.config.model_type} ({start.config.variant})"
    return f"resuming from {start.resumed_from} at step {start.run_state.step}, recall {start.first.recall:.6f}"


def _existing_parent(path: str) -> str:
    while not local.is_there(path):
        path = os.path.dirname(os.path.abspath(path))
    return path


def main(arguments: list[str] | None = None) -> None:
    """The console script: run a command and exit with its code."""
    sys.exit(program.main(lambda: run(arguments)))


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; never raises."""
    return program.run(app, sys.argv[1:] if arguments is None else arguments, Console)
