"""The edge's calls to the control plane other than the feed: secrets, and batches of events."""

from __future__ import annotations

import base64
import binascii

import httpx

from foregate.edge.feed_client import EXPELLED_STATUS, Expelled, FeedBroken, unreachable
from foregate.edge.shipping import Batch, BatchRefused, ControlPlaneAway

# Answers that say that the batch itself is wrong; any other failure may pass.
_REFUSALS = frozenset({400, 413, 422})


async def fetch_secrets(http: httpx.AsyncClient) -> bytes:
    """The sealed secrets. FeedBroken where the control plane does not give them, Expelled where it never will."""
    try:
        answer = await http.get("/edge/v1/secrets")
        if answer.status_code == EXPELLED_STATUS:
            raise Expelled
        if answer.status_code != 200:
            raise FeedBroken(f"the control plane answered {answer.status_code} to this edge{_said(answer)}")
        return base64.b64decode(answer.json()["sealed"], validate=True)
    except (httpx.HTTPError, OSError) as error:
        raise FeedBroken(unreachable(error)) from error
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise FeedBroken("the control plane's secrets cannot be read") from error


async def post_events(http: httpx.AsyncClient, batch: Batch) -> int:
    """Deliver a batch; the byte up to which the control plane has that worker's file. See `Shipper`."""
    query: dict[str, str | int] = {"worker": batch.worker, "offset": batch.offset, "final": int(batch.is_final)}
    try:
        answer = await http.post("/edge/v1/events", params=query, content=batch.body)
        if answer.status_code in _REFUSALS:
            raise BatchRefused(f"the control plane refuses a batch ({answer.status_code})")
        if not answer.is_success:
            raise ControlPlaneAway(f"the control plane answered {answer.status_code}")
        return int(answer.json()["next_offset"])
    except (httpx.HTTPError, OSError) as error:
        raise ControlPlaneAway(unreachable(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ControlPlaneAway("the control plane's answer cannot be read") from error


def _said(answer: httpx.Response) -> str:
    """The sentence of a refusal, behind a colon; empty where there is none."""
    try:
        return f": {answer.json()['errors'][0]['message']}"
    except (ValueError, LookupError, TypeError):
        return ""
