"""The audit database's schema, step by step; ``guard.audit.migrate`` runs these on start.

A new step is a file in ``versions/`` that names its predecessor. A step is never edited once released,
and spells its tables out rather than importing ``guard.audit.schema``, which shows only the last state.
"""
