"""What a developer cannot configure, and the kinds of keys that work."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fastapi_prodkit import ConfigurationError, JWTAuth
from fastapi_prodkit.auth import InvalidTokenError, cookie

from .verifying import verified

SECRET = "a-secret-of-the-tests-0123456789abcdefghij"


def pem(key: Any) -> tuple[str, str]:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


RSA = pem(rsa.generate_private_key(65537, 2048))
KEYS = {
    "RS256": RSA,
    "PS256": RSA,
    "ES256": pem(ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": pem(ed25519.Ed25519PrivateKey.generate()),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_private_key_issues_and_its_public_key_verifies(algorithm: str) -> None:
    private, public = KEYS[algorithm]
    issuer, verifier = (JWTAuth(key, algorithms=[algorithm]) for key in (private, public))
    token = issuer.issue("ada", ttl=60)
    assert verified(issuer, token).subject == verified(verifier, token).subject == "ada"
    head, _, signature = token.rpartition(".")
    with pytest.raises(InvalidTokenError):
        verified(verifier, f"{head}.{signature[:-6]}AAAAAA")
    with pytest.raises(ConfigurationError, match="public key cannot sign"):
        verifier.issue("ada", ttl=60)


@pytest.mark.parametrize(
    ("key", "algorithms", "message"),
    [
        (SECRET, [], "list of names"),
        (SECRET, "HS256", "list of names"),
        (SECRET, ["none"], "protects nothing"),
        (SECRET, ["HS256", "none"], "protects nothing"),
        (SECRET, ["HS999"], "no algorithm"),
        (SECRET, [None], "protects nothing"),
        (RSA[1], ["RS256", "HS256"], "mixes families"),
        (RSA[1], ["HS256"], "does not fit"),
        (SECRET, ["RS256"], "does not fit"),
        (KEYS["ES256"][1], ["RS256"], "does not fit"),
        (None, ["HS256"], "does not fit"),
        ("", ["HS256"], "does not fit"),
        ("short", ["HS256"], "Use a longer key"),
        (SECRET, ["HS256", "HS512"], "Use a longer key"),
        ("changeme" * 8, ["HS256"], "repeats itself"),
        ("0" * 64, ["HS256"], "repeats itself"),
        (pem(rsa.generate_private_key(65537, 1024))[1], ["RS256"], "Use a longer key"),
    ],
)
def test_an_unsafe_key_is_refused_when_it_is_given(key: object, algorithms: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        JWTAuth(key, algorithms=algorithms)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"leeway": -1},
        {"leeway": 301},
        {"sources": []},
        {"max_size": 10},
        {"realm": 'a"b'},
        {"realm": "a\nb"},
        {"issuer": ""},
        {"audience": ["a", ""]},
        {"types": []},
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        JWTAuth(SECRET, algorithms=["HS256"], **options)


@pytest.mark.parametrize("scopes", [(), ("",), ('a"b',), ("a b",), ("é",), (["orders:read"],)])
def test_a_scope_that_cannot_be_is_refused(scopes: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="scope"):
        JWTAuth(SECRET, algorithms=["HS256"]).requires(*scopes)


@pytest.mark.parametrize("origins", [[], "https://a.example", ["*"], ["a.example"], ["https://a.example/"]])
def test_origins_are_written_as_origins(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="origin"):
        cookie("session", allowed_origins=origins)
