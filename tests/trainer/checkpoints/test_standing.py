from __future__ import annotations

import math

import numpy as np

from trainer.checkpoints.run_state import RunState


def test_a_restored_best_never_beats_itself() -> None:
    """0.1731010 as float32 is smaller than the float64 it came from."""
    recall = next(value for value in np.linspace(0.1731, 0.1732, 50) if np.float32(value) < value)
    best = RunState(step=1).after_evaluation(recall, patience=5)
    again = RunState.from_tensors(best.to_tensors()).after_evaluation(recall, patience=5)
    assert (best.best_step, again.trials) == (1, 1)


def test_patience_counts_evaluations_without_improvement() -> None:
    run_state = RunState(step=1).after_evaluation(0.5, patience=2)
    for trial, stopped in ((1, False), (2, False), (3, True)):
        run_state = run_state.after_update(1.0).after_evaluation(0.5, patience=2)
        assert (run_state.trials, run_state.stopped, run_state.best_step) == (trial, stopped, 1)
    assert run_state.after_update(1.0).after_evaluation(0.6, patience=2).trials == 0


def test_an_update_forgets_the_recall_and_adds_to_the_loss() -> None:
    run_state = RunState(step=3, recall=0.5, best_metric=0.5, best_step=3).after_update(2.0).after_update(4.0)
    assert (run_state.step, run_state.mean_loss) == (5, 3.0)
    assert math.isnan(run_state.recall)
    assert not run_state.is_best
    assert RunState().mean_loss is None


def test_everything_survives_the_checkpoint() -> None:
    run_state = RunState(9, 0.25, 7, 1, True, 0.125, 3.3, 2)
    assert RunState.from_tensors(run_state.to_tensors()) == run_state
