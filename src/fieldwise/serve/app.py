"""The HTTP application: routes, the frame around them, and how errors are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fieldwise import __version__
from fieldwise.errors import FieldwiseError
from fieldwise.serve import (
    routes_ask,
    routes_compare,
    routes_generate,
    routes_openai,
    routes_rerank,
    routes_state,
    routes_store,
)
from fieldwise.serve.access import Access
from fieldwise.serve.backend import Backend
from fieldwise.serve.desk import Desk
from fieldwise.serve.frame import Frame
from fieldwise.serve.metrics import Metrics
from fieldwise.serve.problems import (
    OPENAI_PREFIX,
    OpenAiError,
    OwnError,
    RequestError,
    not_readable,
    not_valid,
    problem_bytes,
)
from fieldwise.serve.service import Service
from fieldwise.serve.settings import ServeSettings
from fieldwise.serve.trace import trace_of

log = logging.getLogger(__name__)


def create_app(backend: Backend, settings: ServeSettings) -> FastAPI:
    """Return the application; `app.state.service` is what its routes share.

    Raises FieldwiseError when the settings would let others than this machine in without a key.
    """
    access = Access.from_settings(settings)
    desk = Desk(parallel=settings.parallel, queue=settings.queue, timeout_seconds=settings.timeout_seconds)
    metrics = Metrics(queue_depth=lambda: desk.waiting)
    service = Service(backend, settings, access, desk, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.ensure_future(service.warm_up())
        yield
        await asyncio.gather(warming, return_exceptions=True)
        await asyncio.to_thread(desk.close)

    app = FastAPI(
        title=f"Fieldwise: {backend.release.name}",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    every = (routes_ask, routes_store, routes_compare, routes_generate, routes_rerank, routes_openai, routes_state)
    for routes in every:
        shape = OpenAiError if routes is routes_openai else OwnError
        app.include_router(routes.router(service), responses={"default": {"model": shape, "description": "An error"}})
    app.add_middleware(
        Frame, access=access, metrics=metrics, most_bytes={routes_store.PATH: int(settings.max_upload_mb * 1e6)}
    )
    _tell_errors(app)
    return app


def _tell_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def of_request(request: Request, problem: RequestError) -> Response:
        return _answer(request, problem)

    @app.exception_handler(RequestValidationError)
    async def of_schema(request: Request, error: RequestValidationError) -> Response:
        return _answer(request, not_valid(error.errors(), openai=request.url.path.startswith(OPENAI_PREFIX)))

    @app.exception_handler(HTTPException)
    async def of_routing(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # the body is all that is parsed before a route
            return _answer(request, not_readable(openai=request.url.path.startswith(OPENAI_PREFIX)))
        named = {
            404: ("not_found", "there is nothing at this address"),
            405: ("method_not_allowed", "this address does not take this method"),
        }
        code, what = named.get(error.status_code, ("http_error", str(error.detail)))
        return _answer(
            request,
            RequestError(
                error.status_code,
                code,
                what,
                where=request.url.path[:80],
                found=request.method,
                fix="The page /docs lists every route.",
                headers=error.headers,
            ),
        )

    @app.exception_handler(FieldwiseError)
    async def of_ours(request: Request, error: FieldwiseError) -> Response:
        request_id = trace_of(request.scope).request_id
        log.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
        return _answer(
            request,
            RequestError(
                500,
                "internal_error",
                error.what,
                found=f"request {request_id}",
                fix="Give this id to whoever runs the service: the log has the rest.",
            ),
        )


def _answer(request: Request, problem: RequestError) -> Response:
    body = problem_bytes(problem, request.url.path, trace_of(request.scope).request_id)
    return Response(body, problem.status, {**problem.headers, "content-type": "application/json"})
