"""The HTTP surface: thin endpoints over the pipeline."""
