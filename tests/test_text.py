"""Names and messages on a terminal, and cells of a CSV: harmless, and exactly what they were when read back."""

import csv
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnextv2.text import (
    csv_cell,
    csv_labels,
    from_csv_cell,
    json_line,
    labels_from_csv_cell,
    printable,
    quoted,
    unquoted,
)

ODD = [
    "", "cat", "a b", " a", "a ", "\ta", "=1+1", "+1", "-1", "-1.5e-3", "-x", "@SUM(A1)", "\t=1", "\r=1",
    "\n=1", "=1\n", "'", "''", "'=1", "''=1", "'-5", "'tis", "'s-Hertogenbosch", "$", "$'", "$'a'", "'$'a'",
    "$'a\\x1b'", "\\", "\\n", "a\\", "=\\x1b'", "$'a\\", "\x1b[31mred\x1b[0m", "\x9b31m", "\x7f", "\x00",
    "\u202egpj.exe", "\u2066x", "a\u2028b", "no utf8 \udcff", "caf\udce9", "café", "cafe\u0301", "衣服",
    "\U0001f600", "a;b", ";", "a,b", '"', 'a"b', "＝1", "－", "-1;2", "1e5", "+", "-", "=", "@", "C:\\new\\x41",
    "-inf", "0.5;0.25",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_cell_is_harmless_and_comes_back(text):
    cell, label = csv_cell(text), csv_labels([text])
    assert from_csv_cell(cell.strip()) == from_csv_cell(label.strip()) == text
    assert labels_from_csv_cell(label.strip()) == [text]
    for safe in (cell, label):
        assert printable(safe) == safe
        safe.encode()
    if text.lstrip("\t\r")[:1] in ("=", "+", "-", "@") and not text[1:2].isdigit():
        assert cell.startswith("'")


@pytest.mark.parametrize("number", ["-1", "+1", "-1.5e-3", "-.5", "0", "1e5", "-0.25;-0.5"])
def test_numbers_stay_numbers(number):
    assert csv_labels(number.split(";")) == number
    assert from_csv_cell(csv_cell(number)) == number


@pytest.mark.parametrize(
    ("texts", "cell"),
    [
        (["=1+1"], "'=1+1"),
        (["\t=1"], "'$'\\t=1'"),
        (["a\x1b[31m.png"], "$'a\\x1b[31m.png'"),
        (["new\nline"], "$'new\\nline'"),
        (["caf\udce9"], "$'caf\\xe9'"),
        (["\u202egpj"], "$'\\u202egpj'"),
        (["cat "], "$'cat '"),
        (["cat;dog"], "$'cat\\x3bdog'"),
        (["cat", "dog"], "cat;dog"),
        (["a;b", "=c"], "$'a\\x3bb';=c"),
        (["-a", "b"], "'-a;b"),
        (["it's"], "it's"),
        ([], ""),
    ],
)
def test_cells_as_they_are_written(texts, cell):
    assert csv_labels(texts) == cell
    assert labels_from_csv_cell(cell) == (texts or [""])


def test_what_others_wrote_stays():
    for cell in ("'cat'", "'s-Hertogenbosch", "$5", "it's", "''", "C:\\new", "O'=x"):
        assert from_csv_cell(cell) == cell


@given(st.lists(st.text(st.characters(), min_size=1), min_size=1, max_size=3))
def test_any_texts_come_back_from_a_file(texts):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow([csv_labels(texts), csv_cell(texts[0])])
    text = file.getvalue()
    assert text.encode().decode() == text
    assert printable(text[:-1]) == text[:-1]
    (row,) = csv.reader(io.StringIO(text, newline=""))
    assert labels_from_csv_cell(row[0].strip()) == texts
    assert from_csv_cell(row[1].strip()) == texts[0]


@given(st.binary())
def test_any_name_of_a_file_comes_back(name):
    text = os.fsdecode(name)
    assert unquoted(quoted(text)) == text
    assert quoted(text).encode() is not None


def test_every_control_character_is_escaped():
    harmful = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xDC80]
    for code in harmful:
        for safe in (printable(f"a{chr(code)}b"), csv_cell(f"a{chr(code)}b"), json_line({chr(code): chr(code)})):
            assert chr(code) not in safe
            assert safe.encode()
        assert json.loads(json_line(chr(code))) == chr(code)
    assert printable("a\x1b[31m\n\udcff") == "a\\x1b[31m\\n\\udcff"
    assert printable("Жираф 衣服 café") == "Жираф 衣服 café"
