"""One self-contained page of a results folder: who is fair, how sure that is, where every number comes from.

`collect.py` gathers tables, runs and methods, `page.py` writes them, `page.js` only rearranges what is
written: without JavaScript every table is still there.
"""

from fairbench.page.collect import PageContent, collect
from fairbench.page.page import page

__all__ = ["PageContent", "collect", "page"]
