"""What licences of weights ask of those who use them, and under which others their derivatives may be published."""

from __future__ import annotations

import re

UNKNOWN = "unknown"
"""How the licence of weights begins if nothing says it; a hint may follow."""

DINOV3, EUPE = "dinov3-license", "fair-noncommercial-research-license"

_NON_COMMERCIAL = re.compile(r"(.*-)?(nc|noncommercial|non-commercial)(-.*)?")
_FREE = {"cc0-1.0", "unlicense", "pddl"}
_ATTRIBUTION = {"mit", "apache-2.0", "isc", "zlib", "bsl-1.0", "cc-by-3.0", "cc-by-4.0", "bsd"}
_ATTRIBUTION |= {f"bsd-{clauses}-clause" for clauses in (2, 3)}
_TERMS = {
    DINOV3: "commercial use is allowed; what is made from them stays under it; no military use (LICENSE.md of dinov3)",
    EUPE: "for research, not for commercial use",
}


def identifier(licence: str) -> str:
    """Return a licence in the spelling of the hub: "CC BY-NC 4.0" and "cc-by-nc-4.0" are the same."""
    return re.sub(r"[\s_]+", "-", licence.strip().lower())


def is_known(licence: str | None) -> bool:
    """Whether it names a licence."""
    return bool(licence) and not str(licence).startswith(UNKNOWN)


def terms(licence: str) -> str:
    """Return what a licence keeps users from, in a few words; empty if nothing is known to."""
    name = identifier(licence)
    if not is_known(licence):
        return ""
    if name in _TERMS:
        return _TERMS[name]
    return "not for commercial use" if _NON_COMMERCIAL.fullmatch(name) else ""


def may_become(carried: str, requested: str) -> bool:
    """Whether what was made from weights under one licence may be published under another.

    Under the same always; from MIT, Apache and their kind under any that keeps the attribution; from the public domain
    under any. Of others only their owner can say.
    """
    carried, requested = identifier(carried), identifier(requested)
    return carried in {requested, *_FREE} or (carried in _ATTRIBUTION and requested not in _FREE)
