"""Figures from records: one module per kind; each figure comes with its data and a caption.

`panels.py` chooses the tables to draw, `data_rows.py` makes rows of their numbers, `drawing.py` has the parts
that several kinds draw, `style.py` and `figure.mplstyle` their colours and sizes. matplotlib and pandas are
imported when a figure is drawn, torch never.
"""
