"""What `foregate env` exports: where the API and the edge are, and the home's admin token, for SDKs and Terraform."""

from __future__ import annotations

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.home import Home, read_facts, read_private
from foregate.services.settings import Settings, reachable, url_host


def exports(settings: Settings) -> dict[str, str]:
    """Variables by name. ForegateError(UNAVAILABLE) before the first start."""
    home = Home(settings.home)
    facts = read_facts(home)
    if facts is None:
        raise ForegateError(
            ErrorCode.UNAVAILABLE,
            f"There is no Foregate in {home.root}; start one with 'foregate up', or set FOREGATE_HOME.",
        )
    edge = url_host(reachable(settings.bind))
    return {
        "CLOUDFLARE_BASE_URL": f"{settings.api_url}/client/v4",
        "CLOUDFLARE_API_TOKEN": read_private(home.admin_token),
        "CLOUDFLARE_ACCOUNT_ID": facts.account_id,
        "FOREGATE_EDGE_URL": f"http://{edge}:{settings.http_port}",
        "FOREGATE_EDGE_HTTPS_URL": f"https://{edge}:{settings.https_port}",
        "FOREGATE_CA_FILE": str(home.edge_ca),
        "FOREGATE_AUTH_DOMAIN": settings.auth_domain,
    }
