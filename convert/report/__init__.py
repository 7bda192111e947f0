"""The report of a conversion: one HTML file that needs nothing else.

`collect` measures, `data.ReportData` holds what was measured, `page.render` makes the text.
"""

from __future__ import annotations

from convert.report.collect import collect
from convert.report.page import write_report

__all__ = ["collect", "write_report"]
