"""`fieldwise sweep`: one recipe with several values of some settings, each in a run of its own below the run.

The runs share the store of the run they belong to, so that what no value changes is made once.
"""
