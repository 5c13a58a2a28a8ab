"""``GET /v1/models``: the names under which this endpoint answers, and nothing of the engine's paths."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from guard.api.state import caller_of, service_of
from guard.keys import Scope


async def list_models(request: Request) -> JSONResponse:
    """All models."""
    service = service_of(request)
    caller = caller_of(request)
    caller.require(Scope.CHAT)
    return JSONResponse({"object": "list", "data": [_model(name) for name in service.offered_models(caller)]})


async def get_model(request: Request) -> JSONResponse:
    """One model by name."""
    service = service_of(request)
    caller = caller_of(request)
    caller.require(Scope.CHAT)
    name = request.path_params["name"]
    service.check_model(name)
    service.policy(caller, None, name)
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "deliberative-guard"}
