// The life cycle of tokens, applications, policies, groups and tunnels through the unmodified official SDK, v7.
//
// After each step one JSON line {"step", "value"} goes to stdout, and the program waits for a line on stdin: meanwhile
// the test looks at the edge. `../../test_life_cycle.py` says what every step must show.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/accounts"
	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/zero_trust"
)

var (
	ctx    = context.Background()
	lines  = bufio.NewReader(os.Stdin)
	prefix = env("LIFE_CYCLE_PREFIX")
	host   = env("LIFE_CYCLE_HOSTNAME")
	// Every call of the SDK takes the account as a field of its own.
	account = cloudflare.F(env("CLOUDFLARE_ACCOUNT_ID"))
	client  = cloudflare.NewClient(
		option.WithBaseURL(env("CLOUDFLARE_BASE_URL")), option.WithAPIToken(env("CLOUDFLARE_API_TOKEN")))
	access = client.ZeroTrust.Access
)

func main() {
	log.SetFlags(0)
	identity()
	token := must(access.ServiceTokens.New(ctx, zero_trust.AccessServiceTokenNewParams{
		AccountID: account, Name: cloudflare.F(prefix + " token"), Duration: cloudflare.F("2160h")}))
	emit("token", raw(token.JSON))
	tunnelID := tunnel()
	groupID := group(token.ID)
	policyID := policy(groupID)
	appID := application(policyID)
	listed()
	rotations(token.ID)
	switches(token.ID)
	refusals(token.ID)
	organization()
	keys()
	emit("requests", must(access.Logs.AccessRequests.List(ctx, zero_trust.AccessLogAccessRequestListParams{
		AccountID: account, Limit: cloudflare.F(int64(100))})))
	removed(token.ID, tunnelID, groupID, policyID, appID)
}

func identity() {
	verified := must(client.User.Tokens.Verify(ctx))
	found := must(client.Accounts.Get(ctx, accounts.AccountGetParams{AccountID: account}))
	ids := []string{}
	pages := client.Accounts.ListAutoPaging(ctx, accounts.AccountListParams{})
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	check(pages.Err())
	emit("identity", map[string]any{"status": verified.Status, "account_id": found.ID, "accounts": ids})
}

func tunnel() string {
	made := must(client.ZeroTrust.Tunnels.Cloudflared.New(ctx, zero_trust.TunnelCloudflaredNewParams{
		AccountID: account, Name: cloudflare.F(prefix),
		ConfigSrc: cloudflare.F(zero_trust.TunnelCloudflaredNewParamsConfigSrcCloudflare)}))
	configurations := client.ZeroTrust.Tunnels.Cloudflared.Configurations
	must(configurations.Update(ctx, made.ID, zero_trust.TunnelCloudflaredConfigurationUpdateParams{
		AccountID: account,
		Config: cloudflare.F(zero_trust.TunnelCloudflaredConfigurationUpdateParamsConfig{
			Ingress: cloudflare.F([]zero_trust.TunnelCloudflaredConfigurationUpdateParamsConfigIngress{
				{Hostname: cloudflare.F(host), Service: cloudflare.F(env("LIFE_CYCLE_ORIGIN"))},
				{Hostname: cloudflare.F(""), Service: cloudflare.F("http_status:404")},
			})})}))
	found := must(configurations.Get(ctx, made.ID, zero_trust.TunnelCloudflaredConfigurationGetParams{AccountID: account}))
	ids := []string{}
	pages := client.ZeroTrust.Tunnels.Cloudflared.ListAutoPaging(ctx, zero_trust.TunnelCloudflaredListParams{
		AccountID: account, IsDeleted: cloudflare.F(false)})
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	check(pages.Err())
	ingress := []map[string]any{}
	for _, rule := range found.Config.Ingress {
		ingress = append(ingress, map[string]any{"hostname": rule.Hostname, "service": rule.Service})
	}
	emit("tunnel", map[string]any{"id": made.ID, "listed": ids, "ingress": ingress})
	return made.ID
}

func group(tokenID string) string {
	include := cloudflare.F([]zero_trust.AccessRuleUnionParam{zero_trust.ServiceTokenRuleParam{
		ServiceToken: cloudflare.F(zero_trust.ServiceTokenRuleServiceTokenParam{TokenID: cloudflare.F(tokenID)})}})
	name := cloudflare.F(prefix + " group")
	made := must(access.Groups.New(ctx, zero_trust.AccessGroupNewParams{AccountID: account, Name: name, Include: include}))
	must(access.Groups.Update(ctx, made.ID, zero_trust.AccessGroupUpdateParams{
		AccountID: account, Name: name, Include: include,
		Exclude: cloudflare.F([]zero_trust.AccessRuleUnionParam{zero_trust.IPRuleParam{
			IP: cloudflare.F(zero_trust.IPRuleIPParam{IP: cloudflare.F("192.0.2.0/24")})}})}))
	found := must(access.Groups.Get(ctx, made.ID, zero_trust.AccessGroupGetParams{AccountID: account}))
	emit("group", raw(found.JSON))
	return made.ID
}

