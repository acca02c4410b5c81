"""How another project names and shapes the tensors of a ConvNeXt: translation in both directions.

The common form is the official dense names and shapes (`official.py`), which are our model's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

Reshape = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Layout:
    """The tensors of a ConvNeXt as another project writes them.

    name: the value of `convert --to`.  title: for messages.  pairs: official name and its name, tensor by tensor, the
    first that fits; `{s}` (stage), `{b}` (block), `{k}` (a downsampling), `{j}` stand for numbers and `{leaf}` for
    weight or bias.  prefixes: one of these may stand before all of its names.  writes: the prefix it has when we
    write it, except for names that `bare` matches.  inward: gives the tensor of an official name its official shape.
    outward: the other way.
    """

    name: str
    title: str
    pairs: tuple[tuple[str, str], ...]
    prefixes: tuple[str, ...] = ()
    writes: str = ""
    bare: str = "(?!)"
    inward: Reshape = field(default=lambda name, tensor: tensor)
    outward: Reshape = field(default=lambda name, tensor: tensor)

    def official(self, name: str) -> str | None:
        """Return the official name of one of its names; None if it has no such name."""
        prefix = next((prefix for prefix in self.prefixes if name.startswith(prefix)), "")
        name = name.removeprefix(prefix)
        return _translate(self._inward, name)

    def knows(self, name: str) -> bool:
        """Whether it is one of its names."""
        return any(
            self._names.fullmatch(name, len(prefix)) for prefix in ("", *self.prefixes) if name.startswith(prefix)
        )

    def named(self, official: str) -> str | None:
        """Return its name for an official one; None if it has none."""
        name = _translate(self._outward, official)
        return name if name is None or re.match(self.bare, name) else self.writes + name

    def decoder(self, name: str) -> str:
        """Return our name for a tensor of a masked autoencoder outside its encoder."""
        return name

    def read(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors under official names and in official shapes, and the names unknown in this layout."""
        read, unknown = {}, []
        for old, tensor in tensors.items():
            new = self.official(old)
            if new is None or new in read:  # two names of one tensor: neither is chosen
                unknown.append(old)
            else:
                read[new] = canonical(new, self.inward(new, tensor))
        return read, unknown

    def write(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return official tensors under its names and in its shapes. Raises KeyError for a name it does not have."""
        written = {}
        for name, tensor in tensors.items():
            new = self.named(name)
            if new is None:
                raise KeyError(name)
            written[new] = self.outward(name, tensor).contiguous()
        return written

    @cached_property
    def _inward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(theirs), official) for official, theirs in self.pairs]

    @cached_property
    def _names(self) -> re.Pattern[str]:
        """All of its names in one pattern, which is much faster where a file holds thousands of other names."""
        return re.compile("|".join(re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern, _ in self._inward))

    @cached_property
    def _outward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(official), theirs) for official, theirs in self.pairs]


_MEANINGS = {"s": "[0-3]", "k": "[1-3]", "j": "[01]", "b": "0|[1-9][0-9]{0,3}", "leaf": "weight|bias"}


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    text = [f"(?P<{part}>{_MEANINGS[part]})" if place % 2 else re.escape(part) for place, part in enumerate(parts)]
    return re.compile("".join(text))


def _translate(rules: list[tuple[re.Pattern[str], str]], name: str) -> str | None:
    for pattern, template in rules:
        match = pattern.fullmatch(name)
        if match:
            return template.format(**match.groupdict())
    return None


def canonical(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor in its official shape if only axes of length one differ, otherwise as it is.

    GRN's parameters occur with 1, 2, 4 and 6 axes, LayerScale's with 1 and 3, pointwise layers as 1x1 convolutions,
    biases as one row.
    """
    if name.endswith(("grn.gamma", "grn.beta")):
        return tensor.reshape(1, 1, 1, -1) if _one_axis(tensor) else tensor
    if name.endswith(("pwconv1.weight", "pwconv2.weight")) and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    if name.endswith((".bias", ".gamma")) and tensor.ndim > 1 and _one_axis(tensor):
        return tensor.flatten()
    return tensor


def flat_grn(name: str, tensor: Tensor) -> Tensor:
    """Return GRN's parameters with one axis, (C,), and any other tensor as it is."""
    return tensor.flatten() if ".grn." in name else tensor


def _one_axis(tensor: Tensor) -> bool:
    return tensor.ndim > 0 and tensor.numel() == max(tensor.shape)
