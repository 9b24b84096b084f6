"""`fieldwise data`: a doctor that looks at data sets made elsewhere, and what writes them in other formats.

A face above the stages: it borrows the finders of prepare, and no stage knows it.
"""
