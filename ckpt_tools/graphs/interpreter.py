"""Running a graph: the wanted values from what is fed and from variables.

Only what the wanted values need is run, each node once (in a loop once a round), in an order made beforehand: nothing
recurs but for loops in loops. A branch that is not taken is run through with `_DEAD` in place of values, as TensorFlow
does.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from ckpt_tools.errors import CkptError, CorruptError, MismatchError, UnsupportedError, UsageError
from ckpt_tools.format.graph_def import Node, Output, ShapeAttribute, TypeName
from ckpt_tools.graphs import tensor_arrays
from ckpt_tools.graphs.call import Budget, Call, Limits, numpy_type
from ckpt_tools.graphs.ops import DRAWS, OPS
from ckpt_tools.graphs.ops.arrays import gather
from ckpt_tools.graphs.order import ENTER, EXIT, MERGE, NEXT, SWITCH, Frame, Plan, plan
from ckpt_tools.graphs.tensor_arrays import TensorArray
from ckpt_tools.graphs.weights import VARIABLES

# What nothing but a feed can give a value.
FED = frozenset({"IteratorGetNext", "Placeholder", "PlaceholderV2"})
_OF_HANDLES = frozenset({"ReadVariableOp", "ResourceGather", "VariableShape"})
_CONTROL = SWITCH | MERGE | ENTER | EXIT | NEXT | {"LoopCond"}
# What has its value from outside of the round, before the round is run.
_BROUGHT = ENTER | MERGE
_PASSING = ENTER | EXIT | NEXT | {"LoopCond", "RefIdentity"}
INTERPRETED = frozenset(OPS) | frozenset(tensor_arrays.OPS) | VARIABLES | FED | _OF_HANDLES | _PASSING | _CONTROL

# What an operation of the table raises for inputs that do not fit it.
_REFUSALS = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)

ReadVariable = Callable[[Node], np.ndarray]


class _Dead:
    """In place of the values of a branch that is not taken."""


_DEAD = _Dead()


class _Handle:
    """What stands for a variable where its value is not wanted yet."""

    def __init__(self, node: Node) -> None:
        self.node = node


Values = MutableMapping[Output, Any]


class Interpreter:
    """A graph with its variables.

    Args:
        nodes: the nodes by name.
        read: gives the value of a variable's node.
        limits: of each run.
        draws: the generator of what the graph draws; without one such a graph is refused.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        read: ReadVariable,
        *,
        limits: Limits | None = None,
        draws: np.random.Generator | None = None,
    ) -> None:
        self.nodes = nodes
        self.draws = draws
        self._read = read
        self._limits = limits or Limits()
        self._variables: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}

    def run(self, fetches: Sequence[Output], feeds: Mapping[Output, np.ndarray]) -> list[np.ndarray]:
        """The values of some outputs.

        Raises:
            UsageError: a placeholder has no value, or one of another type or shape than it says.
            UnsupportedError: an operation, or a form of it, that is not interpreted; a draw without a generator.
            MismatchError: the inputs of an operation do not fit, as TensorFlow would say too.
            CorruptError: the graph breaks a rule of graphs.
            UnsafeError: a limit.
            and what reading a variable raises.
        """
        given = {output: self._fed(output, value) for output, value in feeds.items()}
        run = _Run(self, plan(self.nodes, fetches, given.keys()), Budget(self._limits))
        with np.errstate(all="ignore"):
            return run.fetched(fetches, given)

    def variable(self, node: Node) -> np.ndarray:
        """The value of a variable, read once."""
        if node.name not in self._variables:
            value = self._read(node)
            wanted = numpy_type(node.attributes.get("dtype", TypeName("float32")))
            shape = node.attributes.get("shape")
            if value.dtype.newbyteorder("=") != wanted or not _fits(value.shape, shape):
                raise MismatchError(f"node {node.name!r:.200}: the checkpoint has a {value.dtype} {list(value.shape)}")
            self._variables[node.name] = value.astype(wanted, copy=False)
        return self._variables[node.name]

    def _fed(self, output: Output, value: np.ndarray) -> np.ndarray:
        node = self.nodes.get(output.node)
        if node is None:
            raise UsageError(f"there is no node {output.node!r:.200} to be fed")
        value = np.asarray(value)
        if output.number == 0 and node.op.startswith("Placeholder"):
            dtype = numpy_type(node.attributes.get("dtype", TypeName(value.dtype.name)))
            shape = node.attributes.get("shape")
            if not _fits(value.shape, shape) and not _says_nothing(shape):
                raise UsageError(f"{output.node!r:.200} does not take the shape {list(value.shape)} that it is fed")
            value = _converted(value, dtype, output.node)
        return value


