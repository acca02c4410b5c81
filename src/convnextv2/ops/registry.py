"""Operations and their implementations: which there are, what each accepts, and which one a call takes.

An operation has a reference in plain torch, which reads like the definition and accepts every call, and further
implementations in order of preference. The first one that accepts a call is used; `explain` gives the reasons. Code
outside the package adds implementations with `register`, and tests choose one with `force`.

Compilers and exporters: `torch.export` sees the reference, so that graphs are portable. `torch.compile` sees the
first implementation that accepts the call and has a custom operator (`torch.library`), else the reference.

What follows the arithmetic to make something else of it sees the reference too (`is_observed`): plain torch can be
traced, batched and differentiated in every way.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from convnextv2.errors import UserError

REFERENCE = "reference"

# What a call is made of in ordinary execution; other tensors are those of a tool.
_ORDINARY = frozenset({Tensor, nn.Parameter, tuple, int, type(None)})

Accepts = Callable[..., str | None]
"""Takes the arguments of a call; returns None if the implementation takes it, else the reason why not."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation.

    function: what runs in eager mode.  compiled: what `torch.compile` sees, a custom operator with a fake version and,
    if it is to be trained through, autograd; None if there is none.
    """

    name: str
    accepts: Accepts
    function: Callable[..., Any]
    compiled: Callable[..., Any] | None = None


class Operation:
    """A function with several implementations; a call takes the first one that accepts its arguments."""

    def __init__(self, name: str, reference: Callable[..., Any]) -> None:
        self.name = name
        self.reference = Implementation(REFERENCE, lambda *_, **__: None, reference, reference)
        self.preferred: tuple[Implementation, ...] = ()
        self.forced: Implementation | None = None
        _operations[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return self._compiling(*args, **kwargs)
        if self.forced is not None:
            return self.forced.function(*args, **kwargs)
        if not is_observed(*args):
            for implementation in self.preferred:
                if implementation.accepts(*args, **kwargs) is None:
                    return implementation.function(*args, **kwargs)
        return self.reference.function(*args, **kwargs)

    def _compiling(self, *args: Any, **kwargs: Any) -> Any:
        if self.forced is not None:
            return (self.forced.compiled or self.forced.function)(*args, **kwargs)
        if not torch.compiler.is_exporting():
            for implementation in self.preferred:
                if implementation.compiled is not None and implementation.accepts(*args, **kwargs) is None:
                    return implementation.compiled(*args, **kwargs)
        return self.reference.function(*args, **kwargs)

    def implementations(self) -> tuple[Implementation, ...]:
        """Return all implementations in order of preference; the reference is the last one."""
        return (*self.preferred, self.reference)


_operations: dict[str, Operation] = {}


def is_observed(*arguments: Any) -> bool:
    """Return whether a tool follows a call with these arguments, so that it must be plain torch.

    Such are `torch.jit.trace`, `torch.fx`, the transforms of `torch.func`, forward-mode differentiation, and tensors of
    a class of their own (DTensor, fake and quantised ones). Counters of FLOP and memory are not: they see what runs.
    """
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or any(type(value) not in _ORDINARY and isinstance(value, Tensor | torch.fx.Proxy) for value in arguments)
    )


def derivatives(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `function(*inputs)`, given that of its result, as tensors that can be differentiated.

    For the backward pass of a hand-written implementation when a second derivative is asked for
    (`torch.is_grad_enabled()` is True in it).  function: in plain torch, such as the reference.  inputs: tensors of any
    shapes, which their gradients have too.  gradient: of the shape of the result.
    """
    inputs = tuple(tensor.view_as(tensor) for tensor in inputs)  # apart from how one of them follows from another
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, gradient, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in inputs)


