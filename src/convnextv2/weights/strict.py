"""All tensors or none: what is missing, unexpected or of another shape, in one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from convnextv2.errors import LoadError

_LISTED = 10
_TYPES = ("float32", "float16", "bfloat16", "float64")


def check(
    needed: Mapping[str, Sequence[int]],
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    advice: str,
    unexpected: Collection[str] = (),
    spell: Callable[[str], str | None] = lambda name: name,
    floats: bool = False,
) -> None:
    """Raise LoadError unless `tensors` has exactly the names and shapes of `needed`; lists ten mistakes of each kind.

    what: the file, and what it was taken for.  advice: what to type instead.  unexpected: further names that were
    found and belong to nothing.  spell: how the file would spell a name of ours.  floats: all must be of floating
    point, as a ConvNeXt's are.
    """
    wrong = {
        "missing": sorted(spell(name) or name for name in needed.keys() - tensors.keys()),
        "unexpected": sorted({*unexpected, *(spell(name) or name for name in tensors.keys() - needed.keys())}),
        "of another shape": [
            f"{spell(name) or name} {tuple(tensors[name].shape)}, not {tuple(needed[name])}"
            for name in sorted(needed.keys() & tensors.keys())
            if tuple(tensors[name].shape) != tuple(needed[name])
        ],
        "of another type": [
            f"{spell(name) or name} {str(tensors[name].dtype).removeprefix('torch.')}, not one of {', '.join(_TYPES)}"
            for name in sorted(needed.keys() & tensors.keys())
            if floats and str(tensors[name].dtype).removeprefix("torch.") not in _TYPES
        ],
    }
    if any(wrong.values()):
        parts = [
            f"{kind}: {', '.join(name[:120] for name in found[:_LISTED])}"
            + (f" and {len(found) - _LISTED} more" if found[_LISTED:] else "")
            for kind, found in wrong.items()
            if found
        ]
        raise LoadError(" ".join(f"{what} does not fill the model: {'; '.join(parts)}. {advice}".split()))
