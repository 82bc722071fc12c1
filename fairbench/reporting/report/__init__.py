"""One self-contained page of a results folder: who is fair, how sure that is, where every number comes from.

`collect.py` gathers tables, runs and methods, `page.py` writes them, `report.js` only rearranges what is
written: without JavaScript every table is still there.
"""

from fairbench.reporting.report.collect import Report, collect
from fairbench.reporting.report.page import page

__all__ = ["Report", "collect", "page"]