func policy(groupID string) string {
	made := must(access.Policies.New(ctx, zero_trust.AccessPolicyNewParams{
		AccountID: account, Name: cloudflare.F(prefix + " policy"), Decision: cloudflare.F(zero_trust.DecisionNonIdentity),
		Include: cloudflare.F([]zero_trust.AccessRuleUnionParam{zero_trust.GroupRuleParam{
			Group: cloudflare.F(zero_trust.GroupRuleGroupParam{ID: cloudflare.F(groupID)})}})}))
	found := must(access.Policies.Get(ctx, made.ID, zero_trust.AccessPolicyGetParams{AccountID: account}))
	emit("policy", raw(found.JSON))
	return made.ID
}

func application(policyID string) string {
	link := zero_trust.AccessApplicationNewParamsBodySelfHostedApplicationPoliciesAccessAppPolicyLink{
		ID: cloudflare.F(policyID), Precedence: cloudflare.F(int64(1))}
	made := must(access.Applications.New(ctx, zero_trust.AccessApplicationNewParams{
		AccountID: account,
		Body: zero_trust.AccessApplicationNewParamsBodySelfHostedApplication{
			Type: cloudflare.F(zero_trust.ApplicationTypeSelfHosted), Name: cloudflare.F(prefix + " app"),
			Domain: cloudflare.F(host), SessionDuration: cloudflare.F("1h"),
			Policies: cloudflare.F([]zero_trust.AccessApplicationNewParamsBodySelfHostedApplicationPolicyUnion{link}),
		}}))
	get := zero_trust.AccessApplicationGetParams{AccountID: account}
	emit("app", raw(must(access.Applications.Get(ctx, made.ID, get)).JSON))
	must(access.Applications.Update(ctx, made.ID, zero_trust.AccessApplicationUpdateParams{
		AccountID: account,
		Body: zero_trust.AccessApplicationUpdateParamsBodySelfHostedApplication{
			Type: cloudflare.F(zero_trust.ApplicationTypeSelfHosted), Name: cloudflare.F(prefix + " app"),
			Domain: cloudflare.F(host), SessionDuration: cloudflare.F("1h"), ServiceAuth401Redirect: cloudflare.F(true),
		}}))
	emit("app changed", raw(must(access.Applications.Get(ctx, made.ID, get)).JSON))
	return made.ID
}

func listed() {
	tokens, apps, policies, groups := []string{}, []string{}, []string{}, []string{}
	tokenPages := access.ServiceTokens.ListAutoPaging(ctx, zero_trust.AccessServiceTokenListParams{AccountID: account})
	for tokenPages.Next() {
		tokens = append(tokens, tokenPages.Current().ID)
	}
	appPages := access.Applications.ListAutoPaging(ctx, zero_trust.AccessApplicationListParams{AccountID: account})
	for appPages.Next() {
		apps = append(apps, appPages.Current().ID)
	}
	policyPages := access.Policies.ListAutoPaging(ctx, zero_trust.AccessPolicyListParams{AccountID: account})
	for policyPages.Next() {
		policies = append(policies, policyPages.Current().ID)
	}
	groupPages := access.Groups.ListAutoPaging(ctx, zero_trust.AccessGroupListParams{AccountID: account})
	for groupPages.Next() {
		groups = append(groups, groupPages.Current().ID)
	}
	check(errors.Join(tokenPages.Err(), appPages.Err(), policyPages.Err(), groupPages.Err()))
	emit("listed", map[string]any{"tokens": tokens, "apps": apps, "policies": policies, "groups": groups})
}

func rotations(id string) {
	update := func(params zero_trust.AccessServiceTokenUpdateParams) json.RawMessage {
		params.AccountID = account
		return raw(must(access.ServiceTokens.Update(ctx, id, params)).JSON)
	}
	update(zero_trust.AccessServiceTokenUpdateParams{Name: cloudflare.F(prefix + " renamed")})
	emit("renamed", got(id))
	emit("rotated with overlap", raw(must(access.ServiceTokens.Rotate(ctx, id, zero_trust.AccessServiceTokenRotateParams{
		AccountID: account, PreviousClientSecretExpiresAt: cloudflare.F(time.Now().Add(time.Hour))})).JSON))
	update(zero_trust.AccessServiceTokenUpdateParams{
		ClientSecretVersion:           cloudflare.F(2.0),
		PreviousClientSecretExpiresAt: cloudflare.F(time.Now().Add(-time.Hour))})
	emit("previous secret ended", got(id))
	emit("rotated at once", raw(must(access.ServiceTokens.Rotate(ctx, id, zero_trust.AccessServiceTokenRotateParams{
		AccountID: account})).JSON))
	bump := zero_trust.AccessServiceTokenUpdateParams{
		ClientSecretVersion:           cloudflare.F(4.0),
		PreviousClientSecretExpiresAt: cloudflare.F(time.Now().Add(time.Hour))}
	emit("rotated by version", update(bump))
	emit("version repeated", update(bump))
}

