"""What a tensor is, told from its name and shape, in whoever's checkpoint: weight, average, slot, step or best.

No list of programs, and none of exact names: a *slot* is a tensor whose name is that of a stored variable V with
something more, and whose shape is V's, or V's without one dimension. How the something more is attached depends on
the optimizer, not on the model:

    V/Adam  V/Adam_1  scope/V/Adam  scope/V/V/Adam      TensorFlow 1: slot_creator.py
    V/adam_m  V/adam_v                                  BERT: optimization.py
    V_slot_v  V_slot_vr  V_slot_vc                      Mesh TensorFlow, T5: mesh_tensorflow/optimize.py
    V/.OPTIMIZER_SLOT/optimizer/m                       TensorFlow 2: the object graph says whose it is
    Adam/V/m  training/Adam/V/m  Adam/m/V               Keras 2, in full names and in HDF5
    adam/V_momentum, the slashes of V as underscores    Keras 3

A *moving average* is attached in the same ways, by other words; so is what a zero-debiased average keeps of itself.
The averages of batch normalization (``moving_mean``) are the model's own. Steps, bests and counters are scalars, and
their names are read as words: ``best_val_loss`` is a best, ``ckpts_since_best`` is a counter.

Everything here is pure: names, types and shapes go in, the object graph where there is one; no value is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, Protocol

from ckpt_tools.format.graph import ObjectGraph
from ckpt_tools.format.object_graph import VALUE_SUFFIX
from ckpt_tools.lineages.names import BEST_METRIC

Group = Literal["model", "average", "optimizer", "state"]
Shape = tuple[int, ...]


class Described(Protocol):
    """What has to be known of a stored tensor: its type, by TensorFlow's name, and its shape."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True)
class Role:
    """What one tensor is. ``of`` is the key of the variable that a slot or an average belongs to, ``slot`` its name."""

    group: Group
    of: str | None = None
    slot: str | None = None


@dataclass(frozen=True)
class Roles:
    """What all tensors of a checkpoint are, by key.

    ``steps`` are the keys that may hold the step, the likeliest first; ``bests`` those of best metrics;
    ``stops`` those of what else an early stopping keeps (patience, best step, stopped). ``optimizers`` are the
    names of optimizers that can be told, ``full_names`` those that the variables were created with.
    """

    roles: Mapping[str, Role]
    steps: tuple[str, ...]
    bests: tuple[str, ...]
    stops: tuple[str, ...]
    optimizers: tuple[str, ...]
    full_names: Mapping[str, str]


# ------------------------------------------------------------------------------------------------ words


