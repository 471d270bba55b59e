"""A result for people: tables, figures, and one self-contained HTML page."""

from eagleray.diagnostics.verdicts import Verdict, judge
from eagleray.report.corner import corner_figure
from eagleray.report.figures import calibration_figure, model_figure, render_images, training_figure
from eagleray.report.light_curve import light_curve_figure
from eagleray.report.page import render_page
from eagleray.report.tables import ParameterRow, parameter_table, render_table, write_batch_csv, write_summary_csv
from eagleray.report.write import write_figures, write_report

__all__ = [
    "ParameterRow",
    "Verdict",
    "calibration_figure",
    "corner_figure",
    "judge",
    "light_curve_figure",
    "model_figure",
    "parameter_table",
    "render_images",
    "render_page",
    "render_table",
    "training_figure",
    "write_batch_csv",
    "write_figures",
    "write_report",
    "write_summary_csv",
]
