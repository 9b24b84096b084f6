"""Serve a released model and its documents over HTTP, with a web page.

In: a run folder with a release. Out: answers with checked citations, plain replies, metrics, votes.
Imports the tools (retrieve, engine), ground and ui, and of the stages only what `evaluate` knows of votes. FastAPI is imported only by `app` and the modules it pulls in.
"""
