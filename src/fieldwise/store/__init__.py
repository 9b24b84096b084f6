"""Keep documents, chunks and vectors, and search them for someone who may see only some.

In: documents with their chunks, access groups and validity. Out: scores of both legs, chunks, quotes of the original.
Imports retrieve (analysis, embedding, fusion), tables and ground; never a stage or a face.
"""
