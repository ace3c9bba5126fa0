// The life cycle of tokens, applications, policies, groups and tunnels through the unmodified old SDK, v0.
//
// After each step one JSON line {"step", "value"} goes to stdout, and the program waits for a line on stdin: meanwhile
// the test looks at the edge. `../../test_life_cycle.py` says what every step must show. This SDK knows neither `enabled`
// nor a date for `rotate`; the steps that need them are left out.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"github.com/cloudflare/cloudflare-go"
)

var (
	ctx     = context.Background()
	lines   = bufio.NewReader(os.Stdin)
	prefix  = env("LIFE_CYCLE_PREFIX")
	host    = env("LIFE_CYCLE_HOSTNAME")
	account = cloudflare.AccountIdentifier(env("CLOUDFLARE_ACCOUNT_ID"))
	api     = must(cloudflare.NewWithAPIToken(
		env("CLOUDFLARE_API_TOKEN"), cloudflare.BaseURL(env("CLOUDFLARE_BASE_URL")), cloudflare.UsingRateLimit(1000)))
)

func main() {
	log.SetFlags(0)
	identity()
	token := must(api.CreateAccessServiceToken(ctx, account, cloudflare.CreateAccessServiceTokenParams{
		Name: prefix + " token", Duration: "2160h"}))
	emit("token", token)
	tunnelID := tunnel()
	groupID := group(token.ID)
	policyID := policy(groupID)
	appID := application(policyID)
	listed()
	rotations(token.ID)
	emit("refreshed", must(api.RefreshAccessServiceToken(ctx, account, token.ID)))
	forever()
	refusals(token.ID)
	organization()
	keys()
	emit("requests", must(api.AccessAuditLogs(ctx, account.Identifier, cloudflare.AccessAuditLogFilterOptions{Limit: 100})))
	removed(token.ID, tunnelID, groupID, policyID, appID)
}

func identity() {
	verified := must(api.VerifyAPIToken(ctx))
	found, _, err := api.Account(ctx, account.Identifier)
	check(err)
	all, _, err := api.Accounts(ctx, cloudflare.AccountsListParams{})
	check(err)
	ids := []string{}
	for _, one := range all {
		ids = append(ids, one.ID)
	}
	emit("identity", map[string]any{"status": verified.Status, "account_id": found.ID, "accounts": ids})
}

func tunnel() string {
	// This SDK insists on a connector's secret, at least 32 bytes in base64; Foregate has no use for it.
	secret := make([]byte, 32)
	rand.Read(secret)
	made := must(api.CreateTunnel(ctx, account, cloudflare.TunnelCreateParams{
		Name: prefix, ConfigSrc: "cloudflare", Secret: base64.StdEncoding.EncodeToString(secret)}))
	must(api.UpdateTunnelConfiguration(ctx, account, cloudflare.TunnelConfigurationParams{
		TunnelID: made.ID,
		Config: cloudflare.TunnelConfiguration{Ingress: []cloudflare.UnvalidatedIngressRule{
			{Hostname: host, Service: env("LIFE_CYCLE_ORIGIN")},
			{Service: "http_status:404"},
		}}}))
	found := must(api.GetTunnelConfiguration(ctx, account, made.ID))
	kept := false
	all, _, err := api.ListTunnels(ctx, account, cloudflare.TunnelListParams{IsDeleted: &kept})
	check(err)
	ids := []string{}
	for _, one := range all {
		ids = append(ids, one.ID)
	}
	ingress := []map[string]any{}
	for _, rule := range found.Config.Ingress {
		ingress = append(ingress, map[string]any{"hostname": rule.Hostname, "service": rule.Service})
	}
	emit("tunnel", map[string]any{"id": made.ID, "listed": ids, "ingress": ingress})
	return made.ID
}

func group(tokenID string) string {
	byToken := cloudflare.AccessGroupServiceToken{}
	byToken.ServiceToken.ID = tokenID
	byIP := cloudflare.AccessGroupIP{}
	byIP.IP.IP = "192.0.2.0/24"
	made := must(api.CreateAccessGroup(ctx, account, cloudflare.CreateAccessGroupParams{
		Name: prefix + " group", Include: []any{byToken}}))
	must(api.UpdateAccessGroup(ctx, account, cloudflare.UpdateAccessGroupParams{
		ID: made.ID, Name: prefix + " group", Include: []any{byToken}, Exclude: []any{byIP}}))
	emit("group", must(api.GetAccessGroup(ctx, account, made.ID)))
	return made.ID
}

func policy(groupID string) string {
	byGroup := cloudflare.AccessGroupAccessGroup{}
	byGroup.Group.ID = groupID
	made := must(api.CreateAccessPolicy(ctx, account, cloudflare.CreateAccessPolicyParams{
		Name: prefix + " policy", Decision: "non_identity", Include: []any{byGroup}}))
	emit("policy", must(api.GetAccessPolicy(ctx, account, cloudflare.GetAccessPolicyParams{PolicyID: made.ID})))
	return made.ID
}

func application(policyID string) string {
	redirect := true
	made := must(api.CreateAccessApplication(ctx, account, cloudflare.CreateAccessApplicationParams{
		Type: cloudflare.SelfHosted, Name: prefix + " app", Domain: host, SessionDuration: "1h",
		Policies: []string{policyID}}))
	emit("app", must(api.GetAccessApplication(ctx, account, made.ID)))
	must(api.UpdateAccessApplication(ctx, account, cloudflare.UpdateAccessApplicationParams{
		ID: made.ID, Type: cloudflare.SelfHosted, Name: prefix + " app", Domain: host, SessionDuration: "1h",
		ServiceAuth401Redirect: &redirect}))
	emit("app changed", must(api.GetAccessApplication(ctx, account, made.ID)))
	return made.ID
}

