"""A scan of a pickle's instructions for what they would do, without executing any of them."""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from dataclasses import dataclass, field

_MOST_REPEATED = 2**17
_LINE = 64  # letters of a text that weigh as much as a number
_DEEPEST = 100
_LONGEST = 2**17  # values on the stack
_STORES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_READS = {"GET", "BINGET", "LONG_BINGET", "DUP"}
_EMPTY = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT"}
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_CALLS = {"REDUCE", "OBJ", "INST"}
_MAKES = {"NEWOBJ", "NEWOBJ_EX"}
_COMPUTED = "what it has computed"
GETATTR = "builtins.getattr"


@dataclass
class Imports:
    """What a pickle imports, as "module.name" in the spelling of Python 3.

    named: every name.  called: those that it calls with arguments of its own, "module.name.attribute" if it takes an
    attribute first. Instances that are made without a call of their class (NEWOBJ) are in `named` alone.
    """

    named: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Value:
    """What an instruction would put on the stack, and what it is made of.

    weight: values in it, each as often as it occurs; 0 as long as it is not known.  text: of a constant.
    name: of an import, or of an attribute of one.  maker: what was called to make it.
    """

    parts: list[_Value] | None = None
    weight: int = 0
    depth: int = 0
    text: str | None = None
    name: str | None = None
    maker: str | None = None


_MARK = _Value()
_PLAIN = _Value(weight=1, depth=1)
"""A number: anything that nothing is ever put into."""


def modern(module: str, name: str) -> str:
    """Return "module.name" as Python 3 spells it; protocol 2 writes `__builtin__` for `builtins`."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def imports(instructions: bytes) -> Imports:
    """Return what a pickle of any protocol would import, and what of it would be called.

    Raises ValueError for invalid instructions, for those that nest too deep, and for exponentially expanding ones
    ("billion laughs"): a tuple of ten tuples of ten, and so on, each written once, is small here, but fills the memory
    when it is printed and takes a day to hash.
    """
    found, stack, memo, read = Imports(), list[_Value](), dict[int, _Value](), list[_Value]()
    for code, argument, _ in pickletools.genops(instructions):
        name = code.name
        if name in _STORES:
            number = len(memo) if name == "MEMOIZE" else int(argument or 0)
            if number > len(instructions):
                raise ValueError("it numbers what it stores beyond its own length")
            memo[number] = _top(stack)
        elif name in _READS:
            value = _top(stack) if name == "DUP" else memo.get(int(argument or 0))
            if value is None:
                raise ValueError("it reads what it has not stored")
            read.append(value)
            stack.append(value)
        elif name == "MARK":
            stack.append(_MARK)
        else:
            stack += _result(code, argument, list(_taken(stack, code)), found)
        if len(stack) > _LONGEST:
            raise ValueError("it nests too deep")
    for value in (*read, *stack):
        _weigh(value)
    if sum(value.weight for value in read if value.weight > 1) > _MOST_REPEATED:
        raise ValueError("it stands for far more values than it holds")
    return found


def _result(code: pickletools.OpcodeInfo, argument: object, taken: list[_Value], found: Imports) -> list[_Value]:
    """Return what an instruction puts on the stack in place of the values `taken`."""
    name = code.name
    if name in ("GLOBAL", "STACK_GLOBAL"):
        return [_import(argument, taken, found)]
    if name.startswith("EXT"):
        found.called.add(f"an import by number ({name})")
        return [_Value()]
    if name in _CALLS or name in _MAKES:
        if name == "INST":
            taken.insert(0, _import(argument, [], found))
        return [_made(taken, found, called=name in _CALLS)]
    if name in _INTO:
        return [_filled(name, taken)]
    if name in _EMPTY or taken:
        return [_Value(taken or None) for _ in code.stack_after]
    if isinstance(argument, str | bytes):
        text = argument if isinstance(argument, str) else None
        return [_Value(weight=1 + len(argument) // _LINE, depth=1, text=text)]
    return [_PLAIN for _ in code.stack_after]


def _import(argument: object, taken: list[_Value], found: Imports) -> _Value:
    """A name from a module: written out, or as two texts (from protocol 4 on)."""
    module, name = (part.text for part in taken) if taken else str(argument).split(" ", 1)
    if module is None or name is None:
        raise ValueError("it computes the name of what it imports")
    full = modern(module, name)
    found.named.add(full)
    return _Value(weight=1, depth=1, name=full)


def _made(taken: list[_Value], found: Imports, *, called: bool) -> _Value:
    """The object that a class makes, or a function returns."""
    if not taken:
        raise ValueError("it calls nothing")
    function, *arguments = taken
    if function.name is None:
        found.called.add(_COMPUTED)
    elif called:
        found.called.add(function.name)
    made = _Value(taken, maker=function.name)
    parts = arguments[0].parts if arguments else None
    if function.name == GETATTR and parts and len(parts) == 2 and parts[0].name and parts[1].text:
        made.name = f"{parts[0].name}.{parts[1].text}"
    return made


def _filled(name: str, taken: list[_Value]) -> _Value:
    """A value that others are put into. The state of an object (BUILD) is not counted: no reader of ours keeps it."""
    if not taken or taken[0].weight:
        raise ValueError("it fills what holds nothing")
    filled, *others = taken
    if name == "BUILD" and (filled.maker is None or filled.maker.startswith("torch._utils.")):
        raise ValueError("it changes what it has read")
    if name != "BUILD":
        filled.parts = filled.parts or []
        filled.parts += others
    return filled


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
