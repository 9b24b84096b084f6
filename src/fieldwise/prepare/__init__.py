"""Stage 2, prepare: documents in, cleaned chunks out.

Takes `1_documents/documents.parquet`; leaves cleaned documents, chunks, rejections, duplicate groups and a
quality report in `2_chunks/`. Imports the ground and `run`; no other stage, no tool.
"""
