"""Work after the response, supervised: bounded, logged, drained when the app stops."""

from __future__ import annotations

from .tasks import Tasks, TasksFullError

__all__ = ["Tasks", "TasksFullError"]
