"""A scan of a pickle's instructions for what they would do, without executing any of them."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_REPEATED = 2**17
_LINE = 64  # letters of a text that weigh as much as a number
_DEEPEST = 100
_LONGEST = 2**17  # values on the stack
_HIDDEN = {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "OBJ"}
_STORES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_READS = {"GET", "BINGET", "LONG_BINGET"}
_EMPTY = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT"}
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


@dataclass(eq=False, slots=True)
class _Value:
    """What an instruction would put on the stack, and what it is made of."""

    parts: list[_Value] | None = None
    weight: int = 0  # values in it, each as often as it occurs; 0 as long as it is not known
    depth: int = 0


_MARK = _Value()
_PLAIN = _Value(weight=1, depth=1)
"""A number, a text, a name: anything that nothing is ever put into."""


def imports(instructions: bytes) -> set[str]:
    """Return what a pickle would import, as "module name"; protocol 2, which torch.save writes, names it openly.

    Raises ValueError for invalid instructions, for those that nest too deep, and for exponentially expanding ones
    ("billion laughs"): a tuple of ten tuples of ten, and so on, each written once, is small here, but fills the memory
    when it is printed and takes a day to hash.
    """
    wanted: set[str] = set()
    stack: list[_Value] = []
    memo: dict[int, _Value] = {}
    read: list[_Value] = []
    for code, argument, _ in pickletools.genops(instructions):
        name = code.name
        if name == "GLOBAL":
            wanted.add(str(argument))
        elif name in _HIDDEN:
            wanted.add(f"a hidden import ({name})")
        if name in _STORES:
            memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = _top(stack)
        elif name in _READS or name == "DUP":
            value = _top(stack) if name == "DUP" else memo.get(int(argument or 0))
            if value is None:
                raise ValueError("it reads what it has not stored")
            read.append(value)
            stack.append(value)
        elif name == "MARK":
            stack.append(_MARK)
        else:
            taken = list(_taken(stack, code))
            if name in _INTO:
                if not taken or taken[0] is _PLAIN:
                    raise ValueError("it fills what holds nothing")
                filled, *others = taken
                if filled.parts is None:
                    filled.parts = []
                filled.parts += others
                stack.append(filled)
            elif name in _EMPTY or taken:
                stack += [_Value(taken or None) for _ in code.stack_after]
            elif isinstance(argument, str | bytes) and len(argument) > _LINE:
                stack.append(_Value(weight=1 + len(argument) // _LINE, depth=1))
            else:
                stack += [_PLAIN for _ in code.stack_after]
        if len(stack) > _LONGEST:
            raise ValueError("it nests too deep")
    for value in (*read, *stack):
        _weigh(value)
    if sum(value.weight for value in read if value is not _PLAIN) > _MOST_REPEATED:
        raise ValueError("it stands for far more values than it holds")
    return wanted


def _top(stack: list[_Value]) -> _Value:
    if not stack or stack[-1] is _MARK:
        raise ValueError("it takes from an empty stack")
    return stack[-1]


def _taken(stack: list[_Value], code: pickletools.OpcodeInfo) -> Iterator[_Value]:
    """What an instruction takes off the stack, the lowest first."""
    before = [kind.name for kind in code.stack_before]
    count = len(before)
    if "mark" in before:
        place = next((place for place in range(len(stack) - 1, -1, -1) if stack[place] is _MARK), None)
        if place is None:
            raise ValueError("it looks for a mark that is not there")
        above = stack[place + 1 :]
        del stack[place:]
        count = before.index("mark")
        below = [_pop(stack) for _ in range(count)][::-1]
        yield from (*below, *above)
        return
    yield from [_pop(stack) for _ in range(count)][::-1]


def _pop(stack: list[_Value]) -> _Value:
    value = _top(stack)
    stack.pop()
    return value


def _weigh(value: _Value) -> None:
    """Set weight and depth of a value and of all in it. ValueError if it holds itself, or is too deep."""
    open_, work = set[int](), [(value, False)]
    while work:
        here, done = work.pop()
        if done:
            here.weight = 1 + sum(part.weight for part in here.parts or ())
            here.depth = 1 + max((part.depth for part in here.parts or ()), default=0)
            open_.discard(id(here))
            if here.depth > _DEEPEST:
                raise ValueError("it nests too deep")
        elif not here.weight:
            if id(here) in open_:
                raise ValueError("it holds itself")
            open_.add(id(here))
            work.append((here, True))
            work += [(part, False) for part in here.parts or () if not part.weight]
