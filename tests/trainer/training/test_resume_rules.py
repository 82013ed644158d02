"""Each rule of a resume is decided somewhere, and shown by a test; and each outcome by one."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import trainer.training.starting_point
from trainer.resume_rules import DECIDED, Rule
from trainer.training.resume_outcome import ResumeOutcome

HERE = Path(__file__).parent

# Which tests show each rule: they fail when it is not followed.
SHOWN_BY = {
    Rule.LINE: (
        "test_resume:test_without_a_newest_state_the_best_is_where_the_run_was",
        "test_no_silent_loss:test_a_run_that_was_killed_before_its_first_evaluation_can_be_continued",
        "test_fallback:test_it_goes_on_from_the_newest_that_is_whole",
    ),
    Rule.SETTINGS: (
        "test_resume:test_a_contradicting_flag_is_refused",
        "test_resume:test_flags_that_agree_or_may_change_are_taken_and_reported",
    ),
    Rule.WORKED_OUT: ("test_old_experiments:test_what_the_weights_cannot_tell_is_found_by_the_log",),
    Rule.VARIABLES: (
        "test_resume:test_a_missing_variable_is_refused_by_name",
        "test_resume:test_a_variable_of_another_shape_is_refused_by_name",
    ),
    Rule.MEASURED_FIRST: ("test_old_experiments:test_the_logged_metrics_are_measured_again_to_every_digit",),
    Rule.STORED_RECALL: (
        "test_resume:test_a_recall_that_is_not_the_stored_one_is_refused_or_believed",
        "test_resume:test_a_best_that_is_not_comparable_is_measured_again",
        "test_no_silent_loss:test_the_best_of_other_data_stays_beside_the_new_one_and_is_found_again",
    ),
    Rule.LOGGED_RECALL: (
        "test_resume:test_data_that_gives_no_logged_recall_is_refused",
        "test_resume:test_an_old_best_without_a_stored_metric_is_saved_with_it_before_training",
    ),
    Rule.NOISE: (
        "test_old_experiments:test_routing_noise_is_said_with_its_interval",
        "test_old_experiments:test_data_that_noise_cannot_explain_is_refused",
    ),
    Rule.LEAVE: (
        "test_resume:test_a_recall_that_is_not_the_stored_one_is_refused_or_believed",
        "test_no_silent_loss:test_other_training_data_is_noticed_and_needs_leave",
    ),
    Rule.STEP: (
        "test_old_experiments:test_a_resume_starts_where_the_best_was_logged",
        "test_resume:test_an_old_experiment_goes_on_with_its_weights_moments_and_step",
    ),
    Rule.EARLY_STOP: (
        "test_resume:test_a_run_out_of_patience_says_so_and_needs_leave_to_go_on",
        "test_no_silent_loss:test_after_an_early_stop_the_best_goes_on_with_other_batches",
    ),
    Rule.BEST_IN_SIGHT: (
        "test_no_silent_loss:test_a_best_that_is_lost_is_said_and_the_current_weights_take_its_place",
        "test_no_silent_loss:test_a_lost_best_that_a_state_still_holds_is_put_back",
    ),
    Rule.NOTHING_WRITTEN: ("test_no_silent_loss:test_of_two_resumes_that_read_the_same_state_the_second_is_refused",),
}


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name)
def test_a_rule_is_decided_in_few_places_and_shown(rule: Rule) -> None:
    assert rule.value.endswith(".")
    assert 1 <= len(DECIDED[rule]) <= 4, DECIDED[rule]
    for place in DECIDED[rule]:
        module, _, name = place.partition(":")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
    for shown in SHOWN_BY[rule]:
        module, _, name = shown.partition(":")
        tree = ast.parse((HERE / f"{module}.py").read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, shown


def test_the_rules_are_numbered_in_their_order() -> None:
    assert [rule.number for rule in Rule] == list(range(1, len(Rule) + 1))
    assert trainer.training.starting_point.resumed_run.__doc__


def test_every_outcome_is_decided() -> None:
    """Each member is what some path through `decide` returns, and none is returned that is not one."""
    source = (Path(trainer.training.starting_point.__file__).parent / "resume_outcome.py").read_text()
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ResumeOutcome"
    }
    assert used == {outcome.name for outcome in ResumeOutcome}
