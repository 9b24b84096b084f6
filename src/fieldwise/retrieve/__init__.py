"""Find passages and answer from them.

In: chunks and a question. Out: passages with their scores; answers with citations that were checked.
Imports ground and run; never a stage or a face.
"""
