"""The policy as data: model, loading, linting, differences and composition into a prompt."""
