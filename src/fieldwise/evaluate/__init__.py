"""Measure answerers on questions that training never saw, each figure with its interval and its baseline.

In: questions, answerers. Out: `5_reports/`: predictions, a report, gate verdicts. Imports ground, run, tools.
"""
