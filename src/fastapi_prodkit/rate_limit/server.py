"""What the server in front of the app does to a client's address."""

from __future__ import annotations

import logging
import sys

__all__ = ["warn_of_trust"]

logger = logging.getLogger("fastapi_prodkit.rate_limit")


def warn_of_trust() -> None:
    """Warn where uvicorn takes the client's address from a header whoever sent it.

    Called from within a request or the lifespan, it meets uvicorn's middleware further up the stack.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        layer = frame.f_locals.get("self")
        if type(layer).__name__ == "ProxyHeadersMiddleware":
            trusted = getattr(layer, "trusted_hosts", None)
            if getattr(trusted, "always_trust", False):
                logger.warning(
                    "uvicorn trusts every peer (--forwarded-allow-ips='*'): clients choose the address by "
                    "which they are limited. Name your proxies there, or use --no-proxy-headers with "
                    "trusted_proxies="
                )
            return
