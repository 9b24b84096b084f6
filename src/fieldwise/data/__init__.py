"""Data sets made elsewhere: rows of the usual formats read as they stream, and a doctor that looks at them.

A face above the stages: it borrows the finders of prepare, and no stage knows it.
"""
