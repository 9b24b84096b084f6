"""Adapters across runs: which there are, what they stand on, how they differ, and several made into one.

In: the manifests, records and store of run folders. Out: `4_adapters/merges/` and a manifest. Nothing is kept beside
what the runs themselves hold.
"""
