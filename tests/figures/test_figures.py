"""The confusion picture and the sheet of predictions, judged by their pixels."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convnextv2.figures import confusion_picture, prediction_sheet
from convnextv2.figures.letters import TEXT, Letters

PAGE, GREY = (253, 253, 251), (228, 229, 227)
GREEN, RED = (47, 122, 69), (181, 51, 42)
MARGIN, TILE, FRAME, STEP = 20, 160, 3, 160 + 2 * 3 + 18
NAMES = ("an awfully long name of a class that goes on and on, with a comma {}", "Жираф ü {}", "衣服{}", "$x_{}^")


def pixels(picture):
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def box(mask):
    """Top, bottom, left, right of what is true."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def differences(first, second):
    assert first.size == second.size
    return (pixels(first) != pixels(second)).any(-1)


@cache
def cells(classes):
    """A perfect classifier of at least two classes "xxx", and where its cells are: top, bottom, left, right."""
    names = ["xxx"] * classes
    right = confusion_picture(9 * torch.eye(classes, dtype=torch.int64), names)
    wrong = confusion_picture(9 * torch.eye(classes, dtype=torch.int64).flip(0), names)
    return pixels(right), box(differences(right, wrong))


def test_right_and_wrong_are_seen_where_they_are():
    names = ["a", "b", "c"]
    right = confusion_picture(9 * torch.eye(3, dtype=torch.int64), names)
    wrong = confusion_picture(9 * torch.eye(3, dtype=torch.int64).flip(0), names)
    different = differences(right, wrong)
    top, bottom, left, end = box(different)
    assert (bottom - top, end - left) == (360, 360)
    inside = different[top:bottom, left:end].reshape(3, 120, 3, 120).mean((1, 3))
    assert (inside[[0, 0, 2, 2], [0, 2, 0, 2]] > 0.95).all()
    assert (inside[[0, 1, 1, 1, 2], [1, 0, 1, 2, 1]] == 0).all()
    corner = np.s_[top + 5, left + 5]
    red, _, blue = pixels(right)[corner]
    assert blue > red + 60  # right is blue
    red, _, blue = pixels(wrong)[top + 5, end - 5]
    assert red > blue + 60  # wrong is orange
    assert (pixels(wrong)[corner] == 255).all()


@pytest.mark.parametrize("classes", [50, 100])
def test_cells_lie_on_whole_pixels(classes):
    picture, (top, bottom, left, end) = cells(classes)
    cell = 800 // classes
    assert bottom - top == end - left == cell * classes
    blue = picture[top:bottom, left:end, 2] > picture[top:bottom, left:end, 0] + 60
    expected = np.eye(classes, dtype=bool).repeat(cell, 0).repeat(cell, 1)
    wrong = (blue != expected).reshape(classes, cell, classes, cell)
    # Lines between the cells, where there are any, and the frame.
    assert not (wrong[:, 1:-1, :, 1:-1] if cell >= 16 else wrong.reshape(blue.shape)[1:-1, 1:-1]).any()


def test_a_rare_mistake_shows():
    matrix = 500 * torch.eye(30, dtype=torch.int64)
    before = confusion_picture(matrix, ["x"] * 30)
    matrix[3, 20] = 5
    after = confusion_picture(matrix, ["x"] * 30)
    different = differences(before, after)
    strongest = np.abs(pixels(before) - pixels(after))[different].max()
    assert strongest > 15


def test_shares_are_of_the_row():
    few = torch.tensor([[8, 2, 0], [10, 90, 0], [0, 0, 5]])
    names = ["xxx"] * 3
    first, second = pixels(confusion_picture(few, names)), pixels(confusion_picture(few * 3, names))
    _, (top, _, left, _) = cells(3)
    for row in range(3):
        for column in range(3):
            place = np.s_[top + 120 * row + 8, left + 120 * column + 8]
            assert (first[place] == second[place]).all()


@pytest.mark.parametrize(("classes", "written"), [(20, True), (21, False)])
def test_counts_are_written_up_to_twenty_classes(classes, written):
    picture, (top, _, left, _) = cells(classes)
    inside = picture[top + 3 : top + 36, left + 3 : left + 36]
    assert (inside.max() == 255) == written  # white digits on blue


def test_a_big_count_stays_in_its_cell():
    matrix = torch.ones(20, 20, dtype=torch.int64)
    pictures = []
    for count in (12_345_678, 87_654_321):
        matrix[5, 5] = count
        pictures.append(confusion_picture(matrix, ["xxx"] * 20))
    _, (top, _, left, _) = cells(20)
    first, last, start, end = box(differences(*pictures))
    assert top + 200 < first < last < top + 240
    assert left + 201 < start < end < left + 239


def test_a_class_without_pictures_is_grey():
    matrix = 5 * torch.eye(4, dtype=torch.int64)
    matrix[1] = 0
    names = ["xxx"] * 4
    picture = pixels(confusion_picture(matrix, names))
    _, (top, _, left, end) = cells(4)
    rows = (picture[top : top + 480, left:end] == GREY).all(-1).reshape(4, 120, -1).mean((1, 2))
    assert rows[1] > 0.95
    assert (rows[[0, 2, 3]] < 0.05).all()
    everything = confusion_picture(torch.zeros(2, 2, dtype=torch.int64), ["x", "y"])
    assert everything.width > 240


@pytest.mark.parametrize("classes", [1, 2, 20, 40, 200])
def test_nothing_is_cut_and_the_margins_are_even(classes):
    matrix = torch.randint(0, 50, (classes, classes))
    picture = pixels(confusion_picture(matrix, [NAMES[k % 4].format(k) for k in range(classes)]))
    height, width, _ = picture.shape
    top, bottom, left, right = box((picture != PAGE).any(-1))
    for gap in (top, left, height - bottom, width - right):
        assert MARGIN - 1 <= gap <= MARGIN + 4
    assert width < 1250
    assert height < 1150


