"""Figures from records: one idea per module, each with the data it draws and a caption beside it.

matplotlib and pandas are imported when a figure is drawn, torch never.
"""
