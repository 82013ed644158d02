"""What a guard has to say when the trainer has ended. Pure: from what happened to findings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ckpt_tools.findings import Finding
from ckpt_tools.guard.metric import better
from ckpt_tools.guard.running import Ended
from ckpt_tools.guard.status import Status

_MOST_NAMED = 8


def findings(ended: Ended, status: Status | None, run: str) -> Iterator[Finding]:
    """What did not go as it should: nothing that is here has touched the training."""
    for failure in ended.failures:
        yield Finding("guard-failed", "warning", failure, run)
    if ended.conflict:
        names = " and ".join(repr(name) for name in ended.conflict[:2])
        yield Finding(
            "metric-ambiguous",
            "warning",
            f"{names} both are called so: no value was taken from such a line",
            run,
            fix=f"ckpt guard {shlex.quote(run)} --metric {shlex.quote(ended.conflict[0])} -- ...",
        )
    if ended.died:
        return
    if ended.metric is None:
        yield _no_metric(ended, run)
        return
    best = status.best if status else None
    mode = ended.metric["mode"]
    if ended.best_seen is not None and mode is not None and better(ended.best_seen, best.value if best else None, mode):
        pinned = f"the best pinned one is {best.value:g}" if best else "none is pinned"
        why = "it could not be pinned" if ended.failures else "no save of that model was seen"
        yield Finding(
            "best-not-saved",
            "warning",
            f"{ended.metric['name']} was {ended.best_seen:g} at best, but {why}; {pinned}",
            run,
        )


def _no_metric(ended: Ended, run: str) -> Finding:
    names = list(ended.candidates)
    listed = ", ".join(f"{name} ({ended.candidates[name]})" for name in names[-_MOST_NAMED:])
    seen = f"these were printed: {listed}" if names else "no metric was printed"
    name = shlex.quote(names[-1]) if names else "NAME"
    return Finding(
        "metric-unknown",
        "warning",
        f"nothing says which metric the best model is chosen by ({seen}); the newest save is kept, without a value",
        run,
        fix=f"ckpt guard {shlex.quote(run)} --metric {name} --mode max -- ...",
    )
