"""Put any model through a suite: prepared items, each with what its reply is checked for.

In: a suite, shipped or a file, and who replies: a run's release, weights, an endpoint. Out: replies and scores by
item, figures with intervals, critical failures. Imports ground, engine, evaluate's metrics and statistics, serve's release.
"""
