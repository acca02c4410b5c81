"""The demo, cut short."""

from convnextv2.verbs.demo import demo


def test_the_demo_makes_a_table_and_a_report(tmp_path):
    result = demo(tmp_path / "demo", minutes=0.05)
    assert len(result.rows) == 3
    page = result.report.read_text()
    for row in result.rows:
        assert all(cell in page for cell in row)
    assert (tmp_path / "demo" / "run" / "checkpoints" / "latest").is_file()
