"""The reference decision, case by case: target, application, credentials, policies, in the order they are judged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_values import (
    ACCOUNT,
    ANY_TOKEN,
    EVERYONE,
    NOW,
    OTHER_ACCOUNT,
    account,
    app,
    client_id,
    ingress,
    knowledge,
    pair,
    policy,
    request,
    rule,
    seconds_from_now,
    secret_of,
    secret_version,
    token,
)
from foregate.access.model import Request
from foregate.access.rules import decide, read_target
from foregate.core.decision import MEANINGS, Decision, Reason
from foregate.edge.wire import AppValue, GroupSelector, IpSelector, PolicyValue, Rule, TokenSelector, TokenValue

SERVICE_AUTH = policy("auth", "non_identity", rule(ANY_TOKEN), seconds=600)
GUARDED = app("app.test", policies=[SERVICE_AUTH])


def reason_of(asked: Request, guarded: AppValue = GUARDED, **tokens: TokenValue) -> Reason:
    known = knowledge({"a1": guarded}, tokens={1: token(1), **{int(n[1:]): value for n, value in tokens.items()}})
    return decide(asked, known, NOW).reason


class TestTarget:
    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(request("/"), id="plain"),
            pytest.param(request("/", host="APP.TEST.:8443"), id="case, dot, port"),
            pytest.param(request("http://app.test/"), id="absolute form"),
            pytest.param(request("http://app.test"), id="absolute form without path"),
            pytest.param(request("HTTP://APP.test:80/?q"), id="absolute form, default port"),
            pytest.param(request("http://app.test:/"), id="absolute form, empty port"),
            pytest.param(request("http://app.test/", host="app.test:80"), id="default port in the host"),
            pytest.param(request("http://app.test/", host="app.test:"), id="empty port in the host"),
            pytest.param(request("https://app.test:8443/", host="app.test:8443"), id="absolute form, port"),
            pytest.param(request("/", ("hOsT", "App.Test")), id="the same host twice"),
        ],
    )
    def test_forms_of_one_target_are_judged_alike(self, asked: Request) -> None:
        target = read_target(asked)

        assert target is not None
        assert (target.host, target.path) == ("app.test", "/")

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(request("/", host=None), id="no host"),
            pytest.param(request("/", host=""), id="empty host"),
            pytest.param(request("/", host="app..test"), id="malformed host"),
            pytest.param(request("/", ("Host", "other.test")), id="two hosts"),
            pytest.param(request("http://app.test/", host=None), id="absolute form, no host"),
            pytest.param(request("http://other.test/"), id="absolute form, other host"),
            pytest.param(request("http://app.test:8080/"), id="absolute form, other port"),
            pytest.param(request("http://app.test:443/"), id="absolute form, other scheme's port"),
            pytest.param(request("http://me@app.test/"), id="absolute form, user"),
            pytest.param(request("http:///"), id="absolute form, empty authority"),
            pytest.param(request("ftp://app.test/"), id="absolute form, other scheme"),
            pytest.param(request("*"), id="asterisk form"),
            pytest.param(request("app.test:443"), id="authority form"),
            pytest.param(request("a"), id="relative"),
            pytest.param(request("?a"), id="query alone"),
            pytest.param(request(""), id="empty"),
            pytest.param(request("/a b"), id="blank"),
            pytest.param(request("/\xc3\xa4"), id="UTF-8"),
            pytest.param(request("/?\xff"), id="octet in query"),
            pytest.param(request("/#a"), id="fragment"),
            pytest.param(request("/?a#b"), id="fragment after query"),
            pytest.param(request("/a%2Fb"), id="encoded slash"),
            pytest.param(request("/a%5cb"), id="encoded backslash"),
            pytest.param(request("/a\\b"), id="backslash"),
            pytest.param(request("/%00"), id="encoded NUL"),
            pytest.param(request("/%zz"), id="bad escape"),
        ],
    )
    def test_malformed_target_is_refused_before_anything_else(self, asked: Request) -> None:
        known = knowledge({"a1": app("app.test", policies=[policy("open", "bypass")])})

        assert decide(asked, known, NOW) == Decision(Reason.REQUEST_MALFORMED, 400)

    @pytest.mark.parametrize("query", ["", "?", "?a=%61//../%2f%zz\\&?x"])
    def test_query_is_not_judged_and_stays_as_it_came(self, query: str) -> None:
        target = read_target(request("/a//b" + query))

        assert target is not None
        assert (target.path, target.query) == ("/a/b", query)


class TestApplication:
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            pytest.param(request("/"), "whole", id="host"),
            pytest.param(request("/admin"), "admin", id="path"),
            pytest.param(request("/admin/x"), "admin", id="below"),
            pytest.param(request("/administrator"), "whole", id="not a boundary"),
            pytest.param(request("/%61dmin"), "admin", id="escaped"),
            pytest.param(request("/public/../admin"), "admin", id="dot segments"),
            pytest.param(request("//admin"), "admin", id="doubled slash"),
            pytest.param(request("/admin/.."), "whole", id="climbs out"),
            pytest.param(request("/", host="other.test"), "wild", id="wildcard host"),
            pytest.param(request("/x/y/z"), "deep", id="more segments"),
            pytest.param(request("/x/y"), "deep", id="wildcard segment"),
            pytest.param(request("/x/"), "whole", id="wildcard needs a segment"),
            pytest.param(request("/", host="a.b.test"), "", id="wildcard is one label"),
        ],
    )
    def test_most_specific_application_decides_alone(self, asked: Request, expected: str) -> None:
        patterns = {"whole": "app.test", "admin": "app.test/admin", "wild": "*.test", "deep": "app.test/x/*"}
        known = knowledge({name: app(pattern) for name, pattern in patterns.items()})

        assert decide(asked, known, NOW).app_id == expected

    def test_policies_of_a_less_specific_application_are_not_inherited(self) -> None:
        open_app = app("app.test", policies=[policy("open", "bypass")])
        known = knowledge({"whole": open_app, "admin": app("app.test/admin")})

        assert decide(request("/admin"), known, NOW) == Decision(Reason.NO_CREDENTIALS, 403, "admin")

    @pytest.mark.parametrize(
        ("organization", "expected"),
        [
            pytest.param(account(), Reason.NO_APPLICATION, id="denies"),
            pytest.param(account(denies=False), Reason.UNPROTECTED_HOST, id="allows"),
            pytest.param(account(exempted=("app.test",)), Reason.UNPROTECTED_HOST, id="exempted"),
            pytest.param(account(exempted=("test", "x.app.test")), Reason.NO_APPLICATION, id="other exempted"),
            pytest.param(None, Reason.NO_APPLICATION, id="unknown account"),
        ],
    )
    def test_host_without_application_is_refused_unless_the_organization_says_otherwise(
        self, organization: object, expected: Reason
    ) -> None:
        accounts = {ACCOUNT: organization} if organization else {}
        known = knowledge(ingresses=[ingress("app.test")], accounts=accounts)  # type: ignore[arg-type]

        assert decide(request(), known, NOW).reason is expected

    def test_host_without_application_and_without_ingress_is_refused_whatever_the_organization_says(self) -> None:
        known = knowledge(accounts={ACCOUNT: account(denies=False)})

        assert decide(request(), known, NOW) == Decision(Reason.NO_APPLICATION, 403)

    @pytest.mark.parametrize(
        ("hostname", "is_open"), [("app.test", True), ("*.test", True), ("*.app.test", False), ("*.est", False)]
    )
    def test_unprotected_host_is_found_by_exact_or_wildcard_ingress(self, hostname: str, is_open: bool) -> None:
        known = knowledge(ingresses=[ingress(hostname)], accounts={ACCOUNT: account(denies=False)})

        assert decide(request(), known, NOW).is_allowed is is_open

    def test_exact_ingress_decides_before_a_wildcard_of_another_account(self) -> None:
        known = knowledge(
            ingresses=[ingress("app.test"), ingress("*.test", account=OTHER_ACCOUNT)],
            accounts={ACCOUNT: account(), OTHER_ACCOUNT: account(denies=False)},
        )

        assert decide(request(), known, NOW).reason is Reason.NO_APPLICATION

    def test_credentials_on_an_unprotected_host_are_not_judged(self) -> None:
        known = knowledge(ingresses=[ingress("app.test")], accounts={ACCOUNT: account(denies=False)})

        assert decide(request("/", *pair(9)), known, NOW) == Decision(Reason.UNPROTECTED_HOST, None)

    @pytest.mark.parametrize("host", ["app.test", "auth.test", "x.wild.test"])
    @pytest.mark.parametrize(
        "path", ["/cdn-cgi/access/certs", "/cdn-cgi/access", "/cdn-cgi/access/", "/x/../cdn-cgi//access/a"]
    )
    def test_edge_answers_its_own_paths_on_hosts_it_guards(self, host: str, path: str) -> None:
        known = knowledge({"a": app("app.test/only/here"), "w": app("*.wild.test")})

        assert decide(request(path, host=host), known, NOW).reason is Reason.EDGE_ANSWER

    @pytest.mark.parametrize(
        ("host", "path"),
        [("app.test", "/cdn-cgi/accessory"), ("app.test", "/cdn-cgi/other"), ("free.test", "/cdn-cgi/access/certs")],
    )
    def test_other_paths_and_hosts_are_judged_as_any(self, host: str, path: str) -> None:
        known = knowledge({"a": GUARDED})

        assert decide(request(path, host=host), known, NOW).reason is not Reason.EDGE_ANSWER

    @pytest.mark.parametrize(
        ("method", "value", "is_answered"),
        [("HEAD", "true", True), ("GET", "true", False), ("HEAD", "false", False), ("HEAD", "", False)],
    )
    def test_edge_tells_cloudflared_what_application_it_found(self, method: str, value: str, is_answered: bool) -> None:
        asked = request("/x", ("Cf-Access-Metadata-Request", value), method=method)

        assert (reason_of(asked) is Reason.EDGE_ANSWER) is is_answered
        assert decide(asked, knowledge(), NOW).reason is Reason.NO_APPLICATION


def as_json(**members: object) -> str:
    return json.dumps({name.replace("_", "-"): value for name, value in members.items()})


GOOD_JSON = as_json(cf_access_client_id=client_id(1), cf_access_client_secret=secret_of(1))
OWN_HEADER = replace(GUARDED, token_header="authorization")
ID, SECRET = pair(1)


class TestCredentials:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([ID, SECRET], id="plain"),
            pytest.param([SECRET, ID], id="other order"),
            pytest.param([(n.upper(), v) for n, v in (ID, SECRET)], id="upper case"),
            pytest.param([(n.lower(), f" \t{v} ") for n, v in (ID, SECRET)], id="blanks around"),
            pytest.param([ID, SECRET, ("Authorization", "Bearer x")], id="beside another header"),
            pytest.param([ID, SECRET, ("Authorization", "Bearer x"), ("Authorization", "y")], id="beside two others"),
        ],
    )
    def test_standard_pair_authenticates(self, headers: list[tuple[str, str]]) -> None:
        assert reason_of(request("/", *headers), OWN_HEADER) is Reason.SERVICE_AUTH

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([ID], id="id alone"),
            pytest.param([SECRET], id="secret alone"),
            pytest.param([ID, SECRET, ID], id="doubled id"),
            pytest.param([ID, SECRET, SECRET], id="doubled secret"),
            pytest.param([(ID[0], ""), SECRET], id="empty id"),
            pytest.param([ID, (SECRET[0], "")], id="empty secret"),
            pytest.param([ID, (SECRET[0], " \t")], id="blank secret"),
            pytest.param([(ID[0], ""), (SECRET[0], "")], id="both empty"),
            pytest.param([(ID[0], f"{ID[1]}, {ID[1]}"), SECRET], id="folded id"),
            pytest.param([ID, (SECRET[0], f"{SECRET[1]},{SECRET[1]}")], id="folded secret"),
            pytest.param([ID, (SECRET[0], f"{SECRET[1]},")], id="trailing comma"),
        ],
    )
    def test_pair_that_is_not_one_pair_is_malformed(self, headers: list[tuple[str, str]]) -> None:
        assert reason_of(request("/", *headers)) is Reason.CREDENTIALS_MALFORMED

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(GOOD_JSON, id="plain"),
            pytest.param(f"  {GOOD_JSON}\t", id="blanks around"),
            pytest.param(json.dumps(json.loads(GOOD_JSON), indent=1).replace("\n", "\t"), id="blanks inside"),
            pytest.param(GOOD_JSON.replace("cf-access-client-id", "CF-Access-Client-Id"), id="upper-case name"),
            pytest.param(GOOD_JSON.replace(".access", r"\u002eaccess"), id="escape"),
        ],
    )
    def test_application_s_own_header_authenticates(self, value: str) -> None:
        assert reason_of(request("/", ("authorization", value)), OWN_HEADER) is Reason.SERVICE_AUTH

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([("Authorization", GOOD_JSON), ID], id="id beside it"),
            pytest.param([("Authorization", GOOD_JSON), ID, SECRET], id="pair beside it"),
            pytest.param([("Authorization", GOOD_JSON)] * 2, id="doubled"),
            pytest.param(
                [("Authorization", "Bearer x"), ("Authorization", GOOD_JSON)], id="doubled, one of another use"
            ),
            pytest.param([("Authorization", f"{GOOD_JSON}, {GOOD_JSON}")], id="folded"),
            *(
                pytest.param([("Authorization", value)], id=name)
                for name, value in {
                    "brace": "{",
                    "empty object": "{}",
                    "no JSON": "{x}",
                    "trailing": GOOD_JSON + "x",
                    "id alone": as_json(cf_access_client_id=client_id(1)),
                    "empty secret": as_json(cf_access_client_id=client_id(1), cf_access_client_secret=""),
                    "null": as_json(cf_access_client_id=client_id(1), cf_access_client_secret=None),
                    "number": as_json(cf_access_client_id=client_id(1), cf_access_client_secret=1),
                    "nested": as_json(cf_access_client_id=client_id(1), cf_access_client_secret={"a": "b"}),
                    "more members": GOOD_JSON[:-1] + ', "x": "y"}',
                    "doubled member": GOOD_JSON[:-1] + f', "CF-ACCESS-CLIENT-ID": "{client_id(1)}"}}',
                    "comma": as_json(cf_access_client_id=client_id(1), cf_access_client_secret="a,b"),
                    "no UTF-8": GOOD_JSON[:-2] + '\xff"}',
                    "half a surrogate": GOOD_JSON[:-2] + '\\ud800"}',
                    "control character": GOOD_JSON[:-2] + '\t"}',
                    "very deep": '{"a":' + "[" * 20000,
                }.items()
            ),
        ],
    )
    def test_own_header_that_is_not_exactly_one_pair_is_malformed(self, headers: list[tuple[str, str]]) -> None:
        assert reason_of(request("/", *headers), OWN_HEADER) is Reason.CREDENTIALS_MALFORMED

    @pytest.mark.parametrize(
        ("guarded", "value"),
        [(OWN_HEADER, "Bearer x"), (OWN_HEADER, ""), (OWN_HEADER, f"[{GOOD_JSON}]"), (GUARDED, GOOD_JSON)],
        ids=["another scheme", "empty", "no object", "application without the header"],
    )
    def test_header_of_another_use_carries_no_credentials(self, guarded: AppValue, value: str) -> None:
        assert reason_of(request("/", ("Authorization", value)), guarded) is Reason.NO_CREDENTIALS

    @pytest.mark.parametrize(
        "presented",
        ["x", "0" * 32, client_id(2), client_id(1).upper(), client_id(1) + ".example.com", "g" * 32 + ".access",
         client_id(1) + "\xff"],
    )  # fmt: skip
    def test_client_id_that_nobody_has_is_unknown(self, presented: str) -> None:
        assert reason_of(request("/", (ID[0], presented), SECRET)) is Reason.TOKEN_UNKNOWN

    def test_token_of_another_account_is_unknown(self) -> None:
        foreign = token(2, account=OTHER_ACCOUNT)

        assert reason_of(request("/", *pair(2)), t2=foreign) is Reason.TOKEN_UNKNOWN

    OLD = secret_version(1, 1, ends=seconds_from_now(60))
    ENDED = secret_version(1, 1, ends=seconds_from_now(0))
    NEW = secret_version(1, 2)

    @pytest.mark.parametrize(
        ("value", "version", "expected"),
        [
            pytest.param(token(1), 1, Reason.SERVICE_AUTH, id="live"),
            pytest.param(token(1), 2, Reason.SECRET_MISMATCH, id="wrong secret"),
            pytest.param(token(1, secrets=(NEW, OLD)), 2, Reason.SERVICE_AUTH, id="new one in overlap"),
            pytest.param(token(1, secrets=(NEW, OLD)), 1, Reason.SERVICE_AUTH, id="old one in overlap"),
            pytest.param(token(1, secrets=(NEW, OLD)), 3, Reason.SECRET_MISMATCH, id="neither"),
            pytest.param(token(1, secrets=(NEW, ENDED)), 1, Reason.SECRET_SUPERSEDED, id="old one at its end"),
            pytest.param(token(1, secrets=(NEW, ENDED)), 2, Reason.SERVICE_AUTH, id="new one after overlap"),
            pytest.param(token(1, secrets=(NEW,)), 1, Reason.SECRET_MISMATCH, id="old one forgotten"),
            pytest.param(
                token(1, secrets=(secret_version(1, 2, pepper=2), OLD)), 2, Reason.SERVICE_AUTH, id="another pepper"
            ),
            pytest.param(
                token(1, secrets=(secret_version(1, 2, pepper=2), OLD)), 1, Reason.SERVICE_AUTH, id="the older pepper"
            ),
            pytest.param(
                token(1, secrets=(replace(NEW, pepper_version=9), OLD)), 2, Reason.SECRET_MISMATCH, id="unknown pepper"
            ),
            pytest.param(token(1, is_enabled=False), 1, Reason.TOKEN_DISABLED, id="disabled"),
            pytest.param(token(1, ends=seconds_from_now(1)), 1, Reason.SERVICE_AUTH, id="second before expiry"),
            pytest.param(token(1, ends=seconds_from_now(0)), 1, Reason.TOKEN_EXPIRED, id="at expiry"),
            pytest.param(token(1, ends=seconds_from_now(-1)), 1, Reason.TOKEN_EXPIRED, id="after expiry"),
            pytest.param(
                token(1, ends=seconds_from_now(-1), is_enabled=False), 1, Reason.TOKEN_DISABLED, id="disabled, expired"
            ),
            pytest.param(
                token(1, ends=seconds_from_now(-1), is_enabled=False), 2, Reason.SECRET_MISMATCH, id="wrong and dead"
            ),
            pytest.param(
                token(1, secrets=(NEW, ENDED), is_enabled=False), 1, Reason.SECRET_SUPERSEDED, id="superseded, disabled"
            ),
        ],
    )
    def test_token_s_state_decides_in_order(self, value: TokenValue, version: int, expected: Reason) -> None:
        assert reason_of(request("/", *pair(1, version)), t1=value) is expected

    def test_bad_credentials_are_refused_even_where_everyone_may_pass(self) -> None:
        open_app = app("app.test", policies=[policy("open", "bypass")])

        assert reason_of(request("/", *pair(1, 2)), open_app) is Reason.SECRET_MISMATCH

    def test_refusal_names_the_application_and_no_client(self) -> None:
        known = knowledge({"a1": GUARDED}, tokens={1: token(1, is_enabled=False)})

        assert decide(request("/", *pair(1)), known, NOW) == Decision(Reason.TOKEN_DISABLED, 401, "a1")


def by_policies(policies: list[PolicyValue], *, number: int | None = None, address: str = "192.0.2.7") -> Decision:
    known = knowledge({"a1": app("app.test", policies=policies)}, tokens={1: token(1), 2: token(2)})
    return decide(request("/", *(pair(number) if number else ()), address=address), known, NOW)


class TestPolicies:
    def test_service_auth_gives_policy_client_and_session(self) -> None:
        assert by_policies([SERVICE_AUTH], number=1) == Decision(
            Reason.SERVICE_AUTH, None, "a1", "auth", client_id(1), 600
        )

    def test_bypass_names_the_client_only_where_credentials_were_verified(self) -> None:
        policies = [policy("open", "bypass")]

        assert by_policies(policies) == Decision(Reason.BYPASS, None, "a1", "open")
        assert by_policies(policies, number=1) == Decision(Reason.BYPASS, None, "a1", "open", client_id(1))

    @pytest.mark.parametrize(
        ("policies", "number", "expected", "policy_id"),
        [
            pytest.param([], None, Reason.NO_CREDENTIALS, "", id="no policy, no credentials"),
            pytest.param([], 1, Reason.NO_POLICY_MATCHED, "", id="no policy"),
            pytest.param(
                [policy("a", "non_identity")], None, Reason.NO_CREDENTIALS, "", id="everyone still needs a token"
            ),
            pytest.param([policy("a", "non_identity")], 1, Reason.SERVICE_AUTH, "a", id="everyone with a token"),
            pytest.param(
                [policy("a", "non_identity", rule(TokenSelector(client_id(2)))), policy("b", "non_identity")],
                1, Reason.SERVICE_AUTH, "b", id="the second matches",
            ),
            pytest.param(
                [policy("a", "non_identity"), policy("b", "bypass")], 1, Reason.SERVICE_AUTH, "a", id="auth first"
            ),
            pytest.param(
                [policy("b", "bypass"), policy("a", "non_identity")], 1, Reason.BYPASS, "b", id="bypass first"
            ),
            pytest.param(
                [policy("a", "non_identity"), policy("b", "bypass")], None, Reason.BYPASS, "b", id="falls to bypass"
            ),
            pytest.param(
                [policy("d", "deny"), policy("a", "non_identity")], 1, Reason.SERVICE_AUTH, "a", id="deny comes after"
            ),
            pytest.param(
                [policy("d", "deny"), policy("a", "non_identity")], None, Reason.POLICY_DENIED, "d", id="denied"
            ),
            pytest.param(
                [policy("d", "deny", rule(ANY_TOKEN))], None, Reason.NO_CREDENTIALS, "", id="deny of tokens, none given"
            ),
            pytest.param([policy("d", "deny", rule(ANY_TOKEN))], 1, Reason.POLICY_DENIED, "d", id="deny of tokens"),
            pytest.param(
                [policy("d", "deny", rule(TokenSelector(client_id(2)))), policy("e", "deny")],
                1, Reason.POLICY_DENIED, "e", id="the second deny",
            ),
            pytest.param(
                [policy("b", "bypass", rule(ANY_TOKEN))], None, Reason.NO_CREDENTIALS, "", id="bypass for tokens, none"
            ),
            pytest.param([policy("b", "bypass", rule(ANY_TOKEN))], 1, Reason.BYPASS, "b", id="bypass for tokens"),
        ],
    )  # fmt: skip
    def test_bypass_and_service_auth_in_order_then_deny(
        self, policies: list[PolicyValue], number: int | None, expected: Reason, policy_id: str
    ) -> None:
        decision = by_policies(policies, number=number)

        assert (decision.reason, decision.policy_id) == (expected, policy_id)

    MINE, THEIRS = TokenSelector(client_id(1)), TokenSelector(client_id(2))
    NEAR, FAR = IpSelector("192.0.2.0/24"), IpSelector("198.51.100.0/24")

    @pytest.mark.parametrize(
        ("what", "passes"),
        [
            pytest.param(rule(MINE), True, id="include token"),
            pytest.param(rule(THEIRS), False, id="include another token"),
            pytest.param(rule(THEIRS, MINE), True, id="any include"),
            pytest.param(rule(), False, id="nothing included"),
            pytest.param(rule(ANY_TOKEN, require=[MINE, NEAR]), True, id="all required"),
            pytest.param(rule(ANY_TOKEN, require=[MINE, FAR]), False, id="one required fails"),
            pytest.param(rule(require=[MINE]), False, id="require includes nobody"),
            pytest.param(rule(ANY_TOKEN, exclude=[THEIRS, FAR]), True, id="none excluded"),
            pytest.param(rule(ANY_TOKEN, exclude=[THEIRS, NEAR]), False, id="one excluded"),
            pytest.param(rule(NEAR), True, id="address"),
            pytest.param(rule(FAR), False, id="other address"),
            pytest.param(rule(GroupSelector(rule(MINE))), True, id="group"),
            pytest.param(rule(GroupSelector(rule(THEIRS))), False, id="group of others"),
            pytest.param(rule(GroupSelector(rule())), False, id="empty group"),
            pytest.param(rule(EVERYONE, exclude=[GroupSelector(rule())]), True, id="empty group excludes nobody"),
            pytest.param(rule(GroupSelector(rule(EVERYONE, exclude=[MINE]))), False, id="group with exclude"),
            pytest.param(
                rule(EVERYONE, exclude=[GroupSelector(rule(EVERYONE, require=[FAR]))]), True, id="group excluded"
            ),
            pytest.param(rule(GroupSelector(rule(GroupSelector(rule(MINE, require=[NEAR]))))), True, id="nested"),
        ],
    )  # fmt: skip
    def test_include_is_any_require_is_all_exclude_is_none(self, what: Rule, passes: bool) -> None:
        assert by_policies([policy("p", "non_identity", what)], number=1).is_allowed is passes

    @pytest.mark.parametrize(
        ("network", "address", "inside"),
        [
            ("192.0.2.7/32", "192.0.2.7", True),
            ("192.0.2.6/32", "192.0.2.7", False),
            ("0.0.0.0/0", "192.0.2.7", True),
            ("0.0.0.0/0", "2001:db8::1", False),
            ("2001:db8::/32", "2001:db8::1", True),
            ("2001:db8::/32", "2001:db9::1", False),
            ("::/0", "192.0.2.7", False),
            ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ],
    )
    def test_address_lies_in_a_network_of_its_own_family(self, network: str, address: str, inside: bool) -> None:
        policies = [policy("p", "bypass", rule(IpSelector(network)))]

        assert by_policies(policies, address=address).is_allowed is inside

    @pytest.mark.parametrize("status", [401, 403])
    def test_missing_credentials_get_the_application_s_status(self, status: int) -> None:
        known = knowledge({"a1": replace(GUARDED, no_credentials_status=status)}, tokens={1: token(1)})

        assert decide(request(), known, NOW) == Decision(Reason.NO_CREDENTIALS, status, "a1")
        denied = replace(known, apps={"a1": replace(known.apps["a1"], policies=(policy("d", "deny"),))})
        assert decide(request(), denied, NOW).status == 403


def test_every_reason_of_the_list_means_an_outcome_and_a_status() -> None:
    assert set(MEANINGS) == set(Reason)
