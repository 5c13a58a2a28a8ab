"""An OpenAI-compatible endpoint that makes a reasoning model deliberate over a written policy."""
