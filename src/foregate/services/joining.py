"""Making a home whose edge has joined a control plane: by hand on another machine (`foregate edge join`), or by whoever
may call the control API, for a further edge on this one.

A home keeps the keys that it made until the join was answered, so a command that was cut off can be given again.
"""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.masterkey import write_private
from foregate.edge import sealed_box
from foregate.edge.feed_authority import new_request
from foregate.edge.joining import JoinKeys, join
from foregate.edge.membership import Membership, read_membership, write_membership
from foregate.edge.secrets import keep_secrets
from foregate.services.control_client import ControlClient
from foregate.services.holder import find_holder
from foregate.services.home import Home, open_home
from foregate.services.process import held_message, lock_path


def join_home(root: Path, control_plane: str, token: str, *, name: str = "", is_rejoin: bool = False) -> Membership:
    """Make `root` the home of an edge of `control_plane` (https://host:port), or, `is_rejoin`, of the edge that it was.

    `name` empty: this machine's. A home that is an edge's already keeps its state. ForegateError with a sentence; then
    the home is what it was. Safe to repeat with the same token.
    """
    home = open_home(root)
    holder = find_holder(lock_path(home, "edge"))
    if holder is not None:
        raise ForegateError(ErrorCode.UNAVAILABLE, held_message("edge", home, holder))
    before = _require_fit(home, is_rejoin=is_rejoin)
    keys = _keys(home)
    edge_id = before.edge_id if before is not None else None
    membership, sealed = join(control_plane, token, name or _machine_name(), keys, edge_id=edge_id)
    # In this order: with the certificate, secrets that were not kept can be asked for.
    write_membership(home.membership, membership)
    keep_secrets(home.edge / "secrets.sealed", sealed)
    home.joining.unlink(missing_ok=True)
    return membership


def join_from_here(client: ControlClient, name: str, group: str, root: Path, *, host: str = "127.0.0.1") -> Membership:
    """Make `root` the home of a further edge on this machine: a join token is made by `client`, and used. A home that
    is an edge's already is left as it is.

    `host`: where the feed port is reached. Raises ForegateError, and what `ControlClient.call` raises.
    """
    home = open_home(root)
    known = read_membership(home.membership)
    if known is not None and not home.expulsion.exists():
        return known
    token = client.call("POST", "/foregate/edge_join_tokens", {"group": group} if group else {}).result
    return join_home(root, f"https://{host}:{token['feed_port']}", token["value"], name=name)


def _require_fit(home: Home, *, is_rejoin: bool) -> Membership | None:
    """The membership that this home has, if it is to join again. ForegateError where the home is another's."""
    if home.master_key.exists():
        raise invalid(f"{home.root} is the home of a control plane; set FOREGATE_HOME to another folder for this edge.")
    if home.expulsion.exists():
        message = f"{home.root} is the home of an edge that was expelled; set FOREGATE_HOME to another folder."
        raise invalid(message)
    try:
        before = read_membership(home.membership)
    except ForegateError:
        if not is_rejoin:
            raise
        return None
    if before is not None and not is_rejoin:
        raise invalid(
            f"{home.root} is the home of the edge {before.name} already; start it with: foregate edge. To have it join "
            f"again: foregate edge token create --rejoin {before.name} there, foregate edge join --rejoin here."
        )
    return before


def _keys(home: Home) -> JoinKeys:
    """The keys of this home's join: those of an attempt that was cut off, or new ones."""
    try:
        found = json.loads(home.joining.read_text())
        sealing_key = base64.b64decode(found["sealing_key"], validate=True)
        return JoinKeys(str(found["tls_key"]), str(found["request"]), sealing_key)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    tls_key, request = new_request()
    keys = JoinKeys(tls_key.decode(), request, sealed_box.new_private_key())
    sealing_key_text = base64.b64encode(keys.sealing_key).decode()
    content = {"tls_key": keys.tls_key, "request": keys.request, "sealing_key": sealing_key_text}
    write_private(home.joining, json.dumps(content).encode())
    return keys


def _machine_name() -> str:
    return socket.gethostname().partition(".")[0]
