"""Let people vote blind between the answers of two systems, and say what the votes show.

In: predictions of a run, or two files of them. Out: `5_reports/votes.jsonl`, a result, preference pairs.
Imports the tools, ground, run, and of the stages the statistics of `evaluate`; apart from that room, since what
people vote on later must not make a measurement stale.
"""
