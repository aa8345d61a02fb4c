"""A model to start from: trained on the record by one command, kept in the user's cache."""

from timl.default_model.making import make_model

__all__ = ["make_model"]
