"""Liveness, readiness and metrics, for probes and scrapers."""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guard.api.state import service_of


async def healthz(request: Request) -> Response:
    """The process runs."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The guard can answer: policy loaded, engine up, audit writable."""
    status = service_of(request).status()
    body = {"status": "ready" if status.ready else "not ready", **status.detail}
    return JSONResponse(body, 200 if status.ready else 503)


async def metrics(request: Request) -> Response:
    """Prometheus text."""
    return Response(service_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
