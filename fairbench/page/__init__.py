"""The report: one self-contained HTML page of a results folder.

`content.py` collects tables, runs and methods, `document.py` writes the page. `page.js` only rearranges what
is written: without JavaScript every table is still there.
"""

from fairbench.page.content import PageContent, collect_content
from fairbench.page.document import render_page, require_folder, write_page

__all__ = ["PageContent", "collect_content", "render_page", "require_folder", "write_page"]
