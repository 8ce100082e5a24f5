"""Rooms of sockets."""
