"""Intervals: one function per claim that a caption makes. scipy is imported when one is asked for."""
