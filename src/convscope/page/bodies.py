"""The body of a request, read within limits of size and time."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST = 32 << 20  # bytes of an image's file
SECONDS = 15.0  # for all of it


async def read_body(request: Request, most: int = MOST, seconds: float = SECONDS) -> bytes:
    """All bytes. HTTPException 413 for more than ``most``, 408 for one that takes longer, 400 for none."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > most:
        raise HTTPException(413, f"an image's file has at most {most >> 20} MB here.")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise HTTPException(413, f"an image's file has at most {most >> 20} MB here.")
    except TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {seconds:.0f} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "the image did not arrive.") from None
    if not body:
        raise HTTPException(400, "there is no image in this request.")
    return bytes(body)
