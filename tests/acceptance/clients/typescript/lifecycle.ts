// The life cycle of tokens, applications, policies, groups and tunnels through the unmodified official SDK.
//
// After each step one JSON line {"step", "value"} goes to stdout, and the program waits for a line on stdin: meanwhile
// the test looks at the edge. `../test_life_cycle.py` says what every step must show.
import Cloudflare from "cloudflare";
import { createInterface } from "node:readline";

const env = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

const account_id = env("CLOUDFLARE_ACCOUNT_ID");
const prefix = env("LIFE_CYCLE_PREFIX");
const hostname = env("LIFE_CYCLE_HOSTNAME");
const service = env("LIFE_CYCLE_ORIGIN");
const client = new Cloudflare({ apiToken: env("CLOUDFLARE_API_TOKEN"), baseURL: env("CLOUDFLARE_BASE_URL") });
const access = client.zeroTrust.access;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function emit(step: string, value: unknown): Promise<void> {
  process.stdout.write(`${JSON.stringify({ step, value })}\n`);
  if ((await lines.next()).done) throw new Error(`the test went away at ${step}`);
}

async function refusal(call: PromiseLike<unknown>): Promise<{ status: number; code: number | undefined }> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Cloudflare.APIError) {
      return { status: error.status ?? 0, code: error.errors?.[0]?.code };
    }
    throw error;
  }
  throw new Error("the call was expected to be refused");
}

async function idsOf(items: AsyncIterable<{ id?: string }>): Promise<string[]> {
  const ids: string[] = [];
  for await (const item of items) ids.push(item.id ?? "");
  return ids;
}

const inHours = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();

const verified = await client.user.tokens.verify();
const account = await client.accounts.get({ account_id });
await emit("identity", { status: verified?.status, account_id: account.id, accounts: await idsOf(client.accounts.list()) });

const token = await access.serviceTokens.create({ account_id, name: `${prefix} token`, duration: "2160h" });
const id = token.id!;
await emit("token", token);

const tunnel = await client.zeroTrust.tunnels.cloudflared.create({ account_id, name: prefix, config_src: "cloudflare" });
const configurations = client.zeroTrust.tunnels.cloudflared.configurations;
await configurations.update(tunnel.id!, {
  account_id,
  config: { ingress: [{ hostname, service }, { hostname: "", service: "http_status:404" }] },
});
const configuration = await configurations.get(tunnel.id!, { account_id });
await emit("tunnel", {
  id: tunnel.id,
  listed: await idsOf(client.zeroTrust.tunnels.cloudflared.list({ account_id, is_deleted: false })),
  ingress: configuration.config?.ingress,
});

const group = await access.groups.create({
  account_id,
  name: `${prefix} group`,
  include: [{ service_token: { token_id: id } }],
});
await access.groups.update(group.id!, {
  account_id,
  name: `${prefix} group`,
  include: [{ service_token: { token_id: id } }],
  exclude: [{ ip: { ip: "192.0.2.0/24" } }],
});
await emit("group", await access.groups.get(group.id!, { account_id }));

const policy = await access.policies.create({
  account_id,
  name: `${prefix} policy`,
  decision: "non_identity",
  include: [{ group: { id: group.id! } }],
});
await emit("policy", await access.policies.get(policy.id!, { account_id }));

const app = await access.applications.create({
  account_id,
  type: "self_hosted",
  name: `${prefix} app`,
  domain: hostname,
  session_duration: "1h",
  policies: [{ id: policy.id!, precedence: 1 }],
});
const appId = app.id!;
await emit("app", await access.applications.get(appId, { account_id }));

await access.applications.update(appId, {
  account_id,
  type: "self_hosted",
  name: `${prefix} app`,
  domain: hostname,
  session_duration: "1h",
  service_auth_401_redirect: true,
});
await emit("app changed", await access.applications.get(appId, { account_id }));

await emit("listed", {
  tokens: await idsOf(access.serviceTokens.list({ account_id })),
  apps: await idsOf(access.applications.list({ account_id })),
  policies: await idsOf(access.policies.list({ account_id })),
  groups: await idsOf(access.groups.list({ account_id })),
});

await access.serviceTokens.update(id, { account_id, name: `${prefix} renamed` });
await emit("renamed", await access.serviceTokens.get(id, { account_id }));

const overlap = { account_id, previous_client_secret_expires_at: inHours(1) };
await emit("rotated with overlap", await access.serviceTokens.rotate(id, overlap));

await access.serviceTokens.update(id, {
  account_id,
  client_secret_version: 2,
  previous_client_secret_expires_at: inHours(-1),
});
await emit("previous secret ended", await access.serviceTokens.get(id, { account_id }));

await emit("rotated at once", await access.serviceTokens.rotate(id, { account_id }));

const bump = { account_id, client_secret_version: 4, previous_client_secret_expires_at: inHours(1) };
await emit("rotated by version", await access.serviceTokens.update(id, bump));
await emit("version repeated", await access.serviceTokens.update(id, bump));

await emit("refreshed", await access.serviceTokens.refresh(id, { account_id }));
await emit("disabled", await access.serviceTokens.update(id, { account_id, enabled: false }));
await emit("enabled", await access.serviceTokens.update(id, { account_id, enabled: true }));

const forever = await access.serviceTokens.create({ account_id, name: `${prefix} forever`, duration: "forever" });
const deleted = await access.serviceTokens.delete(forever.id!, { account_id });
await emit("forever", { created: forever, deleted_id: deleted.id });

await emit("refusals", {
  in_use: await refusal(access.serviceTokens.delete(id, { account_id })),
  bad_duration: await refusal(access.serviceTokens.create({ account_id, name: prefix, duration: "a year" })),
  unknown: await refusal(access.serviceTokens.get("00000000-0000-4000-8000-000000000000", { account_id })),
});

const organization = await client.zeroTrust.organizations.list({ account_id });
const updated = await client.zeroTrust.organizations.update({ account_id, name: `${prefix} organization` });
await emit("organization", { auth_domain: organization.auth_domain, name: updated.name });

const keys = await access.keys.get({ account_id });
await access.keys.update({ account_id, key_rotation_interval_days: 42 });
const rotated = await access.keys.rotate({ account_id });
await emit("keys", { before: keys, after: rotated });

await emit("requests", await access.logs.accessRequests.list({ account_id, limit: 100 }));

await access.applications.revokeTokens(appId, { account_id });
await emit("removed", {
  app: (await access.applications.delete(appId, { account_id })).id,
  policy: (await access.policies.delete(policy.id!, { account_id })).id,
  group: (await access.groups.delete(group.id!, { account_id })).id,
  tunnel: (await client.zeroTrust.tunnels.cloudflared.delete(tunnel.id!, { account_id })).id,
  token: (await access.serviceTokens.delete(id, { account_id })).id,
  gone: await refusal(access.serviceTokens.get(id, { account_id })),
});
process.exit(0);
