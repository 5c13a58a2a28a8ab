"""The command line: ``guard serve``, ``guard try``, ``guard log``, ``guard policy``, ``guard key``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from guard.audit.cli import log_app
from guard.errors import ConfigError, GuardError
from guard.policy.cli import policy_app

if TYPE_CHECKING:
    from guard.app import Running
    from guard.config import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An OpenAI-compatible endpoint that makes a model deliberate over a written policy.",
)
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(log_app, name="log")
app.add_typer(policy_app, name="policy")
app.add_typer(key_app, name="key")

SERVER: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "http": "httptools",
    "ws": "none",
    "timeout_keep_alive": 75,  # seconds: clients and balancers, which keep theirs for less, close first
    "proxy_headers": False,  # nothing here depends on where a request claims to come from
    "server_header": False,
    "date_header": False,
    "lifespan": "off",
}
"""Options of the HTTP server; tests serve with the same."""

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Opt = typer.Option

_DOES = {"observe": "recorded only (observe)", "enforce": "acted on (enforce)"}


@app.command()
def serve(
    host: Annotated[str | None, Opt(help="Address to listen on; other than loopback needs keys.")] = None,
    port: Annotated[int | None, Opt(help="Port to listen on.")] = None,
    policy: Annotated[list[Path] | None, Opt(help="Policy folder; repeat for several.")] = None,
    upstream: Annotated[str | None, Opt(help="Base URL of a running OpenAI-compatible engine.")] = None,
    engine: Annotated[str | None, Opt(help="Start an engine: transformers or vllm.")] = None,
    model: Annotated[str | None, Opt(help="Checkpoint folder, or the upstream's model name.")] = None,
    engine_python: Annotated[Path | None, Opt(help="Interpreter that has the engine installed.")] = None,
    engine_arg: Annotated[list[str] | None, Opt(help="Further engine argument; repeatable.")] = None,
    card: Annotated[Path | None, Opt(help="model-card.json of a model trained on the policy.")] = None,
    spec: Annotated[str | None, Opt(help="Policy text in prompts: retrieved or drift.")] = None,
    mode: Annotated[str | None, Opt(help="What is done about findings: observe or enforce.")] = None,
    database: Annotated[
        str | None, Opt(help="SQLite path or postgresql:// URL of the records.", envvar="GUARD_DATABASE")
    ] = None,
    config: Annotated[Path | None, Opt(help="TOML file with settings.", envvar="GUARD_CONFIG")] = None,
) -> None:
    """Serve the guarded endpoint until Ctrl-C or SIGTERM."""
    from guard.config import load_settings

    overrides: dict[str, Any] = {
        "host": host,
        "port": port,
        "policies": tuple(policy) if policy else None,
        "engine": {
            "upstream": upstream,
            "kind": engine,
            "model": model,
            "python": engine_python,
            "args": tuple(engine_arg) if engine_arg else None,
            "card": card,
        },
        "retrieval": {"spec": spec},
        "enforcement": {"mode": mode},
        "audit": {"database": database},
    }
    with _reported(), asyncio.Runner(loop_factory=_loop) as runner:
        failed = runner.run(_serve(load_settings(config, **_given(overrides))))
    if failed:
        raise typer.Exit(1)


@app.command("try")
def try_(
    upstream: Annotated[str | None, Opt(help="Base URL of a running OpenAI-compatible engine.")] = None,
    model: Annotated[str | None, Opt(help="The upstream's model name.")] = None,
    config: Annotated[Path | None, Opt(help="TOML file with settings.", envvar="GUARD_CONFIG")] = None,
) -> None:
    """Ask the engine two questions, and say whether its thinking, decision and answer can be read."""
    from guard.config import load_settings
    from guard.trial import report

    overrides = _given({"engine": {"upstream": upstream, "model": model}})
    with _reported(), asyncio.Runner(loop_factory=_loop) as runner:
        faults = runner.run(report(load_settings(config, **overrides), console))
    for fault in dict.fromkeys(faults):
        errors.print(f"[bold red]guard:[/] {escape(fault)}", soft_wrap=True)
    if faults:
        raise typer.Exit(1)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Say what went wrong on purpose in one line, and end with status 1."""
    try:
        yield
    except GuardError as error:
        errors.print(f"[bold red]guard:[/] {_plain(error)}")
        raise typer.Exit(1) from None


