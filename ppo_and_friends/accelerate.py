"""Machine code in the place of single torch operations, applied from outside: nothing else knows of it.

Small networks spend most of a gradient step between operations. The whole step (forward, backward, reduction of
metrics, clip, Adam) is traced once into a graph and compiled by TorchInductor into one C++ function; so is the actor's
step. With several ranks the step is two functions, with the reduction between them. On a GPU, what tasks make of their
simulator's tensors is compiled too.

Whether this pays depends on how many steps a run will take, so it is a function of the settings, chosen once for a run
and stored with its state; compiled and eager differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ppo_and_friends.bound import Bound
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment, steps_per_row
from ppo_and_friends.graphs import record
from ppo_and_friends.learner import Learner, StepTensors
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.networks.net import Action
from ppo_and_friends.types import Obs, leaves
from ppo_and_friends.vector.base import TensorMaths

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO
    from ppo_and_friends.rows import Rows

Function = Callable[..., Sequence[Tensor]]

REPAYS = 10_000  # minibatches over a run from which on compiling, about 10 s, costs less than it saves
# One C++ file with everything in it compiles fastest and is called fastest; its compiler works in this process, because
# starting helpers takes longer; and no trial program is compiled to learn what the CPU's own flags say.
OPTIONS = {"cpp_wrapper": True, "cpp.vec_isa_ok": True, "compile_threads": 1}


def _tanh(x: Tensor) -> Tensor:
    """A third of the time of the library's, within 2e-7 of it: infinities give 1 and -1."""
    return 1 - 2 / (torch.exp(2 * x) + 1)


FASTER = {torch.ops.aten.tanh.default: _tanh}


def repays(experiment: Experiment, ranks: int) -> bool:
    """Whether a run is long enough for compiling: a function of the settings alone."""
    rows = experiment.envs_per_proc * ranks
    iterations = -(-experiment.num_timesteps // (rows * steps_per_row(experiment, rows)))
    return iterations * experiment.ppo.epochs * experiment.ppo.minibatches >= REPAYS


def accelerate(ppo: PPO, say: Callable[[str], None]) -> None:
    """Let the iterations of `ppo` record themselves on a GPU, and its learners and actors compile themselves at their
    first step, if its settings say so.

    Args:
        say: told in one line that compiling begins, or why it failed; what cannot be compiled runs as it did.
    """
    compile_parts(ppo, say)
    record(ppo, say)


def compile_parts(ppo: PPO, say: Callable[[str], None]) -> None:
    """Let tasks, learners and actors compile themselves at their first step; once for a run."""
    done = all(isinstance(group.learner.step, CompiledStep) for group in ppo.groups)
    if not ppo.compiled or done:
        return
    long = "half a minute" if ppo.device.type == "cuda" else "about 10 s"
    if any(group.net.actor_core.state_size for group in ppo.groups):
        long = "a minute or more"
    say(f"Compiling the update, {long} where it was not compiled before (--compile off avoids it).")
    if isinstance(ppo.env, TensorMaths):
        ppo.env.replace_maths(lambda function: function if isinstance(function, Fused) else Fused(function, say))
    for group in ppo.groups:
        group.learner.step = CompiledStep(group.learner, say)
        group.rows.decide = CompiledActor(group.rows, ppo.comm, say)


def compiled(function: Function, inputs: Sequence[Tensor]) -> Function:
    """`function` of tensors like `inputs` (sizes, strides, types) as machine code; it may write its arguments in place.

    Inputs that are one tensor must be one in each call.

    Raises:
        Exception: of many kinds, where tracing or compiling fails.
    """
    import torch._inductor
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # One tensor is one argument of the code: what is found on disk would not tell it from two.
    distinct = {id(x): x for x in inputs}
    places = [list(distinct).index(id(x)) for x in inputs]
    inputs = list(distinct.values())

    def folded(*tensors: Tensor) -> Sequence[Tensor]:
        return function(*(tensors[place] for place in places))

    # Tracing runs the function once: on copies, so that nothing moves.
    copies = [torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device=x.device).copy_(x) for x in inputs]
    graph = make_fx(folded, decomposition_table=FASTER)(*copies)
    for node in graph.graph.nodes:
        node.meta.clear()  # of the tracer; the compiler finds its own
        if node.op == "get_attr" and getattr(graph, node.target).numel() > 1:
            raise NotImplementedError(f"a tensor of shape {tuple(getattr(graph, node.target).shape)} is no argument")
    options = OPTIONS if inputs[0].is_cpu else {}
    if _overlap(inputs):
        code: Any = torch._inductor.compile(graph, list(inputs), options=options)
    else:  # of stand-ins in a context with a `ShapeEnv`, though sizes are fixed, the compiler keeps its result on disk
        fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        stand_ins: list[Any] = [fake.from_tensor(x, static_shapes=True) for x in inputs]
        with tracing(TracingContext(fake)):
            code = torch._inductor.compile(graph, stand_ins, options=options)
    if len(places) == len(inputs):
        return code
    first = [places.index(place) for place in range(len(inputs))]
    return lambda *tensors: code(*(tensors[index] for index in first))


