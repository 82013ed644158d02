"""What the tensors of a checkpoint are, where a declaration says it: its words go before what names tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.lineages.declared.lookup import fits
from ckpt_tools.lineages.tensor_names import Described, Role, Roles, bare, tell_roles

if TYPE_CHECKING:
    from ckpt_tools.lineages.declared.grammar import Declaration, Variables


def roles_of(tensors: Mapping[str, Described], graph: ObjectGraph | None, declaration: Declaration | None) -> Roles:
    """As `tell_roles`; what is declared as model, optimizer, step or best is that."""
    roles = tell_roles(tensors, graph)
    if declaration is None:
        return roles
    said = declaration.variables
    step, best = key_of(said.step, tensors), key_of(said.best, tensors)
    told = dict(roles.roles)
    for key in tensors:
        if _fits(key, said.optimizer):
            told[key] = told[key] if told[key].group == "optimizer" else Role("optimizer")
        elif _fits(key, said.model):
            told[key] = told[key] if told[key].group == "model" else Role("model")
    told.update((key, Role("state")) for key in (step, best) if key is not None)
    steps = roles.steps if step is None else (step, *(key for key in roles.steps if key != step))
    bests = roles.bests if best is None else (best, *(key for key in roles.bests if key != best))
    return replace(roles, roles=told, steps=steps, bests=bests)


def key_of(name: str | None, tensors: Iterable[str]) -> str | None:
    """The stored key of a declared name; None when there is no such tensor."""
    return next((key for key in tensors if name in (key, bare(key))), None) if name else None


def untold(tensors: Iterable[str], said: Variables) -> list[str]:
    """The tensors that no declared word speaks of; none where only parts are declared."""
    if not said.model:
        return []
    named = {name for name in (said.step, said.best) if name}
    patterns = (*said.model, *said.optimizer)
    return [key for key in tensors if not _fits(key, patterns) and not {key, bare(key)} & named]


def _fits(key: str, patterns: Iterable[str]) -> bool:
    name = bare(key)
    return any(fits(name, pattern) for pattern in patterns)
