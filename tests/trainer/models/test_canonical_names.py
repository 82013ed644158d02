"""The names that ``ckpt`` asks a checkpoint for are those of the trainer's variables: one contract, two programs."""

from __future__ import annotations

import pytest
from checkpoints import EXPERIMENTS, Sample
from toys import small_config

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages.comirec.models import MODEL_VARIABLES, model_type_of, required_variables
from ckpt_tools.lineages.names import BEST_METRIC, CONFIG, LEARNING_RATE, METRIC, SAVE_COUNTER
from ckpt_tools.operations.migration import plan_migration
from trainer.checkpoints.run_state import STORED
from trainer.config import MODEL_TYPES, VARIANTS
from trainer.models.variables import initial_variables


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_run_cannot_go_on_without_exactly_the_variables_of_its_model(model_type: str, variant: str) -> None:
    variables = initial_variables(small_config(model_type, variant=variant))
    assert {*required_variables(model_type, variant), LEARNING_RATE} == set(variables)
    assert model_type_of(variables) == model_type


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_projection_that_is_there_is_one_of_them(variant: str) -> None:
    variables = initial_variables(small_config("MIND", variant=variant, relu_projection=True))
    assert {*required_variables("MIND", variant, variables), LEARNING_RATE} == set(variables)


def test_each_model_is_known_to_both() -> None:
    assert set(MODEL_VARIABLES) == set(MODEL_TYPES)


@pytest.mark.parametrize("sample", EXPERIMENTS, ids=lambda sample: f"{sample.root}-{sample.experiment}")
def test_a_migrated_checkpoint_has_the_variables_of_the_trainer_and_its_state(sample: Sample) -> None:
    migration = plan_migration(str(sample.path))
    model_type, variant = migration.lineage.model_type, migration.lineage.variant
    projected = "model/capsule/proj/kernel" in migration.lineage.tensors
    variables = initial_variables(small_config(model_type, variant=variant, relu_projection=projected))
    state = {BEST_METRIC, SAVE_COUNTER, METRIC, CONFIG, *(name for name, _ in STORED.values())}
    written = {change.key for change in migration.plan.changes} - {OBJECT_GRAPH_KEY}
    names = {key.removesuffix(VALUE_SUFFIX) for key in written} | set(migration.mapped)
    assert names == {*variables, *state}