def _overlap(tensors: Sequence[Tensor]) -> bool:
    """Whether one may reach into another's memory."""
    reach = (sum((size - 1) * step for size, step in zip(x.size(), x.stride(), strict=True)) + 1 for x in tensors)
    spans = sorted(
        (x.data_ptr(), x.data_ptr() + n * x.element_size()) for x, n in zip(tensors, reach, strict=True) if x.numel()
    )
    return any(after < end for (_, end), (after, _) in pairwise(spans))


def together(comm: Comm, build: Callable[[], Any]) -> Any:
    """What `build` returns on each rank, or its exception where it fails on any rank: then on all.

    One rank of a node goes first, and leaves the others its result on disk."""
    result: Any = None
    for turn in range(2 if comm.size > 1 else 1):
        if (comm.local_rank > 0) == bool(turn):
            try:
                result = build()
            except Exception as error:  # the compilers' own are of many kinds
                result = error
        failed = torch.tensor([float(isinstance(result, Exception))])
        comm.max_(failed)
        if failed:
            return result if isinstance(result, Exception) else RuntimeError("another rank could not")
    return result


class CompiledStep:
    """In the place of `Learner.step`: compiles at the first minibatch, on all ranks together."""

    def __init__(self, learner: Learner, say: Callable[[str], None]) -> None:
        self.learner, self.say = learner, say
        self.bound = Bound(learner.objective)
        self.own = [*learner.tensors[:-1], *learner.tensors.lrs, *self.bound.buffers]
        self.shape: torch.Size | None = None
        self.places: list[tuple[int, int | None]] = []
        self.parts: tuple[Function, Function] | None = None
        self.whole: Function | None = None

    def __call__(self, batch: Batch) -> Tensor:
        learner = self.learner
        if batch.weights.shape != self.shape and self.shape is not None:  # compiled code would read beyond its end
            return learner.eager_step(batch)
        self.bound.check_buffers()
        if self.whole is not None:
            return self.whole(*self.own, *batch.at(self.places))[0]
        if self.parts is not None:
            gradient, move = self.parts
            (parameters,) = gradient(*self.own, *batch.at(self.places))
            learner.comm.sum_(learner.flat.reduced)
            move(*self.own)
            return parameters
        failure = together(learner.comm, lambda: self._compile(batch))
        if isinstance(failure, Exception):
            self.say(f"The update is not compiled and runs as it is: {reason(failure)}")
            learner.step = learner.eager_step
            return learner.eager_step(batch)
        return self(batch)

    def _compile(self, batch: Batch) -> None:
        self.bound.check()
        self.shape = batch.weights.shape
        own, count, build = self.own, len(self.own), batch.builder()
        inputs = [*own, *batch.tensors()]
        self.places = batch.places()

        def whole(*tensors: Tensor) -> tuple[Tensor]:
            named, buffers = self._named(tensors[:count])
            gradient, tail, parameters = self._gradient(named, buffers, build(tensors[count:]))
            self.learner.move(named, gradient, tail)
            return (parameters,)

        def gradient(*tensors: Tensor) -> tuple[Tensor]:
            named, buffers = self._named(tensors[:count])
            *reduced, parameters = self._gradient(named, buffers, build(tensors[count:]))
            named.reduced.copy_(torch.cat(reduced))
            return (parameters,)

        def move(*tensors: Tensor) -> tuple[Tensor, ...]:
            named, _ = self._named(tensors)
            flat = self.learner.flat
            self.learner.move(named, *named.reduced.split([flat.size, flat.tail.numel()]))
            return ()

        if self.learner.comm.size == 1:
            self.whole = compiled(whole, inputs)
        else:
            self.parts = compiled(gradient, inputs), compiled(move, own)

    def _named(self, tensors: Sequence[Tensor]) -> tuple[StepTensors, Sequence[Tensor]]:
        """`own`, or what stands for it while tracing: the step's tensors, and the buffers."""
        fixed, end = len(StepTensors._fields) - 1, len(self.own) - len(self.bound.buffers)
        return StepTensors._make((*tensors[:fixed], tuple(tensors[fixed:end]))), tensors[end:]

    def _gradient(self, tensors: StepTensors, buffers: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient, tail and distribution parameters, derived by the flat buffer."""
        learner, flat = self.learner, self.learner.flat

        def loss_of(values: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            views = zip(flat.parameters, flat.views(values), strict=True)
            parameters = {id(own): view if own.requires_grad else view.detach() for own, view in views}
            ordered = [parameters[id(parameter)] for parameter in self.bound.parameters]
            arguments = (batch, tensors.clip, tensors.entropy_weight)
            loss, sums, distribution = self.bound.call(ordered, buffers, arguments)
            return loss, (loss, sums, distribution)

        gradient, (loss, sums, distribution) = torch.func.grad(loss_of, has_aux=True)(tensors.values)
        return gradient, learner.tail(tensors, loss, sums, gradient), distribution


class CompiledActor:
    """In the place of `Net.act` for one group of rows."""

    def __init__(self, rows: Rows, comm: Comm, say: Callable[[str], None]) -> None:
        self.rows, self.comm, self.say = rows, comm, say
        self.bound = Bound(_Act(rows.net))
        self.own = [*self.bound.parameters, *self.bound.buffers]
        self.act: Callable[..., Action] = self._begin

    def __call__(self, obs: Obs, state: Tensor, first: Tensor, noise: Tensor, draw: Tensor) -> Action:
        self.bound.check_buffers()
        return self.act(obs, state, first, noise, draw)

    def _begin(self, obs: Obs, *others: Tensor) -> Action:
        inputs = [*leaves(obs.actor), obs.mask, *others]
        result = together(self.comm, lambda: self._compile(inputs, isinstance(obs.actor, tuple)))
        if isinstance(result, Exception):
            self.say(f"The policy is not compiled and runs as it is: {reason(result)}")
            self.act = self.rows.net.act
        else:
            self.act = lambda obs, *others: Action(*result(*self.own, *leaves(obs.actor), obs.mask, *others))
        return self.act(obs, *others)

    def _compile(self, inputs: list[Tensor], several: bool) -> Function:
        bound, parts = self.bound, len(inputs) - 5
        bound.check()

        def act(*tensors: Tensor) -> tuple[Tensor, ...]:
            parameters, tensors = tensors[: len(bound.parameters)], tensors[len(bound.parameters) :]
            buffers, tensors = tensors[: len(bound.buffers)], tensors[len(bound.buffers) :]
            seen = tensors[:parts] if several else tensors[0]
            mask, *rest = tensors[parts:]
            return tuple(bound.call(parameters, buffers, (Obs(seen, seen, mask), *rest)))

        return compiled(act, [*self.own, *inputs])


class Fused:
    """In the place of a function of tensors that it also reaches otherwise, and writes: compiled at its first call.

    What is compiled looks at each call whether it would still be compiled as it was, so this is for functions whose
    calls are recorded (see graphs.py)."""

    def __init__(self, function: Callable[..., Any], say: Callable[[str], None], backend: Any = "inductor") -> None:
        from torch._dynamo import exc

        self.function, self.say = function, say
        self.failures = exc.TorchDynamoException, exc.FailOnRecompileLimitHit
        self.call = torch.compile(function, fullgraph=True, dynamic=False, backend=backend)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self.call(*arguments)
        except self.failures as error:  # before anything was written
            self.say(f"The task is not compiled and runs as it is: {reason(error)}")
            self.call = self.function
            return self.call(*arguments)


class _Act(nn.Module):
    """`Net.act` as a module's forward."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *arguments: Any) -> Action:
        return self.net.act(*arguments)  # type: ignore[operator]


def reason(error: Exception) -> str:
    """One line of what a compiler said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no reason given'}"
