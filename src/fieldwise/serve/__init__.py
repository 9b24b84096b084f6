"""Serve a released model and its documents over HTTP, with a web page.

In: a run folder with a release. Out: answers with checked citations, plain replies, metrics, votes.
Imports the tools (retrieve, engine), ground, ui and compare; never a stage. FastAPI is imported only by `app` and the modules it pulls in.
"""
