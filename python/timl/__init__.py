"""Task-informed meta-learning (TIML) for few-shot crop mapping."""

__version__ = "0.1.0"