def _set_of(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


# Optimizers by the names of their classes, as they appear in names: in lower case, without "Optimizer".
_OPTIMIZERS = {
    name.lower(): name
    for name in (
        *("Adam", "AdamW", "AdamWeightDecay", "Adamax", "AdaMax", "Nadam", "NAdam", "LazyAdam", "AMSGrad", "AMSGradW"),
        *("RectifiedAdam", "RAdam", "AdaBelief", "AdaBound", "AdaMod", "Padam", "Yogi", "COCOB", "Lion", "Muon"),
        *("Adadelta", "Adagrad", "AdagradDA", "ProximalAdagrad", "RegAdagrad", "Adafactor", "RMSProp", "Ftrl"),
        *("Momentum", "MomentumW", "Nesterov", "SGD", "SGDW", "LAMB", "LARS", "NovoGrad", "SM3", "Shampoo", "GGT"),
        *("PowerSign", "AddSign", "YellowFin", "Lookahead", "SWA", "MovingAverage", "ConditionalGradient", "AGN"),
        *("ProximalGradientDescent", "GradientDescent", "Rprop", "Signum", "SGLD", "AdamGS", "LazyAdamGS", "AdaGradDA"),
    )
}
# What the slots of one variable are called, where the name of the optimizer is not their name already.
_SLOTS = _set_of(
    "m v u z n c r vr vc vhat v_hat m_hat mhat mom momentum momentums momentum_buffer velocity velocities",
    "velocity_hat velocity_hats exp_avg exp_avg_sq exp_inf norm norms infinity_norm mean_square mean_squares",
    "mean_grad mean_gradient rms ms mg mv delta_rms average_gradient average_gradients average_squared_gradient",
    "accumulator accumulators accum accum_grad accum_var accumulated_grad accumulated_gradient",
    "accumulated_delta_var accumulated_gradients gradient_accumulator gradient_squared_accumulator",
    "squared_accumulator squared_accum squared_gradient linear linears slow slow_weights gradient_accumulation",
    "acc_grad accumgrad grad_accum grads prev_grad previous_gradient pre_v moment1 moment2 first_moment",
    "second_moment m0 m1 v0 v1 row col v_row v_col r c slot_m slot_v slot_vr slot_vc preconditioner statistics",
    "mat_statistics mat_preconditioner center_variable grad_buffer flat_grad hessian gradients_sum grad_norm_sum",
    "grads_norm tilde_w reward lipschitz delta accumulated_delta accumulated_deltas s d",
)
_AVERAGES = _set_of(
    "exponentialmovingaverage exponential_moving_average movingaverage moving_average moving_averages moving_avg",
    "ema emas ema_weights ema_variables avg averaged average averages shadow shadow_variable shadow_weights",
    "shadows polyak polyak_average swa model_average model_ema ema_model ema_params averaged_weights",
    "averaged_variables",
)
_AVERAGE_ENDINGS = ("_moving_average", "_moving_avg", "_ema", "_shadow", "_polyak")
# A zero-debiased average keeps these of itself: tensorflow/python/training/moving_averages.py.
_DEBIAS = frozenset(("biased", "local_step"))
# Parts of models that have the shape of what they hang on often enough; they are never slots of it.
_PARTS = _set_of(
    "kernel kernels bias biases weight weights w b g gamma beta alpha scale offset shift mean variance",
    "moving_mean moving_variance moving_var running_mean running_var stddev mask masks threshold depthwise_kernel",
    "pointwise_kernel depthwise_weights pointwise_weights recurrent_kernel embedding embeddings table",
    "lookup_table matrix projection kernel_scale renorm_mean renorm_stddev min max minimum maximum sigma_w mu",
    "sigma rho",
)
_STATISTICS = _set_of(
    "moving_mean moving_variance moving_var running_mean running_var renorm_mean renorm_stddev",
)
_OPTIMIZER_PART = re.compile(
    r"(?:.*_|^)optim(?:i[sz]er)?s?(?:_\d+|\d+)?(?:_weights|_variables|_state)?|opt(?:_\d+|_state)?", re.IGNORECASE
)
_BETA_POWER = re.compile(r"beta_?[12]?_power(?:_\d+)?")
_LOSS_SCALE = re.compile(r"(?:current_|dynamic_|fp16_)?loss_scale(?:r|_factor)?|(?:num_)?good_steps|dynamic_counter")
_NUMBERED = re.compile(r"_\d+$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_STEP = re.compile(
    r"(?:(?P<global>global)|train(?:ing|er)?|curr?(?:ent)?|n|num|number_of|optimi[sz](?:er|ation)|completed|total_train"
    r"|update|g)?_?(?:steps?|iters?|iterations?|updates?|batch(?:es)?)_?(?:count(?:er)?|num(?:ber)?|no|var(?:iable)?)?"
)
_RATE_WORDS = frozenset(("learning_rate", "lr", "learning_rate_var"))
_STEP_WORDS = _set_of(
    "step steps iter iters iteration iterations epoch epochs batch batches update updates",
)
_COUNTER_WORDS = _STEP_WORDS | _set_of(
    "since count counter wait waited patience index idx id num number n ckpt ckpts trial trials no not without",
    "bad time times name path file",
)
_STOP_WORDS = _set_of(
    "patience wait waited waiting stop stopped stopping early trials bad stale plateau since improve improved",
    "improvement cooldown",
)
_METRIC_WORDS = _set_of(
    "loss losses acc accuracy auc gauc recall precision ndcg dcg hr hit hitrate mrr map f1 fscore bleu rouge",
    "meteor cider ppl perplexity error err rmse mse mae wer cer reward return score metric metrics value fid psnr",
    "ssim iou miou dice objective performance fitness result cost nll kl elbo top1 top5 logloss",
)
_EXTREMES = _set_of(
    "best max min top highest lowest maximum minimum optimal record",
)
_STATE_WORDS = _set_of(
    "save_counter epoch epochs current_epoch global_epoch_step epoch_step epoch_count cur_epoch num_epochs",
    "is_training counter counters total count",
)
_RANDOM = re.compile(r"seed_generator|random_generator|_state_var$|(?:^|/)rng(?:/|$)|seed_generator_state")
_NUMBERS = re.compile(r"(?:u?int|float|bfloat|half|double|bool|qu?int)\w*")


# The same words come back in thousands of names; of hostile ones not all are kept.
_remembered = lru_cache(maxsize=1 << 14)
# So many parts of a name are looked at as scopes around a variable: more would cost their square.
_MOST_SCOPES = 16
# And so many words at the end of one, as the name of a slot.
_MOST_WORDS = 4


def bare(name: str) -> str:
    """A stored name without what only tells how it was stored: the key's suffix, ``:0``, roots and separators.

    ``model_weights/dense/dense/kernel:0`` of a Keras file is ``dense/kernel``: the first part is the layer that keeps
    it, the rest the name of the variable.
    """
    name = name.removesuffix(VALUE_SUFFIX)
    if ":" in name:
        name = re.sub(r":\d+$", "", name)
    if "\\" in name:
        name = name.replace("\\", "/")
    if name.startswith("model_weights/"):
        name = name.removeprefix("model_weights/").partition("/")[2] or name
    return name.strip("/") or name


def words(name: str) -> list[str]:
    """The words of the last part of a name, in lower case: ``bestValLoss`` and ``best_val_loss`` have the same."""
    return [word.lower() for word in re.split(r"[_\W]+", _CAMEL.sub("_", name.rpartition("/")[2])) if word]


@_remembered
def is_best_name(name: str) -> bool:
    """Whether a name is one that a trainer gives to the best metric it has seen, and not to a counter beside it."""
    found = words(name)
    if set(found) & _COUNTER_WORDS and not {"top"} & set(found):
        return False
    if "best" in found:
        return True
    parent = words(name.rpartition("/")[0]) if "/" in name else []
    if "best" in parent and not set(parent) & _COUNTER_WORDS:
        return bool(set(found) & _METRIC_WORDS)
    return bool(set(found) & _EXTREMES and set(found) & _METRIC_WORDS)


@_remembered
def is_stop_name(name: str) -> bool:
    """Whether a name is one of what an early stopping keeps beside the best: patience, the best's step, stopped."""
    found = set(words(name))
    if "best" in found and found & _COUNTER_WORDS:
        return True
    parent = set(words(name.rpartition("/")[0])) if "/" in name else set()
    return bool(found & _STOP_WORDS) or ({"early", "stopping"} <= parent)


@_remembered
def _snake(word: str) -> str:
    return _CAMEL.sub("_", word).lower().strip("_")


@_remembered
def optimizer_named(part: str) -> str | None:
    """The optimizer that a part of a name stands for: ``Adam_1``, ``AdamOptimizer``, ``adam_m``, ``g_adam_1``."""
    low = _NUMBERED.sub("", part).lower()
    low = low.removesuffix("optimizer").rstrip("_")
    if low in _OPTIMIZERS:
        return _OPTIMIZERS[low]
    head, _, tail = low.partition("_")
    if head in _OPTIMIZERS and tail in _SLOTS:
        return _OPTIMIZERS[head]
    last = low.rpartition("_")[2]
    return _OPTIMIZERS.get(last) if last in _OPTIMIZERS and last not in ("momentum", "sgd", "movingaverage") else None


@_remembered
def is_slot_word(part: str) -> bool:
    """Whether a part of a name is one that optimizers give to a slot of a variable."""
    return part in _SLOTS or _NUMBERED.sub("", _snake(part)) in _SLOTS or optimizer_named(part) is not None


@_remembered
def is_average_word(part: str) -> bool:
    """Whether a part of a name is one that moving averages of variables are kept under."""
    snake = _snake(_NUMBERED.sub("", part))
    return snake in _AVERAGES or snake.replace("_", "") in _AVERAGES or snake.endswith(_AVERAGE_ENDINGS)


def fits(variable: Shape, slot: Shape) -> Literal["same", "factored", "scalar"] | None:
    """How the shape of a slot goes with that of its variable; None when it does not.

    Factored are those of Adafactor (one dimension is missing), SM3 (all but one are 1) and Shampoo (a square for
    each dimension).
    """
    if slot == variable:
        return "same"
    if slot in ((), (1,), (0,)):
        return "scalar"
    if len(variable) >= 2 and any(
        slot == variable[:axis] + variable[axis + 1 :]
        or slot in ((variable[axis],), (variable[axis], variable[axis]))
        or slot == tuple(size if at == axis else 1 for at, size in enumerate(variable))
        for axis in range(len(variable))
    ):
        return "factored"
    return "factored" if len(variable) == 1 and slot == (variable[0], variable[0]) else None


@_remembered
def is_optimizer_part(part: str) -> bool:
    """Whether a part of a name is where an optimizer keeps its own: ``optimizer``, ``g_optimizer_1``, ``Adam``."""
    return _OPTIMIZER_PART.fullmatch(part) is not None or optimizer_named(part) is not None


# -------------------------------------------------------------------------------------------- the roles


def tell_roles(tensors: Mapping[str, Described], graph: ObjectGraph | None = None) -> Roles:
    """What each tensor of a checkpoint is.

    Args:
        tensors: type and shape of each, by key.
        graph: the object graph, where there is one: what it says about slots is believed before any name.
    """
    return _Teller(tensors, graph).tell()


class _Teller:
    def __init__(self, tensors: Mapping[str, Described], graph: ObjectGraph | None) -> None:
        self.tensors = tensors
        self.graph = graph
        self.scalars = [key for key, info in tensors.items() if _is_number(info)]
        self.full_names = {key: bare(name) for key, name in graph.full_names.items() if name} if graph else {}
        paths = graph.paths if graph else {}
        self.names: dict[str, tuple[str, ...]] = {}
        for key in tensors:
            found = (bare(key), bare(paths.get(key, key)), self.full_names.get(key, ""))
            self.names[key] = tuple(name for name in dict.fromkeys(found) if name) or (key,)
        self.roles: dict[str, Role] = self._from_graph() if graph else {}
        # The names that a slot may begin with, and those whose slashes Keras 3 made underscores.
        self.known: dict[str, str] = {}
        for key, names in self.names.items():
            if key not in self.roles or self.roles[key].group == "model":
                for name in names:
                    self.known.setdefault(name, key)

    def tell(self) -> Roles:
        for key in self.tensors:
            role = self.roles.get(key)
            if role is None or (role.group in ("optimizer", "average") and role.of is None):
                self.roles[key] = self._named(key, role)
        for key, role in self.roles.items():
            if role.of is not None:
                self.roles[key] = self._through(key, role)
        return Roles(
            self.roles,
            tuple(self._steps()),
            tuple(sorted(filter(self._is_best, self.scalars), key=self._primary)),
            tuple(filter(self._is_stop, self.scalars)),
            tuple(dict.fromkeys(self._optimizers())),
            self.full_names,
        )

    def _through(self, key: str, role: Role) -> Role:
        """What hangs on a slot or an average is part of it; ``of`` names the variable itself."""
        seen = {key}
        while role.of is not None and role.of not in seen:
            seen.add(role.of)
            owner = self.roles.get(role.of)
            if owner is None or owner.group not in ("optimizer", "average"):
                break
            role = replace(role, group=owner.group, of=owner.of)
        return role

    # ---------------------------------------------------------------- from the object graph

    def _from_graph(self) -> dict[str, Role]:
        graph = self.graph
        assert graph is not None
        roles: dict[str, Role] = {}
        lists = dict(graph.moments())
        weights = graph.trainable_keys()
        for key in graph.optimizer_keys() & self.tensors.keys():
            if key in weights:
                roles[key] = Role("model")
                continue
            of, slot = lists.get(key, (None, None))
            roles[key] = Role("average" if slot and is_average_word(slot) else "optimizer", of, slot)
        for slot_variable in graph.slots:
            slot_key, of = graph.key_of(slot_variable.node), graph.key_of(slot_variable.variable)
            if slot_key is not None and slot_key in self.tensors:
                average = is_average_word(slot_variable.name)
                roles[slot_key] = Role("average" if average else "optimizer", of, slot_variable.name)
        return roles

    # ---------------------------------------------------------------- from names and shapes

    def _named(self, key: str, told: Role | None) -> Role:
        """The role that the names of a tensor tell, given what the graph told already."""
        for name in self.names[key]:
            attached = self._attached(key, name)
            if attached is not None:
                return Role(
                    attached.group if told is None or attached.group == "average" else told.group, *_rest(attached)
                )
        if told is not None:
            if any(map(is_average_word, self.full_names.get(key, "").replace("_", "/").split("/")[-1:])):
                return Role("average")
            return told
        return Role(self._alone(key))

    def _attached(self, key: str, name: str) -> Role | None:
        """The role of a name that consists of a variable's and something more."""
        parts = name.split("/")
        parent, _, leaf = name.rpartition("/")
        shape = self.tensors[key].shape
        if parent:
            owner, scoped = self._find(parent, key), False
            if owner is None and leaf not in _PARTS:
                # scope/V/leaf; V itself may be repeated: V/V/leaf.
                for tail in _tails(parent):
                    if (owner := self._find(tail, key)) is not None:
                        scoped = True
                        break
            if owner is not None and (role := self._hangs(owner, leaf, shape, scoped)):
                return role
        within = any(map(is_optimizer_part, parts[:_MOST_SCOPES]))
        for stem, suffix in _suffixes(leaf):
            if not (is_average_word(suffix) or is_slot_word(suffix)):
                continue
            stem = name[: len(name) - len(leaf)] + stem
            if not (within or suffix.startswith("slot_") or is_average_word(suffix) or len(suffix) > 2):
                continue  # w_m may be a weight of its own
            owner = self._find(stem, key)
            if owner is None and within:
                owner = self._flat.get(_flatten(stem)) or self._flat.get(stem.rpartition("/")[2])
                owner = owner if owner != key else None
            if owner is not None and (role := self._hangs(owner, suffix, shape, scoped=False)):
                return role
        return self._behind_a_prefix(key, parts, shape)

    def _behind_a_prefix(self, key: str, parts: list[str], shape: Shape) -> Role | None:
        """``Adam/m/V``, ``optimizer/V/m``, ``ema/V``: known words in front of a variable's name."""
        within = False
        for start in range(1, min(len(parts), _MOST_SCOPES)):
            last = parts[start - 1]
            average = is_average_word(last)
            within = within or is_optimizer_part(last)
            if not (average or within or is_slot_word(last)):
                continue
            for end in range(len(parts), max(start, len(parts) - 2), -1):
                owner = self._find("/".join(parts[start:end]), key)
                if owner is None:
                    continue
                after = parts[end:]
                word = after[-1] if after else last
                fit = fits(self.tensors[owner].shape, shape)
                if average and not after and fit == "same":
                    return Role("average", owner, last)
                if fit and (is_slot_word(word) or (after and within and word not in _PARTS)):
                    return Role("optimizer", owner, word)
        return None

    def _hangs(self, owner: str, word: str, shape: Shape, scoped: bool) -> Role | None:
        """The role of what hangs on a variable by a word, with its shape; None when it is one of its own."""
        of = self.tensors[owner].shape
        fit = fits(of, shape)
        snake = _snake(word)
        if word in _DEBIAS:
            return self._debias(owner)
        if fit == "same" and is_average_word(word):
            return Role("average", owner, word)
        if snake in _PARTS and optimizer_named(word) is None:
            return None
        if is_slot_word(word):
            # A scalar for each variable (NovoGrad) is one only where the variable's own slots say so.
            named = optimizer_named(word) is not None or len(word) > 1
            return Role("optimizer", owner, word) if fit and (fit == "same" or named) else None
        if fit == "same" and of not in ((), (1,)) and not (scoped and "/" not in self._shortest(owner)):
            return Role("optimizer", owner, word)
        return None

    def _debias(self, owner: str) -> Role:
        if self._shortest(owner).rpartition("/")[2].lower() in _STATISTICS:
            return Role("model")
        return Role("average", owner, None)

    def _shortest(self, key: str) -> str:
        return min(self.names[key], key=len)

    def _find(self, name: str, but: str) -> str | None:
        found = self.known.get(name)
        return None if found == but else found

    @cached_property
    def _flat(self) -> dict[str, str]:
        flat: dict[str, str] = {}
        for name, key in self.known.items():
            flat.setdefault(_flatten(name), key)
        return flat

    def _alone(self, key: str) -> Group:
        """The group of a tensor that belongs to no variable."""
        info = self.tensors[key]
        name = self.names[key][0]
        if info.dtype in ("variant", "resource") or any(_RANDOM.search(each) for each in self.names[key]):
            return "state"
        parts = name.split("/")
        leaves = [each.rpartition("/")[2] for each in self.names[key]]
        if (
            any(_OPTIMIZER_PART.fullmatch(part) for part in parts[:-1][:_MOST_SCOPES])
            and "_trainable_variables" not in parts
        ):
            return "optimizer"
        if any(is_average_word(part) for part in parts[-_MOST_SCOPES:] if len(part) > 2) and not _STATISTICS & {
            *map(str.lower, leaves)
        }:
            return "average"
        if leaves[0] in _DEBIAS and self._hanging(name):
            return "average"
        scalar = info.shape in ((), (1,))
        if scalar and any(_BETA_POWER.fullmatch(leaf) or _LOSS_SCALE.fullmatch(leaf) for leaf in leaves):
            return "optimizer"
        if scalar and len(parts) > 1 and any(optimizer_named(part) for part in parts[:-1][-_MOST_SCOPES:]):
            return "optimizer"
        if {"keras_api", "metrics", "compile_metrics", "metrics_variables"} & set(parts[:-1]) or (
            scalar and "losses_avg" in parts
        ):
            return "state"
        if info.shape == () and self._is_state(key, leaves):
            return "state"
        # One number in a list: a step, as every program calls it, and never a weight that a word may be a name of.
        if info.shape == (1,) and self._is_counter(key, leaves):
            return "state"
        return "optimizer" if leaves[0] in ("grad_buffer", "flat_grad", "moment1", "moment2") else "model"

    def _hanging(self, name: str) -> bool:
        return any(map(is_average_word, name.split("/")))

    def _is_state(self, key: str, leaves: Iterable[str]) -> bool:
        if self._is_best(key) or self._is_stop(key):
            return True
        found = [_snake(leaf) for leaf in leaves]
        # A whole number by itself counts something; what is trained is not one.
        if self.tensors[key].dtype in ("int32", "int64") and not _PARTS & set(found):
            return True
        return any(
            leaf in _STATE_WORDS or leaf in _RATE_WORDS or _STEP.fullmatch(_NUMBERED.sub("", leaf)) for leaf in found
        )

    def _is_counter(self, key: str, leaves: Iterable[str]) -> bool:
        """Whether a single number counts steps by its name, and has a type that counts, or a name that says so."""
        found = [match for leaf in leaves if (match := _STEP.fullmatch(_snake(leaf)))]
        return bool(found) and (
            self.tensors[key].dtype.lstrip("u").startswith("int") or any(match["global"] for match in found)
        )

    # ---------------------------------------------------------------- step, best, optimizer

    def _steps(self) -> Iterator[str]:
        """Keys that may hold the step: ``global_step`` in any scope, an optimizer's iterations, other steps."""
        ranked = []
        for key in self.scalars:
            if self.tensors[key].dtype == "bool":
                continue
            rank = min(self._step_rank(key, name) for name in self.names[key])
            if rank < _NO_STEP:
                ranked.append((rank, key.count("/"), len(key), key))
        yield from (key for *_, key in sorted(ranked))

    def _step_rank(self, key: str, name: str) -> int:
        role = self.roles[key]
        leaf = _snake(name.rpartition("/")[2])
        if role.of is not None or role.group == "average":
            return _NO_STEP
        if role.group == "optimizer":
            if leaf in ("iter", "iterations", "iteration", "step", "global_step", "steps", "t"):
                return 1
            # Keras 3 numbers what an optimizer keeps: the iterations come first.
            integer = self.tensors[key].dtype.lstrip("u").startswith("int")
            return 1 if integer and name.endswith("optimizer/vars/0") else _NO_STEP
        found = _STEP.fullmatch(leaf)
        if found is None or role.group != "state":
            return _NO_STEP
        return 0 if found["global"] and leaf.startswith("global") and "step" in leaf else 2

    def _is_best(self, key: str) -> bool:
        role = self.roles.get(key)
        if not _is_number(self.tensors[key]) or (
            role is not None and (role.of or role.group not in ("state", "model"))
        ):
            return False
        return any(map(is_best_name, self.names[key])) and self.tensors[key].dtype != "bool"

    def _is_stop(self, key: str) -> bool:
        role = self.roles.get(key)
        if not _is_number(self.tensors[key]) or (
            role is not None and (role.of or role.group not in ("state", "model"))
        ):
            return False
        return any(map(is_stop_name, self.names[key])) and not any(map(is_best_name, self.names[key]))

    def _primary(self, key: str) -> tuple[int, int, str]:
        name = self.names[key][0].rpartition("/")[2]
        order = (BEST_METRIC, "best_value", "best_score", "best")
        return order.index(name) if name in order else len(order), key.count("/"), key

    def _optimizers(self) -> Iterator[str]:
        for key, role in self.roles.items():
            if role.group != "optimizer":
                continue
            if role.slot in ("slot_vr", "slot_vc"):
                yield "Adafactor"
            elif role.slot is not None and role.slot not in _SLOTS and (named := optimizer_named(role.slot)):
                yield named
            else:
                # Keras begins with the optimizer: Adam/dense/kernel/m, adam/sequential_dense_kernel_momentum.
                for name in (self.full_names.get(key, ""), *self.names[key]):
                    parts = name.removeprefix("optimizer_weights/").removeprefix("training/").split("/")
                    if len(parts) > 1 and (named := optimizer_named(parts[0])):
                        yield named
                        break


_NO_STEP = 9


def _is_number(info: Described) -> bool:
    return info.shape in ((), (1,)) and _NUMBERS.fullmatch(info.dtype) is not None


def _rest(role: Role) -> tuple[str | None, str | None]:
    return role.of, role.slot


def _tails(name: str) -> Iterator[str]:
    """``b/c`` and ``c`` of ``a/b/c``: a variable's name inside a scope."""
    at = name.find("/")
    for _ in range(_MOST_SCOPES):
        if at < 0:
            return
        yield name[at + 1 :]
        at = name.find("/", at + 1)


def _suffixes(leaf: str) -> Iterator[tuple[str, str]]:
    """``kernel`` and ``slot_vr``, ``kernel_slot`` and ``vr`` of ``kernel_slot_vr``: the shortest ending first."""
    at = len(leaf)
    for _ in range(_MOST_WORDS):
        at = leaf.rfind("_", 1, at)
        if at < 0:
            return
        if not leaf[at + 1 :].isdigit():
            yield leaf[:at], leaf[at + 1 :]


def _flatten(name: str) -> str:
    return name.replace("/", "_")
