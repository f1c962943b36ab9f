"""
The report: all figures with their captions in one file, written when a study has succeeded.

Requires: the figures, their captions and summary.md (figures.smk).
Gives:    {results}/report.html
"""

import logging

from snakemake.logging import logger
from snakemake.settings.types import DAGSettings, GlobalReportSettings
from snakemake_interface_report_plugins.registry import ReportPluginRegistry


def write_report() -> None:
    """Write the report of the whole study, whatever the targets of this run were.

    In this process, as `--report-after-run` does: another one would read Snakemake's modules and
    the workflow again, which takes as long as the report.
    """
    html = ReportPluginRegistry().get_plugin("html")
    settings = html.settings_cls(path=Path(RESULTS, "report.html"))
    workflow.dag_settings = DAGSettings()
    level = logger.level
    logger.setLevel(logging.WARNING)  # a line for each figure otherwise
    try:
        workflow.create_report(html, settings, GlobalReportSettings())
    finally:
        logger.setLevel(level)