func listed() {
	tokens, apps, policies, groups := []string{}, []string{}, []string{}, []string{}
	allTokens, _, err := api.ListAccessServiceTokens(ctx, account, cloudflare.ListAccessServiceTokensParams{})
	check(err)
	for _, one := range allTokens {
		tokens = append(tokens, one.ID)
	}
	allApps, _, err := api.ListAccessApplications(ctx, account, cloudflare.ListAccessApplicationsParams{})
	check(err)
	for _, one := range allApps {
		apps = append(apps, one.ID)
	}
	allPolicies, _, err := api.ListAccessPolicies(ctx, account, cloudflare.ListAccessPoliciesParams{})
	check(err)
	for _, one := range allPolicies {
		policies = append(policies, one.ID)
	}
	allGroups, _, err := api.ListAccessGroups(ctx, account, cloudflare.ListAccessGroupsParams{})
	check(err)
	for _, one := range allGroups {
		groups = append(groups, one.ID)
	}
	emit("listed", map[string]any{"tokens": tokens, "apps": apps, "policies": policies, "groups": groups})
}

func rotations(id string) {
	update := func(version int64, previousEnds *time.Time) cloudflare.AccessServiceTokenUpdateResponse {
		return must(api.UpdateAccessServiceToken(ctx, account, cloudflare.UpdateAccessServiceTokenParams{
			UUID: id, Name: prefix + " renamed", ClientSecretVersion: version, PreviousClientSecretExpiresAt: previousEnds}))
	}
	// Version 0 is what this SDK sends where its user gave none.
	emit("renamed", update(0, nil))
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	emit("rotated with overlap", update(2, &later))
	emit("previous secret ended", update(2, &earlier))
	emit("rotated at once", must(api.RotateAccessServiceToken(ctx, account, id)))
	emit("rotated by version", update(4, &later))
	emit("version repeated", update(4, &later))
}

func forever() {
	made := must(api.CreateAccessServiceToken(ctx, account, cloudflare.CreateAccessServiceTokenParams{
		Name: prefix + " forever", Duration: "forever"}))
	deleted := must(api.DeleteAccessServiceToken(ctx, account, made.ID))
	emit("forever", map[string]any{"created": made, "deleted_id": deleted.ID})
}

func refusals(id string) {
	_, inUse := api.DeleteAccessServiceToken(ctx, account, id)
	_, badDuration := api.CreateAccessServiceToken(ctx, account, cloudflare.CreateAccessServiceTokenParams{
		Name: prefix, Duration: "a year"})
	_, unknown := api.RefreshAccessServiceToken(ctx, account, "00000000-0000-4000-8000-000000000000")
	emit("refusals", map[string]any{
		"in_use": refusal(inUse), "bad_duration": refusal(badDuration), "unknown": refusal(unknown)})
}

func organization() {
	found, _, err := api.GetAccessOrganization(ctx, account, cloudflare.GetAccessOrganizationParams{})
	check(err)
	updated := must(api.UpdateAccessOrganization(ctx, account, cloudflare.UpdateAccessOrganizationParams{
		Name: prefix + " organization", AuthDomain: found.AuthDomain}))
	emit("organization", map[string]any{"auth_domain": found.AuthDomain, "name": updated.Name})
}

func keys() {
	before := must(api.AccessKeysConfig(ctx, account.Identifier))
	must(api.UpdateAccessKeysConfig(ctx, account.Identifier, cloudflare.AccessKeysConfigUpdateRequest{
		KeyRotationIntervalDays: 42}))
	emit("keys", map[string]any{"before": before, "after": must(api.RotateAccessKeys(ctx, account.Identifier))})
}

// Deletes of this SDK give no result back, except a token's; a later look-up shows that they happened.
func removed(tokenID, tunnelID, groupID, policyID, appID string) {
	check(api.RevokeAccessApplicationTokens(ctx, account, appID))
	check(api.DeleteAccessApplication(ctx, account, appID))
	check(api.DeleteAccessPolicy(ctx, account, cloudflare.DeleteAccessPolicyParams{PolicyID: policyID}))
	check(api.DeleteAccessGroup(ctx, account, groupID))
	check(api.DeleteTunnel(ctx, account, tunnelID))
	token := must(api.DeleteAccessServiceToken(ctx, account, tokenID))
	_, gone := api.RefreshAccessServiceToken(ctx, account, tokenID)
	emit("removed", map[string]any{"app": appID, "policy": policyID, "group": groupID, "tunnel": tunnelID,
		"token": token.ID, "gone": refusal(gone)})
}

func emit(step string, value any) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"step": step, "value": value}))
	if _, err := lines.ReadString('\n'); err != nil {
		log.Fatalf("the test went away at %s", step)
	}
}

func refusal(err error) map[string]any {
	var refused *cloudflare.Error
	if !errors.As(err, &refused) || len(refused.ErrorCodes) == 0 {
		log.Fatalf("the call was expected to be refused, got %v", err)
	}
	return map[string]any{"status": refused.StatusCode, "code": refused.ErrorCodes[0]}
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
