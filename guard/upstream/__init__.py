"""The engine side: HTTP client, server-sent events, engines as child processes."""
