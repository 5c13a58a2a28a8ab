"""A process that owns an engine as the guard does: ``engine_owner KIND PYTHON MODEL LOG [ARGS…]``.

Prints the engine's address once it is ready, then waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from guard.upstream.capabilities import EngineKind
from guard.upstream.command import EngineSpec
from guard.upstream.engine import Engine


async def main() -> None:
    """Start the engine, say so, and keep it up."""
    kind, python, model, log, *args = sys.argv[1:]
    spec = EngineSpec(cast(EngineKind, kind), model, python=python, args=tuple(args))
    engine = Engine(spec, log=Path(log))
    await engine.start()
    print(engine.base_url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
