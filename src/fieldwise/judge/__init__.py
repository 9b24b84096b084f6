"""A language model as judge: of one answer by a rubric, of two answers beside each other, or by its next token.

In: questions with answers, their passages, what is known. Out: verdicts; what could not be read is "not scored".
May import `llm`, the `Engine` protocol, and the ground.
"""
