"""Make training data from chunks: questions with the words that answer them, and preference pairs.

In: `2_chunks/`. Out: `3_examples/`. Imports ground, run, and the tool `retrieve`.
"""