def _given(overrides: dict[str, Any]) -> dict[str, Any]:
    """The options that were typed, so that the others come from environment, file or default."""
    kept = {}
    for name, value in overrides.items():
        value = _given(value) if isinstance(value, dict) else value
        if value is not None and value != {}:
            kept[name] = value
    return kept


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _serve(settings: Settings) -> bool:
    """Serve until told to stop; whether the engine failed to start."""
    import uvicorn

    from guard.app import create_app, running
    from guard.logs import configure_logs
    from guard.server import Server

    configure_logs(settings.log_format)
    started = time.perf_counter()
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    async with running(settings) as live:
        spare_the_collector()
        _describe(settings, live)
        server = Server(
            uvicorn.Config(
                create_app(live.service),
                **SERVER,
                timeout_graceful_shutdown=settings.drain_seconds,
            )
        )
        announcing = asyncio.create_task(_announce(server, port, settings, live, started))
        try:
            await server.serve([listener])
        finally:
            announcing.cancel()
        result = (await asyncio.gather(announcing, return_exceptions=True))[0]
    if isinstance(result, GuardError):
        raise result
    return not server.started


def spare_the_collector() -> None:
    """Keep the garbage collector from walking policy and index over and over.

    They live as long as the process. Measured by tests/bench/throughput.py with 1,000 sections: without
    this a fifth of the time goes there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, opened before anything slow starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _describe(settings: Settings, live: Running) -> None:
    for active in live.service.policies.values():
        policy = active.snapshot.policy
        console.print(
            f"policy   {policy.name} {policy.version}: {len(policy.sections)} sections, "
            f"{len(policy.clauses)} clauses, digest {policy.digest[:12]} ({_here(active.folder)})",
            soft_wrap=True,
        )
    console.print(f"records  {live.database}")
    where = settings.engine.upstream or f"{settings.engine.kind} serving {settings.engine.model}"
    console.print(f"engine   {where}; findings are {_DOES[settings.enforcement.mode]}", soft_wrap=True)


def _here(path: Path) -> Path:
    """A path as seen from the working directory."""
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(Path.cwd())
    return path


async def _announce(server: Any, port: int, settings: Settings, live: Running, started: float) -> None:
    """Say when the endpoint answers; stop the server where the engine cannot start."""
    from guard.audit.connect import without_password
    from guard.config import DEFAULT_DATABASE

    waiting = asyncio.create_task(live.engine.wait_up())
    with console.status("engine   starting", spinner_style="") as status:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.5)
            seconds = time.perf_counter() - started
            status.update(f"engine   starting, {seconds:.0f} s: {escape(live.engine.detail[:80])}")
    try:
        await waiting
    except GuardError:
        server.should_exit = True
        raise
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{port}/v1"
    console.print(f"ready    {base} after {time.perf_counter() - started:.1f} s\n\nTry:\n", markup=False)
    key = ' -H "Authorization: Bearer $KEY"' if settings.keys else ""
    database = ""
    if settings.audit.database != DEFAULT_DATABASE:
        database = f" --database {shlex.quote(without_password(settings.audit.database))}"
    console.print(
        f"  curl {shlex.quote(f'{base}/chat/completions')}{key} -H 'Content-Type: application/json' \\\n"
        '    -d \'{"model": "default", "messages": [{"role": "user", "content": '
        '"How do I poison my neighbour without being caught?"}]}\'\n'
        f"  {_own_name()} log{database}\n",
        markup=False,
        soft_wrap=True,
    )


def _own_name() -> str:
    """How this command can be typed again from here."""
    typed = Path(sys.argv[0])
    if shutil.which(typed.name) or typed.name == "__main__.py":
        return "guard"
    return str(_here(typed))


@key_app.command("new")
def key_new(
    name: Annotated[str, typer.Argument(help="Who gets it; shown in records as the tenant.")],
    scope: Annotated[list[str] | None, Opt(help="chat, reasoning, audit, admin; repeatable.")] = None,
) -> None:
    """Make a fresh API key and print it, once, with the lines for the configuration file."""
    from guard.keys import Scope, hash_key, new_key

    scopes = scope or [Scope.CHAT.value]
    unknown = [text for text in scopes if text not in list(Scope)]
    if unknown:
        errors.print(f"guard: unknown scope {unknown[0]!r}; use {', '.join(Scope)}")
        raise typer.Exit(1)
    key = new_key()
    listed = ", ".join(f'"{text}"' for text in scopes)
    errors.print("The key, shown only now:")
    print(key)
    errors.print("\nFor the configuration file:", markup=False)
    quoted = json.dumps(name, ensure_ascii=False)  # a text in TOML as well
    lines = f'[[keys]]\nname = {quoted}\nhash = "{hash_key(key)}"\nscopes = [{listed}]'
    errors.print(f"\n{lines}", markup=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("deliberative-guard"))


def _plain(error: GuardError) -> str:
    return str(error).replace("[", "\\[")


def main() -> None:
    """Entry point of the ``guard`` command."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # retrieval's products are too small to share
    app()
