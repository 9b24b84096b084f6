"""/api/v1/rerank: texts in the order in which they fit a query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from fieldwise.serve.bodies import RerankBody
from fieldwise.serve.events import unless_gone
from fieldwise.serve.frame import caller_of
from fieldwise.serve.replies import IsCancelled
from fieldwise.serve.rerank import Ranked, rerank
from fieldwise.serve.service import Service


class RerankedText(BaseModel):
    """A text with its place in the request, its rank from 1, and its scores between 0 and 1."""

    index: int
    rank: int
    score: float
    document: str
    cosine: float | None
    overlap: float


class Reranked(BaseModel):
    """Texts, best first."""

    results: list[RerankedText]
    query: str
    method: str


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/api/v1", tags=["generate"])

    @routes.post("/rerank", response_model=Reranked)
    async def rerank_texts(body: RerankBody, request: Request) -> Any:
        """Order texts by how well they fit a query, with the reranker of the run or the one that is asked for."""
        library = service.backend.reader(caller_of(request.scope).identity)

        def work(_: IsCancelled) -> Iterator[list[Ranked]]:
            yield rerank(library, body.query, body.documents, body.method)

        ranked = (await unless_gone(request, service.desk.all_of(work)))[0]
        kept = [r for r in ranked if body.min_score is None or r.score >= body.min_score][: body.top_k]
        results = [
            RerankedText(
                index=r.place,
                rank=n,
                score=r.score,
                document=body.documents[r.place],
                cosine=r.cosine,
                overlap=r.overlap,
            )
            for n, r in enumerate(kept, 1)
        ]
        return Reranked(results=results, query=body.query, method=library.rerank_method(body.method))

    return routes
