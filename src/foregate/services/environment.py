"""What `foregate env` exports: where the API and the edge are, and the home's admin token, for SDKs and Terraform."""

from __future__ import annotations

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.home import Home, read_facts, read_private
from foregate.services.settings import Settings, reachable, url_host


def edge_url(settings: Settings, *, is_tls: bool = False) -> str:
    """Where the edge is reached from this machine."""
    address = url_host(reachable(settings.bind))
    return f"https://{address}:{settings.https_port}" if is_tls else f"http://{address}:{settings.http_port}"


def exports(settings: Settings) -> dict[str, str]:
    """Variables by name. ForegateError(UNAVAILABLE) before the first start."""
    home = Home(settings.home)
    facts = read_facts(home)
    if facts is None:
        raise ForegateError(
            ErrorCode.UNAVAILABLE,
            f"There is no Foregate in {home.root}; start one with 'foregate up', or set FOREGATE_HOME.",
        )
    return {
        "CLOUDFLARE_BASE_URL": f"{settings.api_url}/client/v4",
        "CLOUDFLARE_API_TOKEN": read_private(home.admin_token),
        "CLOUDFLARE_ACCOUNT_ID": facts.account_id,
        "FOREGATE_EDGE_URL": edge_url(settings),
        "FOREGATE_EDGE_HTTPS_URL": edge_url(settings, is_tls=True),
        "FOREGATE_CA_FILE": str(home.edge_ca),
        "FOREGATE_AUTH_DOMAIN": settings.auth_domain,
    }
