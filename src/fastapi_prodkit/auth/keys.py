"""Which keys may sign with which algorithms. All cryptography is PyJWT's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._arguments import instance
from ..errors import ConfigurationError, MissingExtraError

try:
    import jwt
except ModuleNotFoundError as error:
    if error.name != "jwt":
        raise
    raise MissingExtraError("pyjwt", extra="jwt") from error

__all__ = ["Keys"]

_FAMILIES = {
    "HS": "HMAC",
    "RS": "RSA",
    "PS": "RSA",
    "ES": "elliptic curve",
    "Ed": "Edwards curve",
}
_ADVICE = "make a random one: python -c 'import secrets; print(secrets.token_urlsafe(48))'"


class Keys:
    """One key and the algorithms pinned to it; what cannot be safe is refused here (RFC 8725 section 3).

    :param key: an HMAC secret, or a PEM key: a private one signs and verifies, a public one verifies.
    :param algorithms: of one family; the first one signs.
    """

    def __init__(self, key: object, algorithms: Sequence[str]) -> None:
        instance("algorithms", algorithms, Sequence, "give a list of names, such as ['HS256']")
        if isinstance(algorithms, str) or not algorithms:
            raise ConfigurationError(f"algorithms={algorithms!r} must be a list of names, such as ['HS256']")
        if len({_family(name) for name in algorithms}) > 1:
            raise ConfigurationError(
                f"algorithms={list(algorithms)!r} mixes families of keys: a public key would become an HMAC "
                "secret. Make one JWTAuth per key"
            )
        registry = jwt.PyJWS()
        self._algorithms: dict[str, Any] = {}
        for name in algorithms:
            try:
                self._algorithms[name] = registry.get_algorithm_by_name(name)
                prepared: Any = self._algorithms[name].prepare_key(key)
                weakness = self._algorithms[name].check_key_length(prepared)
            except NotImplementedError:
                raise ConfigurationError(f"algorithms=: there is no algorithm {name!r}") from None
            except (jwt.InvalidKeyError, ValueError, TypeError) as error:
                raise ConfigurationError(f"the key does not fit {name}: {error}") from None
            if weakness:
                raise ConfigurationError(f"{weakness} Use a longer key; {_ADVICE}")
        if isinstance(prepared, bytes) and len(set(prepared)) < 8:
            raise ConfigurationError(f"the key repeats itself: {_ADVICE}")
        self.default = algorithms[0]
        self._private = prepared if hasattr(prepared, "sign") or isinstance(prepared, bytes) else None
        self._public = prepared.public_key() if hasattr(prepared, "public_key") else prepared

    def verify(self, algorithm: object, message: bytes, signature: bytes) -> bool:
        """Whether the signature holds. An algorithm that was not pinned never does."""
        pinned = self._algorithms.get(algorithm) if isinstance(algorithm, str) else None
        return pinned is not None and bool(pinned.verify(message, self._public, signature))

    def sign(self, message: bytes) -> bytes:
        """:raises ConfigurationError: if the key is a public one."""
        if self._private is None:
            raise ConfigurationError("a public key cannot sign: give JWTAuth the private key to issue tokens")
        signature: bytes = self._algorithms[self.default].sign(message, self._private)
        return signature


def _family(algorithm: str) -> str:
    family = _FAMILIES.get(str(algorithm)[:2])
    if family is None:
        raise ConfigurationError(
            f"algorithms= has {algorithm!r}, which protects nothing: use HS256, RS256, PS256, ES256 or EdDSA"
        )
    return family
