"""Responses that are produced while they are sent."""
