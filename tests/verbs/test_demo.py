"""The demo, cut short."""

from convnextv2.verbs import demo as module
from convnextv2.verbs.demo import demo


def test_the_demo_makes_a_table_a_report_and_classifiers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(module, "DRAWS", 1)
    result = demo(tmp_path / "demo", minutes=0.05)
    assert [len(row) for row in result.rows] == [1 + module.DRAWS] * 4
    page = result.report.read_text()
    for row in result.rows:
        assert all(cell in page for cell in row)
    assert (tmp_path / "demo" / "run" / "checkpoints" / "latest").is_file()
    table = (tmp_path / "demo" / "labels-1.csv").read_text().splitlines()
    assert sum(line.endswith(",train") for line in table) == 30
    assert sum(line.endswith(",val") for line in table) == 1767
    for name in ("classifier-1", "scratch-1"):
        assert (tmp_path / "demo" / name / "report.html").is_file()
