"""What a run ends with, as the older trainers ended: its best model on both splits. Needs no TensorFlow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ckpt_tools.analysis.newest import newest_whole
from ckpt_tools.fs import local
from ckpt_tools.lineages.comirec.lineage import ComiRecLineage
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.opening import open_identified
from trainer.config import TrainConfig
from trainer.data.interactions import Interactions, has_split, read_categories, read_split
from trainer.evaluation.full_report import Line, report
from trainer.evaluation.measuring import OnProgress, numpy_model, weight_names
from trainer.extras import installed

Extent = Literal["auto", "full", "quick"]

# Products of a user's vectors with all items, for everybody's lists: above it they take more than half a minute on two
# cores, where counting takes seconds.
_QUICK_FROM = 10**12


@dataclass(frozen=True)
class Closing:
    """The figures of the best model on one split, and how they are printed. ``digest`` is the split's."""

    split: str
    line: Line
    digest: str

    def __str__(self) -> str:
        """As the older trainers print them: ``valid recall: 0.123456, valid ndcg: ...``."""
        found = self.line.metrics
        figures: dict[str, float | None] = {
            "recall": found.recall,
            "ndcg": found.ndcg_hits_ideal,
            "hitrate": found.hitrate,
            "diversity": self.line.diversity,
            "coverage": self.line.coverage,
        }
        return ", ".join(f"{self.split} {name}: {value:.6f}" for name, value in figures.items() if value is not None)


def closing_report(
    experiment: Experiment,
    config: TrainConfig,
    data_dir: str,
    extent: Extent = "auto",
    *,
    progress: OnProgress | None = None,
) -> list[Closing]:
    """The best model of an experiment, read from its checkpoint, on the validation and test users that there are.

    Diversity and coverage need everybody's lists: they are left out where ``extent`` says so, where nothing tells the
    items' categories or makes lists (faiss), and by ``auto`` where it would take long. Raises what reading raises.
    """
    prefix, _ = newest_whole(experiment.best_directory)
    with open_identified(prefix, ComiRecLineage) as (checkpoint, lineage):
        weights = {name: lineage.read(checkpoint, name) for name in weight_names(config)}
    model = numpy_model(config, weights)
    found = []
    for split in ("valid", "test"):
        if not has_split(data_dir, config.dataset, split):
            continue
        users = read_split(data_dir, config.dataset, split)
        categories = None
        if extent != "quick" and (extent == "full" or not _takes_long(config, users)):
            categories = _categories(data_dir, config.dataset)
        (line,) = report(
            model, users, maxlen=config.maxlen, top_n=[config.top_n], categories=categories, progress=progress
        )
        found.append(Closing(split, line, users.digest))
    return found


def _takes_long(config: TrainConfig, users: Interactions) -> bool:
    products = len(users.users) * config.num_interest * config.item_count * config.embedding_dim
    return products > _QUICK_FROM


def _categories(data_dir: str, dataset: str) -> dict[int, int] | None:
    if not installed("faiss") or not local.is_file(os.path.join(data_dir, f"{dataset}_item_cate.txt"), follow=True):
        return None
    return read_categories(data_dir, dataset)
