"""What a model's deliberation says: thinking apart from answer, citations, verdict, answer style.

Shared by serving and training; depends on the policy package alone.
"""
