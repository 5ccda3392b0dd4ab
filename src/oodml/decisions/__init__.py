"""Decisions that an embedding is used for, and how they fare on other classes."""
