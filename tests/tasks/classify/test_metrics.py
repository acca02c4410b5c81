"""The numbers of a classifier, against plain loops and cases worked out by hand."""

import ast
import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convnextv2.figures.confusion as confusion_module
from convnextv2.errors import RunFailedError
from convnextv2.figures import sheet
from convnextv2.tasks.classify import metrics
from convnextv2.tasks.classify.metrics import (
    ClassScore,
    LabelScore,
    confusion,
    main_metric,
    per_class,
    per_class_multi,
    score,
)

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
close = pytest.approx


@st.composite
def logits_of(draw, classes):
    """Logits of 1 to 30 pictures; whole numbers, with many ties, or any."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 30)), draw(classes))
    if draw(st.booleans()):
        values = torch.randint(-3, 4, shape, generator=generator)
    else:
        values = 3 * torch.randn(shape, generator=generator)
    return values.to(draw(st.sampled_from(DTYPES))), generator


@st.composite
def single(draw, fewest=1, most=9):
    logits, generator = draw(logits_of(st.integers(fewest, most)))
    last = draw(st.integers(1, logits.shape[1]))  # classes from here on have no picture
    return logits, torch.randint(0, last, (len(logits),), generator=generator)


@st.composite
def several(draw):
    logits, generator = draw(logits_of(st.integers(1, 6)))
    share = draw(st.sampled_from([0, 0.1, 0.5, 1]))
    return logits, (torch.rand(logits.shape, generator=generator) < share).to(logits.dtype)


def calibration_error(probabilities, right):
    total = 0
    for b in range(15):
        inside = [(p, r) for p, r in zip(probabilities, right, strict=True) if b / 15 < p <= (b + 1) / 15]
        if inside:
            total += abs(sum(r for _, r in inside) - sum(p for p, _ in inside))
    return total / len(right)


def count_pairs(scores, has):
    """How often a positive is above a negative; None without a pair."""
    pairs = [
        (a > b) + (a == b) / 2
        for a, p in zip(scores, has, strict=True)
        if p
        for b, q in zip(scores, has, strict=True)
        if not q
    ]
    return sum(pairs) / len(pairs) if pairs else None


def average_precision(scores, has):
    """Precision at each threshold, weighed by the recall it adds."""
    total = found = 0
    for threshold in sorted(set(scores), reverse=True):
        above = [h for s, h in zip(scores, has, strict=True) if s >= threshold]
        total += (sum(above) - found) * sum(above) / len(above)
        found = sum(above)
    return total / found if found else None


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


@settings(deadline=None, max_examples=60)
@given(single())
def test_one_class_a_picture_against_plain_loops(case):
    logits, labels = case
    rows, truth, classes = logits.double().tolist(), labels.tolist(), logits.shape[1]
    sums = [sum(math.exp(v - max(row)) for v in row) for row in rows]
    order = [sorted(range(classes), key=lambda k: -row[k]) for row in rows]  # stable: of equals the first
    right = [ranks[0] == t for ranks, t in zip(order, truth, strict=True)]
    found = score(logits, labels)
    pairs = zip(rows, sums, truth, strict=True)
    assert found["loss"] == close(mean([math.log(s) + max(row) - row[t] for row, s, t in pairs]), abs=1e-12)
    assert found["top1"] == close(mean(right))
    if classes > 5:
        assert found["top5"] == close(mean([t in ranks[:5] for ranks, t in zip(order, truth, strict=True)]))
    else:
        assert "top5" not in found
    shares = [mean([r for r, t in zip(right, truth, strict=True) if t == k]) for k in set(truth)]
    assert found["mean_class"] == close(mean(shares))
    assert found["ece"] == close(calibration_error([1 / s for s in sums], right), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(single(2, 2))
def test_auroc_of_two_classes_counts_pairs(case):
    logits, labels = case
    margins = (logits[:, 1].double() - logits[:, 0].double()).tolist()
    expected = count_pairs(margins, labels.tolist())
    assert score(logits, labels).get("auroc") == (None if expected is None else close(expected))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(3, 6))
def test_auroc_of_many_classes_is_the_mean_of_each_against_the_rest(seed, pictures, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(pictures, classes, generator=generator)
    labels = torch.randint(0, classes, (pictures,), generator=generator)
    columns = [[math.exp(row[k]) / sum(map(math.exp, row)) for row in logits.double().tolist()] for k in range(classes)]
    expected = mean([count_pairs(column, (labels == k).tolist()) for k, column in enumerate(columns)])
    assert score(logits, labels).get("auroc") == (None if expected is None else close(expected))


@settings(deadline=None, max_examples=60)
@given(several())
def test_several_classes_a_picture_against_plain_loops(case):
    logits, labels = case
    values, has = logits.double().flatten().tolist(), labels.flatten().tolist()
    probabilities = [1 / (1 + math.exp(-v)) for v in values]
    columns = list(zip(logits.double().T.tolist(), labels.T.tolist(), strict=True))
    said = [p > 0.5 for p in probabilities]
    both = sum(s and h for s, h in zip(said, has, strict=True))
    expected = {
        "loss": mean([-math.log(p if h else 1 - p) for p, h in zip(probabilities, has, strict=True)]),
        "map": mean([average_precision(*column) for column in columns]),
        "auroc": mean([count_pairs(*column) for column in columns]),
        "f1": 2 * both / (sum(said) + sum(has)) if any(said) or any(has) else None,
        "ece": calibration_error(probabilities, has),
    }
    expected = {name: close(value, abs=1e-12) for name, value in expected.items() if value is not None}
    assert score(logits, labels) == expected


def test_worked_out_by_hand():
    # Probabilities 0.8 0.1 0.1, 0.6 0.3 0.1, 0.25 0.5 0.25: right, wrong, right.
    logits = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]], dtype=torch.float64).log()
    labels = torch.tensor([0, 1, 1])
    expected = {
        "loss": -(math.log(0.8) + math.log(0.3) + math.log(0.5)) / 3,
        "top1": 2 / 3,
        "mean_class": 3 / 4,
        "auroc": 1.0,
        "ece": (0.2 + 0.6 + 0.5) / 3,
    }
    assert score(logits, labels) == close(expected)


def test_several_classes_worked_out_by_hand():
    logits = torch.tensor([[2.0, -1.0, -3.0], [1.0, -2.0, -3.0], [-1.0, 3.0, -3.0]])
    labels = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = score(logits, labels)
    assert found["map"] == close(((1 / 2 + 2 / 3) / 2 + 1) / 2)  # the third class has no positive
    assert found["auroc"] == close((0 + 1) / 2)
    assert found["f1"] == close(2 * 2 / (3 + 3))


def test_a_model_that_says_nothing_earns_nothing():
    """All logits equal: the first class is named, not the right one."""
    labels = torch.arange(10)
    found = score(torch.zeros(10, 10), labels)
    assert found["top1"] == close(0.1)
    assert found["top5"] == close(0.5)
    assert found["auroc"] == close(0.5)
    assert found["loss"] == close(math.log(10))
    assert found["ece"] == close(0)


def test_a_bin_holds_its_upper_edge():
    # 1/5 ends the third bin of 15, so that a picture a little surer is not in it.
    edge = torch.zeros(1, 5, dtype=torch.float64)
    surer = torch.tensor([[0.21, 0.1975, 0.1975, 0.1975, 0.1975]], dtype=torch.float64).log()
    found = score(torch.cat([edge, surer]), torch.tensor([0, 1]))
    assert found["ece"] == close((0.8 + 0.21) / 2)


@pytest.mark.parametrize("classes", [1, 2, 3, 6])
def test_one_picture_is_enough(classes):
    found = score(torch.eye(classes)[:1], torch.tensor([0]))
    assert found["top1"] == found["mean_class"] == 1
    assert "auroc" not in found
    assert all(map(math.isfinite, found.values()))


def test_no_pictures_no_numbers():
    assert score(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == {}
    assert score(torch.zeros(0, 4), torch.zeros(0, 4)) == {}
    assert confusion(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 4).sum() == 0


def test_sure_pictures_are_still_ranked():
    """Probabilities round to 1 long before the logits are equal."""
    logits = torch.tensor([[0.0, 900.0], [0.0, 800.0], [0.0, 700.0]])
    assert score(logits, torch.tensor([1, 1, 0]))["auroc"] == 1
    assert score(logits[:, 1:], torch.tensor([[1.0], [1.0], [0.0]]))["map"] == 1


def test_the_main_number_is_among_the_numbers():
    logits = torch.randn(4, 3)
    assert main_metric(False) in score(logits, torch.tensor([0, 1, 2, 0]))
    assert main_metric(True) in score(logits, torch.eye(4, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_that_are_not_finite_stop_the_run(value, dtype):
    logits = torch.zeros(5, 3, dtype=dtype)
    logits[2, 1] = logits[4] = value
    classes, many = torch.zeros(5, dtype=torch.int64), torch.zeros(5, 3)
    for judge in (
        lambda: score(logits, classes),
        lambda: score(logits, many),
        lambda: confusion(logits, classes, 3),
        lambda: per_class_multi(logits, many, "abc"),
    ):
        with pytest.raises(RunFailedError, match="not finite for 2 of 5 images") as raised:
            judge()
        assert "\n" not in str(raised.value)


@settings(deadline=None, max_examples=60)
@given(single())
def test_the_confusion_matrix_counts(case):
    logits, labels = case
    classes = logits.shape[1]
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected[label, row.index(max(row))] += 1
    matrix = confusion(logits, labels, classes)
    assert matrix.dtype == torch.int64
    assert matrix.equal(expected)
    found = score(logits, labels)
    assert matrix.trace() / len(labels) == close(found["top1"])
    accuracies = [one.accuracy for one in per_class(matrix, [str(k) for k in range(classes)])]
    assert mean(accuracies) == close(found["mean_class"])


def test_classes_of_a_confusion_matrix():
    matrix = torch.tensor([[3, 1, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
    assert per_class(matrix, ["a", "b", "c", "d"]) == [
        ClassScore("a", pictures=6, accuracy=0.5, precision=0.75, most_confused_with="c", confused=2),
        ClassScore("b", pictures=4, accuracy=1.0, precision=4 / 6, most_confused_with=None, confused=0),
        ClassScore("c", pictures=0, accuracy=None, precision=0.0, most_confused_with=None, confused=0),
        ClassScore("d", pictures=2, accuracy=0.0, precision=None, most_confused_with="a", confused=1),
    ]
    assert per_class(torch.tensor([[5]]), ["only"]) == [ClassScore("only", 5, 1.0, 1.0, None, 0)]


def test_classes_of_pictures_that_may_have_several():
    logits = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.bfloat16)
    labels = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    assert per_class_multi(logits, labels, ["a", "b", "c"]) == [
        LabelScore("a", positives=2, average_precision=(1 / 2 + 2 / 3) / 2, auroc=0.0),
        LabelScore("b", positives=0, average_precision=None, auroc=None),
        LabelScore("c", positives=3, average_precision=1.0, auroc=None),
    ]


@settings(deadline=None, max_examples=60)
@given(several())
def test_the_mean_over_the_classes_is_the_whole(case):
    logits, labels = case
    found, classes = score(logits, labels), per_class_multi(logits, labels, "abcdef"[: logits.shape[1]])
    assert mean([one.average_precision for one in classes]) == found.get("map")
    assert mean([one.auroc for one in classes]) == found.get("auroc")


@pytest.mark.parametrize("module", [metrics, confusion_module, sheet])
def test_importing_costs_neither_scikit_learn_nor_matplotlib(module):
    top = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = " ".join(ast.unparse(node) for node in top)
    assert "torch" in names
    assert not {"sklearn", "matplotlib"} & set(names.replace(".", " ").split())
