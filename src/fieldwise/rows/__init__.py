"""Rows of data sets: files of the usual kinds read as they stream, and each row as one thing to train on.

A tool below the stages: generate trains on the rows of `generate.data`, and `fieldwise data` looks at them and writes
them in other formats. Imports ground only.
"""
