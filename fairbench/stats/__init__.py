"""Confidence intervals, paired comparisons and the statistics of the worst class.

scipy is imported inside functions, because that takes long and many commands do without it.
"""