def _says_nothing(shape: object) -> bool:
    """Graphs of the first versions say of every placeholder that it were a scalar."""
    return not isinstance(shape, ShapeAttribute) or shape.dims == ()


def _fits(shape: tuple[int, ...], said: object) -> bool:
    if not isinstance(said, ShapeAttribute) or said.dims is None:
        return True
    return len(shape) == len(said.dims) and all(
        size is None or size == there for size, there in zip(said.dims, shape, strict=True)
    )


def _converted(value: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Numbers as the type that is wanted; not where that would make others of them."""
    if value.dtype == dtype:
        return value
    if value.dtype.kind in "biuf" and dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            found = value.astype(dtype)
            kept = dtype.kind == "f" or bool((found == value).all())
        if kept:
            return found
    raise UsageError(f"{name!r:.200} takes {dtype}, and is fed {value.dtype}")


class _Run:
    """One run of a plan."""

    def __init__(self, owner: Interpreter, todo: Plan, budget: Budget) -> None:
        self._owner = owner
        self._nodes = owner.nodes
        self._plan = todo
        self._budget = budget
        self._given: Mapping[Output, np.ndarray] = {}
        self._left = self._uses()

    def _uses(self) -> dict[str, int]:
        """How often the values of each node outside of loops are still needed; of those that loops use always."""
        left: dict[str, int] = {}
        for name, frame in self._plan.frames.items():
            for each in (*self._nodes[name].inputs, *self._plan.guards[name]):
                left[each.node] = left.get(each.node, 0) + (1 if not frame else 1 << 60)
        return left

    def fetched(self, fetches: Sequence[Output], given: Mapping[Output, np.ndarray]) -> list[np.ndarray]:
        self._given = given
        for output in fetches:
            self._left[output.node] = 1 << 60
        values: Values = {}
        self._run_nodes((), values)
        found = []
        for output in fetches:
            value = self._value(output, values)
            if value is _DEAD:
                raise MismatchError(f"{output} has no value: it stands in a branch that is not taken")
            if not isinstance(value, np.ndarray):
                raise UsageError(f"{output} is an array of tensors or a variable's handle: no value to be fetched")
            found.append(value)
        return found

    def _run_nodes(self, frame: Frame, values: Values) -> None:
        """All nodes of a frame, once; in a loop this is one round."""
        for name in self._plan.order.get(frame, ()):
            node = self._nodes[name]
            if node.op in _BROUGHT and Output(name) in values:
                continue
            self._budget.step()
            if node.op in EXIT:
                if Output(name) not in values:
                    self._run_loop((*frame, *self._inner(node, frame)), values)
                continue
            self._keep(node, self._outputs(node, values), values)
            if not frame:
                self._drop_used(node, values)

    def _inner(self, node: Node, frame: Frame) -> Frame:
        return self._plan.frames[node.inputs[0].node][len(frame) :]

    def _keep(self, node: Node, outputs: Any, values: Values) -> None:
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        for number, value in enumerate(parts):
            if isinstance(value, np.generic):
                value = np.asarray(value)
            if isinstance(value, np.ndarray):
                self._budget.keep(value)
            values[Output(node.name, number)] = value

    def _drop_used(self, node: Node, values: Values) -> None:
        for each in (*node.inputs, *self._plan.guards[node.name]):
            self._left[each.node] -= 1
            if not self._left[each.node]:
                number = 0
                while values.pop(Output(each.node, number), None) is not None:
                    number += 1

    # -------------------------------------------------------------------------------------------- loops

    def _run_loop(self, frame: Frame, outside: Values) -> None:
        """A whole loop: what it gives out is among the values outside of it afterwards."""
        order = self._plan.order[frame]
        entered: Values = {}
        for name in order:
            node = self._nodes[name]
            if node.op in ENTER:
                entered[Output(name)] = self._value(node.inputs[0], outside)
        exits = [n for n in self._plan.order[frame[:-1]] if self._leaves(n, frame)]
        if any(value is _DEAD for value in entered.values()):
            outside.update({Output(name): _DEAD for name in exits})
            return
        turning = [name for name in order if self._nodes[name].op in MERGE and self._from_before(name)]
        carried: dict[Output, Any] = {}
        for name in turning:
            first = next((each for each in self._nodes[name].inputs if self._nodes[each.node].op not in NEXT), None)
            if first is None:
                raise CorruptError(f"node {name!r:.200} turns without having come in")
            carried[Output(name)] = entered.get(first, _DEAD)
        ends = {name for name in order if self._nodes[name].op == "LoopCond"}
        while True:
            inside: dict[Output, Any] = {**entered, **carried}
            scope: Values = ChainMap(inside, outside)
            self._run_nodes(frame, scope)
            goes_on = [self._truth(inside.get(Output(name))) for name in ends]
            if not goes_on or not all(goes_on):
                break
            carried = {Output(name): self._value(self._from_before(name)[0], scope) for name in turning}
        for name in exits:
            outside[Output(name)] = self._value(self._nodes[name].inputs[0], scope)

    def _leaves(self, name: str, frame: Frame) -> bool:
        node = self._nodes[name]
        return node.op in EXIT and self._plan.frames[node.inputs[0].node] == frame

    def _from_before(self, name: str) -> list[Output]:
        return [each for each in self._nodes[name].inputs if self._nodes[each.node].op in NEXT]

    def _truth(self, value: Any) -> bool:
        if value is _DEAD or value is None:
            return False
        if not isinstance(value, np.ndarray) or value.size != 1:
            raise CorruptError("the condition of a loop is no single value")
        return bool(value)

    # -------------------------------------------------------------------------------------------- one node

    def _value(self, output: Output, values: Values) -> Any:
        found = self._given.get(output)
        if found is None:
            found = values.get(output)
        if found is not None:
            return found
        if values.get(Output(output.node)) is _DEAD:
            return _DEAD
        raise CorruptError(f"node {output.node!r:.200} has no output {output.number}")

    def _outputs(self, node: Node, values: Values) -> Any:
        """The value of a node, or a tuple of all that it gives."""
        if any(self._value(guard, values) is _DEAD for guard in self._plan.guards[node.name]):
            return _DEAD
        inputs = [self._value(each, values) for each in node.inputs]
        if node.op in MERGE:
            return next(((v, np.asarray(n, np.int32)) for n, v in enumerate(inputs) if v is not _DEAD), (_DEAD, _DEAD))
        if any(each is _DEAD for each in inputs):
            return _DEAD
        try:
            return self._called(node, inputs)
        except CkptError as error:
            raise _placed(error, node) from error
        except _REFUSALS as error:
            said = f"node {node.name!r:.200} ({node.op}): {error or type(error).__name__}"
            raise MismatchError(said, hint="are the right values fed?") from error

    def _called(self, node: Node, inputs: list[Any]) -> Any:
        if node.op in _PASSING:
            (value,) = inputs
            return value
        if node.op in SWITCH:
            value, chosen = inputs
            return (_DEAD, value) if self._truth(chosen) else (value, _DEAD)
        if node.op in VARIABLES:
            return _Handle(node) if node.op == "VarHandleOp" else self._owner.variable(node)
        if node.op in FED:
            raise UsageError("has no value: it has to be fed", hint="see what it takes: ckpt inspect RUN --graph")
        call = Call(node, self._budget, self._owner.draws)
        if node.op in _OF_HANDLES:
            return self._of_handle(call, *inputs)
        self._require_arrays(node, inputs)
        if node.op == "Const":
            if node.name not in self._owner.constants:
                self._owner.constants[node.name] = OPS["Const"](call)
            return self._owner.constants[node.name]
        run = OPS.get(node.op) or tensor_arrays.OPS.get(node.op)
        if run is None:
            raise UnsupportedError(
                f"the operation {node.op!r:.100} is not interpreted",
                hint="ckpt inspect RUN --graph lists what is missing; measure it with --evaluate COMMAND instead",
            )
        return run(call, *inputs)

    def _of_handle(self, call: Call, handle: Any, *others: Any) -> Any:
        if not isinstance(handle, _Handle):
            raise CorruptError("reads what is no variable")
        value = self._owner.variable(handle.node)
        if call.node.op == "VariableShape":
            return np.asarray(value.shape, call.dtype("out_type", "int32"))
        return gather(call, value, others[0], 0, call.attribute("batch_dims", 0)) if others else value

    def _require_arrays(self, node: Node, inputs: list[Any]) -> None:
        """The handle and the flow of arrays of tensors are what these take; all else is arrays."""
        several = {0, len(inputs) - 1} if node.op in tensor_arrays.HANDLES else set()
        passes = node.op in ("Identity", "StopGradient")
        for number, value in enumerate(inputs):
            kind: Any = TensorArray if number in several else np.ndarray
            if not isinstance(value, kind) and not (passes and isinstance(value, (TensorArray, _Handle))):
                raise CorruptError(f"input {number} is no {'array of tensors' if number in several else 'array'}")


def _placed(error: CkptError, node: Node) -> CkptError:
    """The same error, with the node that it came from."""
    return type(error)(
        f"node {node.name!r:.200} ({node.op:.100}): {error.message}", path=error.path, key=error.key, hint=error.hint
    )


def draws_in(nodes: Mapping[str, Node], names: Sequence[str]) -> list[str]:
    """Which of some nodes draw random numbers."""
    return [name for name in names if nodes[name].op in DRAWS]