func switches(id string) {
	emit("refreshed", raw(must(access.ServiceTokens.Refresh(ctx, id, zero_trust.AccessServiceTokenRefreshParams{
		AccountID: account})).JSON))
	// This version has no field for it; its users set it as the SDK's own text on undocumented params says.
	for step, enabled := range []bool{false, true} {
		changed := must(access.ServiceTokens.Update(ctx, id, zero_trust.AccessServiceTokenUpdateParams{AccountID: account},
			option.WithJSONSet("enabled", enabled)))
		emit([]string{"disabled", "enabled"}[step], raw(changed.JSON))
	}
	made := must(access.ServiceTokens.New(ctx, zero_trust.AccessServiceTokenNewParams{
		AccountID: account, Name: cloudflare.F(prefix + " forever"), Duration: cloudflare.F("forever")}))
	deleted := must(access.ServiceTokens.Delete(ctx, made.ID, zero_trust.AccessServiceTokenDeleteParams{AccountID: account}))
	emit("forever", map[string]any{"created": raw(made.JSON), "deleted_id": deleted.ID})
}

func refusals(id string) {
	_, inUse := access.ServiceTokens.Delete(ctx, id, zero_trust.AccessServiceTokenDeleteParams{AccountID: account})
	_, badDuration := access.ServiceTokens.New(ctx, zero_trust.AccessServiceTokenNewParams{
		AccountID: account, Name: cloudflare.F(prefix), Duration: cloudflare.F("a year")})
	_, unknown := access.ServiceTokens.Get(ctx, "00000000-0000-4000-8000-000000000000",
		zero_trust.AccessServiceTokenGetParams{AccountID: account})
	emit("refusals", map[string]any{
		"in_use": refusal(inUse), "bad_duration": refusal(badDuration), "unknown": refusal(unknown)})
}

func organization() {
	found := must(client.ZeroTrust.Organizations.List(ctx, zero_trust.OrganizationListParams{AccountID: account}))
	updated := must(client.ZeroTrust.Organizations.Update(ctx, zero_trust.OrganizationUpdateParams{
		AccountID: account, Name: cloudflare.F(prefix + " organization")}))
	emit("organization", map[string]any{"auth_domain": found.AuthDomain, "name": updated.Name})
}

func keys() {
	before := must(access.Keys.Get(ctx, zero_trust.AccessKeyGetParams{AccountID: account}))
	must(access.Keys.Update(ctx, zero_trust.AccessKeyUpdateParams{
		AccountID: account, KeyRotationIntervalDays: cloudflare.F(42.0)}))
	after := must(access.Keys.Rotate(ctx, zero_trust.AccessKeyRotateParams{AccountID: account}))
	emit("keys", map[string]any{"before": raw(before.JSON), "after": raw(after.JSON)})
}

func removed(tokenID, tunnelID, groupID, policyID, appID string) {
	must(access.Applications.RevokeTokens(ctx, appID, zero_trust.AccessApplicationRevokeTokensParams{AccountID: account}))
	app := must(access.Applications.Delete(ctx, appID, zero_trust.AccessApplicationDeleteParams{AccountID: account}))
	policy := must(access.Policies.Delete(ctx, policyID, zero_trust.AccessPolicyDeleteParams{AccountID: account}))
	group := must(access.Groups.Delete(ctx, groupID, zero_trust.AccessGroupDeleteParams{AccountID: account}))
	tunnel := must(client.ZeroTrust.Tunnels.Cloudflared.Delete(ctx, tunnelID,
		zero_trust.TunnelCloudflaredDeleteParams{AccountID: account}))
	token := must(access.ServiceTokens.Delete(ctx, tokenID, zero_trust.AccessServiceTokenDeleteParams{AccountID: account}))
	_, gone := access.ServiceTokens.Get(ctx, tokenID, zero_trust.AccessServiceTokenGetParams{AccountID: account})
	emit("removed", map[string]any{"app": app.ID, "policy": policy.ID, "group": group.ID, "tunnel": tunnel.ID,
		"token": token.ID, "gone": refusal(gone)})
}

func got(id string) json.RawMessage {
	return raw(must(access.ServiceTokens.Get(ctx, id, zero_trust.AccessServiceTokenGetParams{AccountID: account})).JSON)
}

// The answer as it came: the SDK leaves fields it does not know out of its types.
func raw(answer interface{ RawJSON() string }) json.RawMessage {
	return json.RawMessage(answer.RawJSON())
}

func emit(step string, value any) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"step": step, "value": value}))
	if _, err := lines.ReadString('\n'); err != nil {
		log.Fatalf("the test went away at %s", step)
	}
}

func refusal(err error) map[string]any {
	var refused *cloudflare.Error
	if !errors.As(err, &refused) || len(refused.Errors) == 0 {
		log.Fatalf("the call was expected to be refused, got %v", err)
	}
	return map[string]any{"status": refused.StatusCode, "code": refused.Errors[0].Code}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func env(name string) string {
	value := os.Getenv(name)
	if value == "" {
		log.Fatalf("%s is not set", name)
	}
	return value
}
