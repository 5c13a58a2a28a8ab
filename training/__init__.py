"""The training recipe: prompts, generate, judge, filter, sft, rl, evaluate, export.

Imports of the guard are limited to its policy, deliberation and retrieval packages.
"""
