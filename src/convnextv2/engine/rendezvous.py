"""Where the processes of a run meet before they have a group, and how they wait for each other there.

The store is torchrun's, or one that the process of rank 0 holds. Torchrun's outlives the processes that it starts
again, with all that they wrote, so each time they agree on a place in it that nobody has used.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]

from convnextv2.engine.launcher import Launch
from convnextv2.errors import RunFailedError
from convnextv2.text import listed, one_line

_TELL_AFTER = 15.0  # seconds


def meet_all(launch: Launch, minutes: float) -> Store:
    """Return a store that only the processes of this launch use, when all of them have come.

    Raises RunFailedError if the process of rank 0 cannot be reached, or some do not come.
    """
    try:
        store = _store(launch, minutes)
    except (RuntimeError, ValueError) as error:
        raise RunFailedError(
            f"process {launch.rank} of {launch.world_size} cannot meet the others at {launch.address}:{launch.port}, "
            f"where rank 0 must be reached ({one_line(error)}); MASTER_ADDR and MASTER_PORT name another place"
        ) from error
    mine = uuid.uuid4().hex
    if launch.rank == 0:
        others = range(1, launch.world_size)
        wait_for(others, lambda rank: _welcome(store, rank, mine), "started", launch.world_size, minutes, tell=True)
        store.set(f"{mine}/complete", "")
        return PrefixStore(mine, store)
    store.set(f"hello/{launch.rank}", mine)
    wait_for([0], lambda _: store.check([f"welcome/{mine}"]), "started", launch.world_size, minutes)
    place = store.get(f"welcome/{mine}").decode()
    store.set(f"{place}/heard/{launch.rank}", "")
    told = f"{place}/complete"
    wait_for([0], lambda _: store.check([told]), "heard from all others", launch.world_size, minutes)
    return PrefixStore(place, store)


def wait_for(
    ranks: Sequence[int],
    is_there: Callable[[int], bool],
    what: str,
    world_size: int,
    minutes: float,
    *,
    tell: bool = False,
) -> None:
    """Wait until `is_there(rank)` for all `ranks`; signals are heeded meanwhile.

    what: they have done then, as "started".  tell: after a while, for whom this waits.

    Raises RunFailedError after so many minutes, with the ranks that are awaited.
    """
    missing, started = list(ranks), time.monotonic()
    while missing := [rank for rank in missing if not is_there(rank)]:
        waited = time.monotonic() - started
        late = f"of {world_size} processes, rank {listed(map(str, missing))} has not yet {what}"
        if waited > 60 * minutes:
            raise RunFailedError(f"{late}, after {minutes:g} minutes; give more with --timeout")
        if tell and waited > _TELL_AFTER:
            tell = False
            print(f"waiting: {late}", file=sys.stderr, flush=True)
        time.sleep(min(0.5, 0.01 + waited / 10))


def _welcome(store: Store, rank: int, place: str) -> bool:
    """Tell a process where to go on if it has said hello, perhaps again since; whether it has heard."""
    if store.check([f"hello/{rank}"]):
        store.set(f"welcome/{store.get(f'hello/{rank}').decode()}", place)
    return store.check([f"{place}/heard/{rank}"])


@cache  # the process of rank 0 holds it, at a port that is taken once
def _store(launch: Launch, minutes: float) -> Store:
    started, wait, address = time.monotonic(), timedelta(minutes=minutes), str(launch.address)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        url = f"tcp://[{address}]:{launch.port}" if ":" in address else f"tcp://{address}:{launch.port}"
        return next(rendezvous(url, launch.rank, launch.world_size, timeout=wait))[0]
    while True:
        try:  # briefly, as no signal is heeded meanwhile
            brief, first = timedelta(seconds=min(5, 60 * minutes)), launch.rank == 0
            store = TCPStore(address, launch.port, launch.world_size, first, brief, wait_for_workers=False)
        except dist.DistNetworkError:
            if launch.rank == 0 or time.monotonic() - started > 60 * minutes:
                raise
        else:
            store.set_timeout(wait)
            return store
