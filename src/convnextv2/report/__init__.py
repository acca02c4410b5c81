"""One self-contained HTML page about a run: reads a run folder's files and nothing else of ours."""

from convnextv2.report.page import write_report

__all__ = ["write_report"]
