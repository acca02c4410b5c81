"""GPUs that are not there."""

import pytest
import torch


@pytest.fixture
def gpus(monkeypatch):
    """A machine that shows some GPUs, of which one may be chosen already."""

    def show(count, chosen=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen)

    return show
