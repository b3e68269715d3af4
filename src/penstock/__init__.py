"""Penstock: self-hosted batch inference for Gemini."""

__version__ = "0.1.0"
