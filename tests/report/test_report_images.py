"""The run's images inside the page."""

import base64
import io

import pytest
from PIL import Image

from convnextv2.report import write_report


def pixels(attrs):
    return Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",", 1)[1])))


def test_thirty_images(make_run, parse):
    page = parse(write_report(make_run(pictures=30)))
    assert len(page.all("img")) == 9
    text = page.sections["images"]
    assert "Reconstruction after 3,000 steps" in text
    assert "After 100 steps" in text
    assert "After 2,900 steps" in text
    assert "21 more images" in text
    # The latest stands above those from during training.
    assert pixels(page.all("img")[0]).convert("RGB").getpixel((0, 0)) == (30 * 7, 90, 120)


def test_large_images_are_made_small(make_run, parse):
    run = make_run(pictures=3)
    for path in (run / "pictures").iterdir():
        noise = Image.effect_noise((2000, 1500), 90)
        Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)]).save(path, compress_level=1)
    path = write_report(run)
    assert path.stat().st_size < 5_000_000
    images = parse(path).all("img")
    assert all(max(pixels(attrs).size) <= 1600 for attrs in images)
    assert (int(images[0]["width"]), int(images[0]["height"])) == pixels(images[0]).size


def test_small_images_are_kept_to_the_byte(make_run, parse):
    run = make_run(pictures=1)
    stored = next((run / "pictures").iterdir()).read_bytes()
    attrs = parse(write_report(run)).all("img")[0]
    assert base64.b64decode(attrs["src"].split(",", 1)[1]) == stored


def test_images_cut_short(make_run, parse):
    run = make_run(pictures=4)
    newest = run / "pictures" / "step-00000400-reconstruction.png"
    newest.write_bytes(newest.read_bytes()[:60])
    (run / "pictures" / "step-00000001-other.png").write_bytes(b"")
    page = parse(write_report(run))
    assert "Reconstruction after 300 steps" in page.text
    assert newest.name in page.text
    assert "step-00000001-other.png" in page.text
    assert len(page.all("img")) == 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1", "LA"])
def test_any_kind_of_png(make_run, parse, mode, monkeypatch):
    from convnextv2.report import images

    monkeypatch.setattr(images, "_LATEST_BYTES", 1)
    run = make_run()
    Image.new(mode, (300, 150)).save(run / "pictures" / "step-00000005-mask.png")
    page = parse(write_report(run))
    assert "Mask after 5 steps" in page.text
    assert len(page.all("img")) == 1