def register(
    op: str,
    name: str,
    accepts: Accepts,
    function: Callable[..., Any],
    *,
    compiled: Callable[..., Any] | None = None,
    last: bool = False,
) -> None:
    """Add an implementation to an operation, before those that it already has.

    op: name of the operation, such as "depthwise".  accepts: called with the arguments of each call; returns None to
    take the call, else the reason why not in a few words.  function: takes the arguments of the operation and returns
    what its reference returns.  compiled: the same as a `torch.library` custom operator, if the implementation is to
    be taken under `torch.compile`.  last: add it after the others, before the reference.

    Raises UserError if the operation is not known or has an implementation of this name.
    """
    operation = _find(op)
    known = [implementation.name for implementation in operation.implementations()]
    if name in known:
        raise UserError(f"operation {op!r} already has an implementation {name!r}; give another name")
    new = Implementation(name, accepts, function, compiled)
    operation.preferred = (*operation.preferred, new) if last else (new, *operation.preferred)


def unregister(op: str, name: str) -> None:
    """Remove an implementation; the reference cannot be removed. Raises UserError if there is none of this name."""
    operation = _find(op)
    if name == REFERENCE:
        raise UserError(f"the reference of operation {op!r} cannot be removed")
    _named(operation, name)
    operation.preferred = tuple(i for i in operation.preferred if i.name != name)


@contextmanager
def registered(
    op: str,
    name: str,
    accepts: Accepts,
    function: Callable[..., Any],
    *,
    compiled: Callable[..., Any] | None = None,
) -> Iterator[None]:
    """Add an implementation for the length of a `with` block; arguments as for `register`."""
    register(op, name, accepts, function, compiled=compiled)
    try:
        yield
    finally:
        unregister(op, name)


def explain(op: str, *args: Any, **kwargs: Any) -> str:
    """Return one line for each implementation of `op`: taken with these arguments, or the reason why not.

    The answer is that of eager mode, under the autograd mode, autocast and `force` of the caller.
    """
    operation, taken, lines = _find(op), None, []
    forced, observed = operation.forced, is_observed(*args)
    for implementation in operation.implementations():
        if forced is not None:
            reason = None if implementation is forced else f"{forced.name} is forced"
        elif taken is not None:
            reason = f"comes after {taken}"
        elif observed and implementation is not operation.reference:
            reason = "a tool follows the call"
        else:
            reason = implementation.accepts(*args, **kwargs)
        if reason is None:
            taken = implementation.name
        lines.append(f"{implementation.name}: {reason or 'taken'}")
    return "\n".join(lines)


@contextmanager
def force(name: str = REFERENCE, *, op: str | None = None) -> Iterator[None]:
    """Run one implementation inside a `with` block, whatever it accepts.

    name: of the implementation.  op: of the operation; None for every operation that has an implementation of this
    name, so `force()` runs the reference of all. Raises UserError if there is no such operation or implementation.
    """
    if op is None:
        chosen = [o for o in _operations.values() if name in [i.name for i in o.implementations()]]
        if not chosen:
            names = sorted({i.name for o in _operations.values() for i in o.implementations()})
            raise UserError(f"no operation has an implementation {name!r}{_suggest(name, names)}")
    else:
        chosen = [_find(op)]
    pairs = [(operation, _named(operation, name)) for operation in chosen]
    before = [operation.forced for operation, _ in pairs]
    for operation, implementation in pairs:
        operation.forced = implementation
    try:
        yield
    finally:
        for (operation, _), previous in zip(pairs, before, strict=True):
            operation.forced = previous


def operations() -> dict[str, tuple[str, ...]]:
    """Return the names of all operations, each with the names of its implementations in order of preference."""
    return {name: tuple(i.name for i in operation.implementations()) for name, operation in _operations.items()}


def _find(op: str) -> Operation:
    if op not in _operations:
        raise UserError(f"no operation {op!r}{_suggest(op, list(_operations))}")
    return _operations[op]


def _named(operation: Operation, name: str) -> Implementation:
    for implementation in operation.implementations():
        if implementation.name == name:
            return implementation
    names = [implementation.name for implementation in operation.implementations()]
    raise UserError(f"operation {operation.name!r} has no implementation {name!r}{_suggest(name, names)}")


def _suggest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"; known are {', '.join(known)}" + (f"; did you mean {close[0]}?" if close else "")
