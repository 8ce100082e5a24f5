"""A database that is opened once, in order, handed to endpoints by its type, and always closed."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Body, Depends, FastAPI

from fastapi_prodkit import ProblemError, Resources


class Notes:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, text: str) -> int:
        return self._database.execute("INSERT INTO note VALUES (?)", [text]).lastrowid or 0

    def get(self, note_id: int) -> str:
        found = self._database.execute("SELECT text FROM note WHERE rowid = ?", [note_id]).fetchone()
        if found is None:
            raise ProblemError(404, f"There is no note {note_id}.")
        return str(found[0])


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS note (text TEXT)")
    return connection


def create_app(path: str = ":memory:") -> FastAPI:
    resources = Resources(start_timeout=5)

    @resources.provide
    async def database() -> AsyncIterator[sqlite3.Connection]:
        connection = await asyncio.to_thread(connect, path)
        yield connection
        await asyncio.to_thread(connection.close)

    @resources.provide
    async def notes(opened: Annotated[sqlite3.Connection, Depends(database)]) -> AsyncIterator[Notes]:
        yield Notes(opened)

    app = FastAPI(lifespan=resources)

    @app.post("/notes", status_code=201)
    def add(text: Annotated[str, Body()], notes: Annotated[Notes, Depends(notes)]) -> int:
        return notes.add(text)

    @app.get("/notes/{note_id}")
    def read(note_id: int, notes: Annotated[Notes, Depends(notes)]) -> str:
        return notes.get(note_id)

    return app
