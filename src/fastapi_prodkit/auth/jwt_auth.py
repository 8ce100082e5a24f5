"""Authentication by JSON Web Token, the same for HTTP and WebSocket."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from .._arguments import count, functions, names, plain_function, seconds, text
from ..errors import ConfigurationError, ProblemError
from .claims import Claims, InvalidTokenError, read_claims
from .compact import decode, encode
from .keys import Keys
from .sources import TokenSource, bearer_header, cookie, query

__all__ = ["JWTAuth"]

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749 section 3.3

logger = logging.getLogger("fastapi_prodkit.auth")


class JWTAuth(SecurityBase):
    """Who is calling, as a dependency of HTTP and WebSocket routes: `Annotated[Claims, Depends(auth)]`.

    A refusal is a `ProblemError` with the challenge of RFC 6750: 401 without a valid token, 403 without the
    scopes. On a WebSocket it is raised before `accept`, so that the client sees the same HTTP response.

    :param key: an HMAC secret, or a PEM key: a private one issues and verifies, a public one verifies.
    :param algorithms: the only ones that are accepted, of one family; the first one signs.
    :param issuer: the `iss` to insist on; several may be given.
    :param audience: the `aud` to insist on; a token has to name one of several.
    :param leeway: seconds that clocks may differ.
    :param required: claims that must be there, besides `sub` and `exp` that always must.
    :param types: the values of `typ` that are accepted; a token without one counts as `JWT`.
    :param sources: where to look for the token; the first that finds one decides.
    :param max_size: the largest token that is looked at, in bytes.
    :param realm: the protection space that a challenge names.
    :param scheme_name: the name of the scheme in the OpenAPI document.
    :param clock: seconds since the epoch.
    :raises ConfigurationError: for a weak key, a key that does not fit, `none`, or mixed families.
    """

    __problems__ = (401, 403)
    """For the OpenAPI document of the routes that depend on it."""

    def __init__(
        self,
        key: object,
        *,
        algorithms: Sequence[str],
        issuer: str | Collection[str] = (),
        audience: str | Collection[str] = (),
        leeway: float = 0,
        required: Collection[str] = (),
        types: Collection[str] = ("JWT", "at+jwt"),
        sources: Sequence[TokenSource] = (bearer_header,),
        max_size: int = 8192,
        realm: str = "api",
        scheme_name: str = "JWT",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if seconds("leeway", leeway, zero=True) > 300:
            raise ConfigurationError(f"leeway={leeway!r} must be between 0 and 300 seconds")
        if not names("types", types):
            raise ConfigurationError(f"types={types!r} must be a list of names, such as ['JWT']")
        if not text("realm", realm).isascii() or not realm.isprintable() or set(realm) & {'"', "\\"}:
            raise ConfigurationError(f"realm={realm!r} must be plain ASCII without quotes")
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = text("scheme_name", scheme_name)
        self._keys = Keys(key, algorithms)
        self._issuers = _names("issuer", issuer)
        self._audiences = _names("audience", audience)
        self._leeway = leeway
        self._required = frozenset({"sub", "exp", *_names("required", required)})
        self._type = next(iter(types))
        self._types = frozenset(each.lower().removeprefix("application/") for each in types)
        self._sources = _sources(sources)
        self._max_size = count("max_size", max_size, least=128)
        self._realm = realm
        self._clock = plain_function("clock", clock)

    async def __call__(self, connection: HTTPConnection, scopes: SecurityScopes) -> Claims:
        """The dependency. `Security(auth, scopes=["orders:write"])` is understood too."""
        claims = await self.authenticate(connection)
        self._check_scopes(claims, scopes.scopes)
        return claims

    def requires(self, *scopes: str) -> Callable[[Claims], Coroutine[Any, Any, Claims]]:
        """A dependency that also insists on all of `scopes`; without them the client gets a 403.

        An override of this `JWTAuth` holds for it as well.
        """
        if not scopes or not all(_SCOPE.fullmatch(text("scope", scope)) for scope in scopes):
            listed = ", ".join(map(repr, scopes))
            raise ConfigurationError(f"requires({listed}) must name scopes: ASCII without spaces and quotes")

        async def with_scopes(claims: Claims = Security(self, scopes=list(scopes))) -> Claims:
            self._check_scopes(claims, scopes)
            return claims

        return with_scopes

    async def authenticate(self, connection: HTTPConnection) -> Claims:
        """The claims of the token that comes with `connection`.

        :raises ProblemError: 401 if there is none or it is not valid; what a source raises.
        """
        token = self._token(connection)
        if token is None:
            raise self._refusal(401, "A bearer token is needed.")
        try:
            return self._check(token)
        except InvalidTokenError as error:
            logger.info("refused a token: %s", error)
            raise self._refusal(401, error.public, error="invalid_token") from None

    def __prodkit_reads__(self, connection: HTTPConnection) -> str | None:
        """What an answer may depend on of what it reads: the token."""
        return self._token(connection)

    def _token(self, connection: HTTPConnection) -> str | None:
        return next((found for source in self._sources if (found := source(connection)) is not None), None)

    async def verify(self, token: str) -> Claims:
        """The claims of `token`.

        :raises InvalidTokenError: if it is not valid; the message says why and never quotes it.
        """
        return self._check(token)

    def _check(self, token: str) -> Claims:
        payload = decode(token, self._keys, max_size=self._max_size, types=self._types)
        return read_claims(
            payload,
            now=self._clock(),
            leeway=self._leeway,
            issuers=self._issuers,
            audiences=self._audiences,
            required=self._required,
        )

    def issue(self, sub: str, *, ttl: float, scopes: Iterable[str] = (), **claims: Any) -> str:
        """A signed token for `sub`, valid for `ttl` seconds from now.

        `iat`, `exp` and a random `jti` are added, and `iss` and `aud` where they are configured.

        :param claims: any others, as JSON; of those that are added, `exp` alone may not be given.
        :raises ConfigurationError: if the key cannot sign or the token would not be accepted here; for a
            claim that `ttl` or `scopes` sets.
        """
        seconds("ttl", ttl)
        if "exp" in claims:
            raise ConfigurationError("exp= is set by ttl=: give the seconds from now")
        now = int(self._clock())
        payload: dict[str, Any] = {"sub": sub, "iat": now, "jti": secrets.token_urlsafe(12), **claims}
        payload["exp"] = now + math.ceil(ttl)
        granted = names("scopes", scopes)
        if not all(_SCOPE.fullmatch(scope) for scope in granted):
            raise ConfigurationError(f"scopes={granted!r}: each is ASCII without spaces and quotes")
        if granted:
            if "scope" in claims:
                raise ConfigurationError("scope= is set by scopes=: give one of them")
            payload["scope"] = " ".join(granted)
        if self._issuers:
            payload.setdefault("iss", min(self._issuers))
        if self._audiences:
            payload.setdefault("aud", sorted(self._audiences))
        token = encode(payload, self._keys, type=self._type)
        try:
            self._check(token)
        except InvalidTokenError as error:
            raise ConfigurationError(f"this token would be refused: {error}") from None
        return token

    def _check_scopes(self, claims: Claims, scopes: Collection[str]) -> None:
        missing = [scope for scope in scopes if scope not in claims.scopes]
        if missing:
            detail = "The token lacks a scope: " + ", ".join(missing) + "."
            raise self._refusal(403, detail, error="insufficient_scope", scope=" ".join(scopes))

    def _refusal(self, status: int, detail: str, **challenge: str) -> ProblemError:
        parameters = {"realm": self._realm, **challenge}
        if "error" in challenge:
            parameters["error_description"] = detail
        listed = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
        return ProblemError(status, detail, headers={"WWW-Authenticate": f"Bearer {listed}"})


def _sources(given: Sequence[TokenSource]) -> tuple[TokenSource, ...]:
    found: tuple[TokenSource, ...] = tuple(
        plain_function("sources", each) for each in functions("sources", given)
    )
    if not found:
        raise ConfigurationError("sources=[] finds no token: leave it out for the Authorization header")
    makers: dict[object, str] = {query: "query()", cookie: "cookie('token', allowed_origins=[...])"}
    for maker, call in makers.items():
        if maker in found:
            raise ConfigurationError(f"sources has what makes a source: call it, as in {call}")
    return found


def _names(option: str, given: str | Collection[str]) -> frozenset[str]:
    found = frozenset([given] if isinstance(given, str) else names(option, given))
    if "" in found:
        raise ConfigurationError(f"{option}={given!r} has an empty name")
    return found