@pytest.mark.parametrize(("classes", "named"), [(2, 2), (20, 20), (50, 50), (51, 26), (100, 50)])
def test_labels_stand_apart(classes, named):
    picture, (top, bottom, left, _) = cells(classes)
    strip = picture[top - 8 : bottom + 8, left - 20 : left - 7].max(-1) < 130
    rows = strip.any(1)
    assert (np.diff(rows.astype(int)) == 1).sum() == named


def test_the_end_of_a_long_name_is_kept():
    long = "the same words at the start of every single class name " * 3
    matrix = torch.eye(2, dtype=torch.int64)
    first, second = (confusion_picture(matrix, [long + "0", long + end]) for end in "12")
    assert differences(first, second).any()


def test_more_classes_than_pixels():
    assert max(confusion_picture(torch.eye(1100, dtype=torch.int64), ["x"] * 1100).size) < 1250


def test_small_pictures_are_enlarged_in_squares():
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    sheet = pixels(prediction_sheet(images, [["a"], ["b"], ["c"]], [True, False, True]))
    for number, colour in enumerate((GREEN, RED, GREEN)):
        x = MARGIN + number * STEP
        framed = sheet[MARGIN : MARGIN + TILE + 2 * FRAME, x : x + TILE + 2 * FRAME]
        inner = framed[FRAME:-FRAME, FRAME:-FRAME]
        assert (inner == images[number].permute(1, 2, 0).numpy().repeat(5, 0).repeat(5, 1)).all()
        for edge in (framed[:FRAME], framed[-FRAME:], framed[:, :FRAME], framed[:, -FRAME:]):
            assert (edge == colour).all()


@pytest.mark.parametrize("size", [8, 28, 45, 46, 64])
def test_small_pictures_come_near_the_usual_size(size):
    images = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    top, bottom, left, right = box((pixels(prediction_sheet(images, [[]])) == 0).all(-1))
    assert bottom - top == right - left
    assert 128 <= bottom - top <= 192
    assert (bottom - top) % size == 0


@pytest.mark.parametrize(
    ("shape", "shown"), [((100, 100), (160, 160)), ((600, 300), (160, 80)), ((65, 900), (12, 160))]
)
def test_other_pictures_keep_their_shape(shape, shown):
    images = torch.zeros(2, 3, *shape, dtype=torch.uint8)
    sheet = pixels(prediction_sheet(images, [[], []]))
    top, bottom, left, right = box((sheet == 0).all(-1)[:, : MARGIN + STEP - 9])
    assert (bottom - top, right - left) == shown


def test_grey_pictures_are_shown_in_grey():
    images = torch.randint(0, 256, (1, 1, 80, 80), dtype=torch.uint8)
    sheet = pixels(prediction_sheet(images, [["a"]]))
    inner = sheet[MARGIN + FRAME :][:TILE, MARGIN + FRAME :][:, :TILE]
    assert (inner[..., 0] == inner[..., 2]).all()
    assert inner.std() > 10


@pytest.mark.parametrize(
    ("number", "columns", "across", "down"), [(12, 6, 6, 2), (13, 6, 6, 3), (2, 6, 2, 1), (3, 1, 1, 3)]
)
def test_rows_and_columns(number, columns, across, down):
    images = torch.zeros(number, 3, 160, 160, dtype=torch.uint8)
    sheet = prediction_sheet(images, [["true: a", "b 93 %"]] * number, columns=columns)
    assert sheet.width == across * STEP - 18 + 2 * MARGIN
    black = (pixels(sheet) == 0).all(-1)
    assert black.sum() == number * TILE**2
    starts = np.flatnonzero(np.diff(black.any(1).astype(int)) == 1)
    assert len(starts) == down
    assert len(set(np.diff(starts))) <= 1


def test_no_pictures_is_said():
    sheet = pixels(prediction_sheet(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), []))
    assert (sheet != PAGE).any()


def test_a_long_line_keeps_its_percentage():
    images = torch.zeros(1, 3, 160, 160, dtype=torch.uint8)
    long = "one_very_long_name_of_a_class_without_any_space"
    assert differences(*(prediction_sheet(images, [[f"{long} {share} %"]]) for share in (93, 18))).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=0x24F), max_size=120), min_size=1, max_size=3))
def test_any_text_stays_in_its_column(lines):
    images = torch.zeros(2, 3, 160, 160, dtype=torch.uint8)
    blank = (pixels(prediction_sheet(images, [lines, lines])) == PAGE).all(-1)
    assert blank[:, MARGIN + STEP - 12 : MARGIN + STEP].all()
    assert blank[:, -(MARGIN - 4) :].all()
    assert blank[:, : MARGIN - 4].all()
    assert blank[-(MARGIN - 4) :].all()


@given(st.lists(st.text(max_size=40), max_size=3))
@settings(max_examples=30, deadline=None)
def test_no_text_is_refused(lines):
    prediction_sheet(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), [lines])


@pytest.mark.parametrize(
    "name", ["", "\n", "a\nb", "\udcff", "$\\frac{$", "\u202e\u0645\u0631\u062d\u0628\u0627", "e\u0301" * 90]
)
def test_odd_names_are_drawn(name):
    confusion_picture(torch.eye(2, dtype=torch.int64), [name, "other"])
    prediction_sheet(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), [[name]])


def test_a_number_stays_with_its_percent_sign():
    letters = Letters(TEXT)
    assert letters.wrap("predicted: outwear 59 %", letters.width("predicted: outwear 59")) == [
        "predicted: outwear",
        "59 %",
    ]
