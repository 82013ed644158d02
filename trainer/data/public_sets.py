"""Public data sets that ``trainer prepare`` makes the trainer's files of: where to get what."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.raw import Format


@dataclass(frozen=True)
class PublicSet:
    """A data set, or several of one form. ``file`` and ``metadata`` (about the items, None without) are names as they
    are published; of several the first."""

    name: str
    title: str
    url: str
    file: str
    metadata: str | None
    format: Format

    @property
    def command(self) -> str:
        """What prepares it, typed beside the file."""
        about = "" if self.metadata is None else f" --metadata {self.metadata}"
        return f"trainer prepare {self.file} --format {self.format}{about} --dataset {self.name}"


PUBLIC_SETS: tuple[PublicSet, ...] = (
    PublicSet(
        "book",
        "Amazon Books, as the paper has it",
        "http://jmcauley.ucsd.edu/data/amazon/index.html",
        "reviews_Books_5.json.gz",
        "meta_Books.json.gz",
        "amazon2014",
    ),
    PublicSet(
        "video_games",
        "Amazon Reviews 2023, Video Games; other categories alike",
        "https://amazon-reviews-2023.github.io/",
        "Video_Games.jsonl.gz",
        "meta_Video_Games.jsonl.gz",
        "amazon2023",
    ),
    PublicSet(
        "taobao",
        "Taobao user behavior, as the paper has it",
        "https://tianchi.aliyun.com/dataset/649",
        "UserBehavior.csv",
        None,
        "taobao",
    ),
    PublicSet(
        "ml1m",
        "MovieLens 1M; 100K (u.data, u.item) and 10M to 32M alike",
        "https://grouplens.org/datasets/movielens/",
        "ratings.dat",
        "movies.dat",
        "movielens",
    ),
    PublicSet(
        "steam",
        "Steam reviews",
        "https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        "steam_reviews.json.gz",
        "steam_games.json.gz",
        "steam",
    ),
    PublicSet(
        "ml1m",
        "MovieLens 1M and others as SASRec has them",
        "https://github.com/kang205/SASRec/tree/master/data",
        "ml-1m.txt",
        None,
        "pairs",
    ),
    PublicSet("mine", "your own: lines of user,item,time", "", "interactions.csv", None, "csv"),
)
