"""The cache gives the bits and the reasons that decoding gives."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from convnextv2.data.files.decode import decode
from convnextv2.data.files.folder import list_images
from convnextv2.data.loading.cache import decode_all
from convnextv2.errors import BadImageError, UserError


@pytest.fixture
def mixed(tmp_path, photo):
    """Formats, a turned picture, a large JPEG, and three kinds of bad files."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(photo).resize((401, 243)).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(photo[..., 0]).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "e.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "f.jpg").write_bytes(b"no picture")
    Image.fromarray(photo).save(tmp_path / "g.tif", exif=exif)
    return list_images(tmp_path)


def bad_reason(read) -> tuple[str, str] | None:
    try:
        read()
    except BadImageError as error:
        return error.path, error.reason
    return None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("min_side", [None, 50])
@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits_and_reasons(mixed, channels, min_side, threads):
    calls = []
    cache = decode_all(
        mixed,
        channels=channels,
        min_side=min_side,
        budget_bytes=10**8,
        threads=threads,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert cache is not None
    assert calls == [(done, 7) for done in range(1, 8)]
    bad = 0
    for index in range(len(mixed)):
        path = mixed.path(index)
        reason = bad_reason(lambda path=path: decode(path, channels=channels, min_side=min_side))
        assert bad_reason(lambda index=index: cache.get(index)) == reason
        if reason is not None:
            bad += 1
            continue
        pixels = decode(path, channels=channels, min_side=min_side)
        kept = cache.get(index)
        assert kept.shape == (channels, *pixels.shape[:2])
        assert kept.dtype == torch.uint8
        np.testing.assert_array_equal(kept.permute(1, 2, 0).numpy(), pixels)
    assert bad == 3


def test_budget_is_kept_to_the_byte(make_folder):
    images = make_folder(5)
    need = sum(decode(images.path(i)).size for i in range(5))
    cache = decode_all(images, budget_bytes=need)
    assert cache is not None
    assert cache.nbytes == need
    assert decode_all(images, budget_bytes=need - 1, threads=2) is None
    small = decode_all(images, channels=1, budget_bytes=need // 3)
    assert small is not None


def test_pixel_limit_holds_for_the_cache(make_folder):
    images = make_folder(3)
    cache = decode_all(images, max_pixels=52 * 40, budget_bytes=10**8)
    assert cache is not None
    cache.get(0)
    with pytest.raises(BadImageError, match="max_pixels"):
        cache.get(1)


def test_nothing_readable_and_wrong_channels(make_folder):
    images = make_folder(2, broken=(0, 1))
    cache = decode_all(images, budget_bytes=10**8)
    assert cache is not None
    with pytest.raises(BadImageError):
        cache.get(0)
    with pytest.raises(UserError):
        decode_all(images, channels=2, budget_bytes=10**8)


def test_a_file_that_changes_meanwhile_is_bad_not_garbage(make_folder, monkeypatch):
    images = make_folder(2)
    monkeypatch.setattr("convnextv2.data.loading.cache.header_pixels", lambda path, **_: 7)
    cache = decode_all(images, budget_bytes=10**8)
    assert cache is not None
    with pytest.raises(BadImageError, match="changed"):
        cache.get(1)


def test_forked_processes_read_the_same_memory(make_folder):
    """A child writes, the parent sees it: one memory, not a copy for each worker."""
    cache = decode_all(make_folder(2), budget_bytes=10**8)
    assert cache is not None
    before = int(cache.get(1)[0, 0, 0])
    pid = os.fork()
    if pid == 0:
        cache.get(1)[0, 0, 0] = 255 - before
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(cache.get(1)[0, 0, 0]) == 255 - before
