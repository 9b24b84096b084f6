"""Stage 1, collect: sources in, documents with structure out.

Takes folders, files, glob patterns, web addresses and rows of data sets; leaves originals, `documents.parquet`,
rejections and provenance in `1_documents/`. Imports the ground and `run`; no other stage, no tool.
"""
