"""Bands from the command to every verb: statistics, training, resume, and the uses of a model that knows its bands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from small_run import SMALL, SMALL_CLASSIFIER, run_losses, same, saved_weights

import convnextv2
from convnextv2.data.loading.statistics import Statistics, read_statistics
from convnextv2.errors import Notice, UserError
from convnextv2.figures.statistics import statistics_picture
from convnextv2.records import Bands, Preprocessing

BANDS = 5
QUICK = {"epochs": 1, "workers": 0}


def scene(number):
    """Five bands of 12 bits; of the second kind the fourth band is bright. Some have no data at one edge."""
    y, x = np.mgrid[0:40, 0:44]
    bands = [1000 * (k + 1) + 300 * np.sin(x / (3 + number % 4) + k) + 200 * np.cos(y / 5) for k in range(BANDS)]
    values = np.rint(np.stack(bands, 2)).astype(np.uint16)
    values[..., 3] += 2000 * (number % 2)
    values[:, : number % 3 * 5] = 0
    return values


def write(path, values):
    tags = [(42113, "s", 0, "0", True)]
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", extratags=tags)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(16):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        write(folder / "ab"[number % 2] / f"{number:02}.tif", scene(number))
    return folder


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    return convnextv2.pretrain(scenes, tmp_path_factory.mktemp("runs") / "run", **SMALL | QUICK).run


# --- statistics ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_numpy(scenes, tmp_path):
    found = convnextv2.stats(scenes, tmp_path / "s.json", workers=0)
    pixels = np.concatenate([scene(number).reshape(-1, BANDS) for number in range(16)])
    there = pixels[(pixels != 0).any(1)].astype(np.float64)
    assert (found.images, found.read, found.read_as.format, found.pixels) == (16, 16, "uint16", len(pixels))
    assert found.missing == pytest.approx(1 - len(there) / len(pixels), abs=1e-12)
    for band, values in zip(found.bands, there.T, strict=True):
        assert (band.mean, band.std) == (pytest.approx(values.mean(), rel=1e-12), pytest.approx(values.std(), rel=1e-9))
        assert (band.min, band.max) == (values.min(), values.max())
        assert band.percentiles["50"] == pytest.approx(np.percentile(values, 50), abs=5)
        shown = np.clip(values, *band.clip)
        assert (band.input_mean, band.input_std) == (
            pytest.approx(shown.mean(), 1e-2),
            pytest.approx(shown.std(), rel=1e-2),
        )
    assert read_statistics(tmp_path / "s.json") == found


def test_statistics_are_the_same_for_any_number_of_workers(scenes):
    assert convnextv2.stats(scenes, workers=0) == convnextv2.stats(scenes, workers=2)


def test_statistics_of_some_bands_and_images(scenes):
    found = convnextv2.stats(scenes, channels="4,1", images=4, workers=0)
    assert found.read_as == Bands(5, (3, 0), format="uint16")
    assert found.read == 4


def test_a_file_that_is_no_statistics_is_refused(scenes, tmp_path, trained):
    good = json.loads((trained / "stats.json").read_text())
    for name, content in {
        "gone": None, "text": "x", "list": "[]", "other": '{"format": "x"}',
        "no spread": json.dumps(good | {"bands": [b | {"input_std": 0} for b in good["bands"]]}),
        "fewer": json.dumps(good | {"bands": good["bands"][:2]}),
        "turned": json.dumps(good | {"bands": [b | {"clip": [2, 1]} for b in good["bands"]]}),
        "nan": json.dumps(good).replace('"missing": 0', '"missing": NaN, "x": 0'),
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError) as caught:
            convnextv2.pretrain(scenes, tmp_path / "run", stats=str(path), **SMALL | QUICK)
        assert "\n" not in str(caught.value), name
        assert path.name in str(caught.value), name
    assert not (tmp_path / "run").exists()


def test_mistakes_in_a_line(scenes, tmp_path):
    run = tmp_path / "run"
    for given, said in (
        ({"channels": "6"}, r"channels=.?6.?: a/00\.tif has 5 bands"),
        ({"in_chans": 4}, "in_chans=4: 5 bands are read; pick 4 with channels"),
        ({"stats": "imagenet"}, "stats='imagenet' is for 8 bits, and the images are uint16|imagenet is for 8 bits"),
        ({"bands": "{id}_X.tif,{id}_Y.tif"}, "no file in .* is named so"),
        ({"channels": "1", "value_range": "0:9"}, "is for pictures, and .* for numbers: give one"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            convnextv2.pretrain(scenes, run, **SMALL | QUICK | given)
        assert "\n" not in str(caught.value)
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="in_chans=4: the images give 1"):
        convnextv2.pretrain(tmp_path, run, **SMALL | QUICK, in_chans=4)
    with pytest.raises(UserError, match=r"all pixels of the 1 images read .* are missing data"):
        convnextv2.stats([np.zeros((8, 8, 5), np.uint16)], nodata=0, workers=0)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 40])
def test_a_picture_shows_the_histograms_of_few_bands_and_the_spread_of_many(count, tmp_path):
    values = np.random.default_rng(0).normal(500, 100, (64, 64, count)).astype(np.int16)
    values[..., 0] = 7  # the same everywhere
    np.save(tmp_path / "a.npy", values)
    made = convnextv2.stats(tmp_path, tmp_path / "s.json", workers=0)
    with Image.open(tmp_path / "s.png") as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 20)}
        assert (0x25, 0x63, 0xA8) in colours
    assert np.array_equal(np.asarray(statistics_picture(made.bands)), np.asarray(Image.open(tmp_path / "s.png")))


# --- training --------------------------------------------------------------------------------------------------------


def test_a_folder_of_bands_needs_no_word(trained, scenes):
    info = convnextv2.load(trained).info
    assert info.architecture.in_chans == BANDS
    made = read_statistics(trained / "stats.json")
    assert info.preprocessing == made.preprocessing
    assert "5 bands of the images are read as numbers: uint16" in (trained / "log.txt").read_text()
    settings = json.loads((trained / "config.json").read_text())["settings"]
    assert settings["channels"] == ["1", "2", "3", "4", "5"]
    assert settings["stats"] == str(trained / "stats.json")
    table = json.loads((trained / "table-reconstruction.json").read_text())
    assert [row[0] for row in table["rows"]] == ["1", "2", "3", "4", "5"]
    page = (trained / "report.html").read_text()
    assert "Error of each band" in page
    assert (trained / "pictures" / "statistics.png").is_file()
    assert "What the numbers of each band are" in page


def test_resumed_and_started_again_it_is_the_same_run(trained, scenes, tmp_path):
    whole = convnextv2.pretrain(scenes, tmp_path / "whole", **SMALL | QUICK | {"epochs": 2}, checkpoint_every=1).run
    again = convnextv2.pretrain(None, tmp_path / "again", config=whole / "config.json").run
    assert run_losses(again) == run_losses(whole)
    assert same(saved_weights(again), saved_weights(whole))
    newest = sorted((whole / "checkpoints").glob("step-*"))
    for late in newest[1:]:
        for file in sorted(late.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        late.rmdir()
    (whole / "checkpoints" / "latest").unlink(missing_ok=True)
    convnextv2.pretrain(None, whole, resume=True)
    assert same(saved_weights(again), saved_weights(whole))
    with pytest.raises(UserError, match=r"channels was .*, now"):
        convnextv2.pretrain(None, whole, resume=True, channels="1,2")


def test_some_bands_in_an_order_of_ones_own_with_a_file_of_statistics(scenes, tmp_path):
    convnextv2.stats(scenes, tmp_path / "s.json", workers=0)
    how = {"stats": str(tmp_path / "s.json"), "channels": "4,2"}
    run = convnextv2.pretrain(scenes, tmp_path / "run", **SMALL | QUICK | how).run
    found, of_all = convnextv2.load(run).preprocessing, read_statistics(tmp_path / "s.json").preprocessing
    assert found.bands.channels == (3, 1)
    assert found.mean == (of_all.mean[3], of_all.mean[1])
    convnextv2.stats(scenes, tmp_path / "two.json", channels="4,2", workers=0)
    with pytest.raises(UserError, match="the statistics are of bands 4, 2"):
        convnextv2.pretrain(scenes, tmp_path / "other", **SMALL | QUICK, stats=str(tmp_path / "two.json"), channels="1")


def test_a_model_sees_what_its_statistics_say(trained, scenes):
    predictor = convnextv2.load(trained).predictor()
    path = scenes / "a" / "02.tif"
    pixels = predictor.read(path)
    assert (pixels.dtype, pixels.shape) == (torch.float32, (BANDS, 32, 32))
    assert pixels.isnan().any(0).sum() > 0
    assert torch.equal(pixels.isnan().any(0), pixels.isnan().all(0))
    seen = predictor.normalise(pixels)
    assert seen.isfinite().all()
    assert not seen[:, pixels.isnan().any(0)].any()
    assert seen[:, ~pixels.isnan().any(0)].abs().mean() == pytest.approx(0.9, abs=0.4)


def test_the_uses_of_a_pretrained_model(trained, scenes, tmp_path, capsys):
    found = convnextv2.embed(trained, scenes, workers=0)
    assert found.features.shape == (16, 16)
    assert np.isfinite(found.features).all()
    again = convnextv2.embed(trained, scenes, channels="1,2,3,4,5", stats=str(trained / "stats.json"), workers=0)
    assert np.array_equal(found.features, again.features)
    with pytest.raises(UserError, match="the model was trained on 1,2,3,4,5"):
        convnextv2.embed(trained, scenes, channels="1,2", workers=0)
    with pytest.raises(UserError, match="the model was trained on numbers, and knows what they mean"):
        convnextv2.embed(trained, scenes, value_range="0:9", workers=0)
    (drawn,) = convnextv2.reconstruct(trained, [scenes / "a" / "02.tif"], tmp_path / "out")
    with Image.open(drawn) as picture:
        assert picture.mode == "RGB"
    scores = convnextv2.probe(trained, scenes, val_fraction=0.25, workers=0)
    assert len(scores.rows) == 2


def test_images_of_other_bands_are_named(trained, scenes, tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", scene(0)[..., :3], photometric="minisblack", planarconfig="contig")
    write(tmp_path / "y.tif", scene(0))
    found = convnextv2.embed(trained, tmp_path, workers=0)
    assert found.bad == (("x.tif", "3 bands, where 5 are read"),)


def test_a_classifier_from_it_knows_the_bands(trained, scenes, tmp_path):
    run = convnextv2.classify(
        scenes, tmp_path / "run", init=trained, val_fraction=0.25, **SMALL_CLASSIFIER | QUICK, mixup=0.0, cutmix=0.0
    ).run
    held = convnextv2.load(run)
    assert held.preprocessing == convnextv2.load(trained).preprocessing
    log = (run / "log.txt").read_text()
    assert "with the statistics of the weights to start from" in log
    assert len(convnextv2.evaluate(run, scenes, workers=0).data) == 16
    predictions = list(convnextv2.predict(run, scenes, workers=0))
    assert len(predictions) == 16
    assert all(prediction.error is None for prediction in predictions)
    with pytest.raises(UserError, match="changes the colours of 8-bit RGB"):
        convnextv2.classify(scenes, tmp_path / "x", rand_augment=5.0, val_fraction=0.25, **SMALL_CLASSIFIER | QUICK)
    other = {"recipe": "supervised", "mixup": 0.0, "cutmix": 0.0, "val_fraction": 0.25}
    plain = convnextv2.classify(scenes, tmp_path / "supervised", **SMALL_CLASSIFIER | QUICK | other).run
    assert (
        "rand augment 0 (it changes the colours of 8-bit RGB, and these are bands)" in (plain / "log.txt").read_text()
    )


def test_bands_in_files_of_their_own_go_the_whole_way(scenes, tmp_path):
    split = tmp_path / "split"
    for path in sorted(scenes.rglob("*.tif")):
        values = tifffile.imread(path)
        (split / path.parent.name).mkdir(parents=True, exist_ok=True)
        for name, band in (("red", 0), ("nir", 3)):
            write(split / path.parent.name / f"{path.stem}_{name}.tif", values[..., band])
    how = {"bands": "{id}_red.tif,{id}_nir.tif"}
    run = convnextv2.pretrain(split, tmp_path / "run", **SMALL | QUICK | how).run
    held = convnextv2.load(run).preprocessing.bands
    assert (held.names, held.files) == (("red", "nir"), ("{id}_red.tif", "{id}_nir.tif"))
    found = convnextv2.embed(run, split, workers=0)
    assert len(found.names) == 16
    swapped = {"bands": "{id}_nir.tif,{id}_red.tif", "init": run}
    other = convnextv2.pretrain(split, tmp_path / "by_name", **SMALL | QUICK | swapped).run
    assert convnextv2.load(other).preprocessing == replace(
        convnextv2.load(run).preprocessing,
        bands=replace(held, channels=(1, 0), files=tuple(swapped["bands"].split(","))),
    )
    other = convnextv2.pretrain(split, tmp_path / "swapped", **SMALL | QUICK | swapped, channels="nir,red").run
    assert "stem inflated from 2 channels to 2 (nir=1,red=0)" in (other / "log.txt").read_text()
    together = convnextv2.pretrain(scenes, tmp_path / "one", **SMALL | QUICK, channels="1,4").run
    other = convnextv2.embed(together, scenes, workers=0)
    assert run_losses(run) == run_losses(together)
    assert np.array_equal(found.features, other.features)
    scores = convnextv2.probe(run, split, val_fraction=0.25, workers=0)
    assert scores.judged == 4
    classifier = convnextv2.classify(
        split, tmp_path / "c", init=run, val_fraction=0.25, **SMALL_CLASSIFIER | QUICK, mixup=0.0, cutmix=0.0
    ).run
    assert len(convnextv2.evaluate(classifier, split, workers=0).data) == 16
    assert len(list(convnextv2.predict(classifier, split, workers=0))) == 16


def test_the_record_of_bands_travels_in_the_model_file(trained):
    held = convnextv2.load(trained)
    statistics = read_statistics(trained / "stats.json")
    assert isinstance(statistics, Statistics)
    assert held.info.from_metadata(held.info.to_metadata()).preprocessing == held.preprocessing
    assert isinstance(held.preprocessing, Preprocessing)
    damaged = dict(held.info.to_metadata())
    said = json.loads(damaged["preprocessing"])
    for name, value in (("channels", [0, 1, 2, 3, 9]), ("count", -1), ("clip", [[2, 1]] * 5), ("channels", [])):
        wrong = json.dumps(said | {"bands": said["bands"] | {name: value}})
        with pytest.raises(ValueError, match=r"channels|band|clipped"):
            held.info.from_metadata(damaged | {"preprocessing": wrong})


def test_bands_that_are_shown(scenes, tmp_path):
    how = {"channels": "5,4,2", "show": "2,5,4"}
    run = convnextv2.pretrain(scenes, tmp_path / "run", **SMALL | QUICK | how).run
    held = convnextv2.load(run).preprocessing
    assert (held.bands.show, held.shown) == ((2, 0, 1), (2, 0, 1))
    assert json.loads((run / "config.json").read_text())["settings"]["show"] == ["2", "5", "4"]
    convnextv2.embed(run, scenes, stats=str(run / "stats.json"), workers=0)
    with pytest.raises(UserError, match=r"show 1: give one to three of the bands that are read, 5, 4, 2|show.*5, 4, 2"):
        convnextv2.pretrain(scenes, tmp_path / "other", **SMALL | QUICK | how | {"show": "1"})


def test_changes_of_bands_in_training(scenes, picture_folder, tmp_path):
    how = {**SMALL_CLASSIFIER, **QUICK, "val_fraction": 0.25, "mixup": 0.0, "cutmix": 0.0, "orientation": "any"}
    run = convnextv2.classify(scenes, tmp_path / "run", **how, recipe="supervised", band_dropout=0.2).run
    assert "band jitter 0.2 (in place of RandAugment)" in (run / "log.txt").read_text()
    assert json.loads((run / "config.json").read_text())["settings"]["band_jitter"] == 0.2
    convnextv2.pretrain(scenes, tmp_path / "turned", **SMALL | QUICK, orientation="any", crops_per_image=3)
    with pytest.raises(UserError, match="are for bands, and these are pictures"):
        convnextv2.classify(picture_folder, tmp_path / "other", **how, band_jitter=0.1)


def named(path, values, names):
    items = "".join(f'<Item name="DESCRIPTION" sample="{k}" role="description">{n}</Item>' for k, n in enumerate(names))
    tags = [(42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)]
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", extratags=tags)


@pytest.fixture(scope="module")
def named_bands(tmp_path_factory):
    """Folders of the same scenes: bands in one order, in another with one more, of other names, and as 8 bits."""
    root, names = tmp_path_factory.mktemp("named"), ["blue", "green", "red", "nir", "swir"]
    for name in ("own", "other", "foreign", "bytes"):
        (root / name).mkdir()
    for number in range(8):
        values, file = scene(number), f"{number}.tif"
        named(root / "own" / file, values, names)
        named(
            root / "other" / file, values[..., [4, 2, 0, 0, 3, 1]], ["swir", "red", "coastal", "blue", "nir", "green"]
        )
        named(root / "foreign" / file, values, ["VV", "VH", "HH", "HV", "angle"])
        named(root / "bytes" / file, (values >> 6).astype(np.uint8), names)
    run = convnextv2.pretrain(root / "own", root / "run", **SMALL | QUICK).run
    return root, run


def test_bands_are_found_by_their_names(named_bands, tmp_path):
    root, run = named_bands
    expected = convnextv2.embed(run, root / "own", workers=0).features
    with pytest.warns(Notice, match=r"in another order than in training, and read by their names, blue, green, red"):
        found = convnextv2.embed(run, root / "other", workers=0).features
    assert np.array_equal(found, expected)
    further = convnextv2.pretrain(root / "other", tmp_path / "further", init=run, **SMALL | QUICK).run
    held = convnextv2.load(further).preprocessing
    assert (held.bands.channels, held.bands.count) == ((3, 5, 1, 4, 0), 6)
    assert held.mean == convnextv2.load(run).preprocessing.mean
    same_pixels = convnextv2.pretrain(root / "own", tmp_path / "same", init=run, **SMALL | QUICK).run
    assert run_losses(further) == run_losses(same_pixels)


def test_other_bands_and_other_values_are_told(named_bands):
    root, run = named_bands
    with pytest.warns(
        Notice, match=r"trained on the bands blue, .*, and these are VV, VH, HH, HV, angle: .* by their pla"
    ):
        convnextv2.embed(run, root / "foreign", workers=0)
    with pytest.warns(
        Notice, match=r"values are from \d+ to \d+, and in training they were from 0 to \d+: give files in"
    ):
        convnextv2.embed(run, root / "bytes", workers=0)
