"""The response and function cache."""
