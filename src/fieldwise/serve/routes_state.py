"""State and pages: alive, ready, models, metrics, the web page, the page of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from fieldwise import __version__, ui
from fieldwise.serve.frame import caller_of
from fieldwise.serve.problems import RequestError
from fieldwise.serve.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes a supervisor and a browser ask first."""
    routes = APIRouter(tags=["state"])

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process answers."""
        return {"status": "alive", "version": __version__}

    @routes.get("/ready", responses={503: {"description": "The models are being loaded, or could not be."}})
    async def ready() -> Any:
        """Tell whether the models are loaded and have generated a token."""
        state = service.readiness
        return JSONResponse(
            {"ready": state.is_ready, "reason": state.reason},
            status_code=200 if state.is_ready else 503,
            headers={} if state.is_ready else {"Retry-After": "2"},
        )

    @routes.get("/models")
    def models(request: Request) -> dict[str, Any]:
        """List the models by the name to ask for, and describe the release."""
        release = service.backend.release
        documents, chunks = service.backend.reader(caller_of(request.scope).identity).counts
        served = [
            {
                "name": m.name,
                "quantisation": m.build.quantisation,
                "is_loaded": m.is_loaded,
                "context_tokens": m.context_tokens,
                "adapter_id": m.build.adapter_id,
                "build_id": m.build.id,
                "sha256": m.build.sha256,
                "bytes": m.build.bytes,
            }
            for m in service.backend.models()
        ]
        described = {
            "name": release.name,
            "domain": release.domain,
            "verdict": release.verdict,
            "override": release.override,
            "documents": documents,
            "chunks": chunks,
        }
        return {"release": described, "models": served}

    @routes.get("/metrics")
    async def metrics() -> Response:
        """Return the figures Prometheus reads."""
        text, media_type = service.metrics.exposition()
        return Response(text, headers={"content-type": media_type})

    @routes.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        """The page to ask from."""
        return _asset("index.html", request)

    @routes.get("/compare", include_in_schema=False)
    async def compare_page(request: Request) -> Response:
        """The page to vote from."""
        return _asset("compare.html", request)

    @routes.get("/docs", include_in_schema=False)
    async def api_page(request: Request) -> Response:
        """The page of the API."""
        return _asset("api.html", request)

    @routes.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        """The icon browsers ask for."""
        return _asset("icon.svg", request)

    @routes.get("/ui/{name}", include_in_schema=False)
    async def asset(name: str, request: Request) -> Response:
        """The parts of the pages."""
        return _asset(name, request)

    return routes


def _asset(name: str, request: Request) -> Response:
    asset = ui.assets().get(name)
    if asset is None:
        raise RequestError(404, "not_found", "there is no such page", where=f"/ui/{name[:80]}", fix="The page is at /.")
    headers = {"etag": asset.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers={**headers, "content-type": asset.media_type})
