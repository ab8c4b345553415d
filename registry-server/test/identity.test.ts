/** Trusted publishing: a real issuer on loopback, and every identity that must be refused. */
import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { bearer, makePackage, publish, putBlob, refusal, startRegistry, type TestRegistry } from "./material.ts";

const start = new Date("2026-05-01T12:00:00Z");

interface Issuer {
  readonly url: string;
  /** Requests for keys so far. */
  asked: number;
  keys: { id: string; privateKey: KeyObject; publicKey: KeyObject; kind: "RS256" | "ES256" }[];
}

function newKey(id: string, kind: "RS256" | "ES256" = "RS256"): Issuer["keys"][number] {
  const pair =
    kind === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { id, kind, ...pair };
}
const shared = newKey("one");

async function startIssuer(): Promise<Issuer> {
  const issuer: { -readonly [K in keyof Issuer]: Issuer[K] } = { url: "", asked: 0, keys: [shared] };
  const server = createServer((request, response) => {
    if (request.url === "/keys") issuer.asked++;
    const body =
      request.url === "/keys"
        ? { keys: issuer.keys.map((key) => ({ ...key.publicKey.export({ format: "jwk" }), kid: key.id, use: "sig" })) }
        : { issuer: issuer.url, jwks_uri: `${issuer.url}/keys` };
    response.setHeader("content-type", "application/json").end(JSON.stringify(body));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  onTestFinished(() => void server.close());
  issuer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return issuer;
}

let serial = 0;
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

function claimsFor(at: { origin: string; issuer: Issuer }, change: Record<string, unknown> = {}) {
  const seconds = start.getTime() / 1000;
  return {
    iss: at.issuer.url,
    aud: at.origin,
    sub: "repo:acme/norm:ref:refs/heads/main",
    iat: seconds,
    nbf: seconds,
    exp: seconds + 600,
    jti: `job-${++serial}`,
    repository: "acme/norm",
    repository_id: "1234",
    repository_owner_id: "77",
    ref: "refs/heads/main",
    event_name: "push",
    job_workflow_ref: "acme/norm/.github/workflows/release.yml@refs/heads/main",
    ...change,
  };
}

function jwt(claims: object, key = shared, header: object = { alg: key.kind, typ: "JWT", kid: key.id }): string {
  const text = `${encode(header)}.${encode(claims)}`;
  const signature = sign("sha256", Buffer.from(text), { key: key.privateKey, dsaEncoding: "ieee-p1363" });
  return `${text}.${signature.toString("base64url")}`;
}

async function startTrusting(now = () => start) {
  const issuer = await startIssuer();
  const at = await startRegistry({ now });
  await at.registry.addTrustedPublisher({
    namespace: "acme",
    package: "acme/norm",
    kind: "github",
    issuer: issuer.url,
    claims: { repository: "acme/norm", repository_id: "1234", repository_owner_id: "77", ref: "refs/heads/main" },
  });
  return { ...at, issuer };
}

const exchange = (at: TestRegistry, token: string, resource = "acme/norm") =>
  fetch(`${at.origin}/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: token,
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      resource,
    }),
  });

test("a CI job's identity becomes a publisher's token of a quarter of an hour, for its package alone", async () => {
  let now = start;
  const at = await startTrusting(() => now);
  const answer = await exchange(at, jwt(claimsFor(at)));
  const granted = (await answer.json()) as { access_token: string; expires_in: number; token_type: string };
  expect([answer.status, granted.expires_in, granted.token_type]).toEqual([200, 900, "Bearer"]);
  expect(answer.headers.get("cache-control")).toBe("no-store");
  await publish({ ...at, write: granted.access_token }, makePackage());
  expect((await refusal(putBlob(at, granted.access_token, "acme/other", Buffer.from("x"))))[2]).toBe(
    "KL_REGISTRY_TOKEN_NAMESPACE",
  );
  const [entry] = (await at.registry.auditAfter(0, 100)).filter((row) => row.action === "token.exchange");
  expect(JSON.parse(entry!.details)).toMatchObject({ package: "acme/norm", claims: { repository_owner_id: "77" } });
  now = new Date(start.getTime() + 15 * 60_000);
  expect((await refusal(putBlob(at, granted.access_token, "acme/norm", Buffer.from("x"))))[2]).toBe(
    "KL_REGISTRY_TOKEN_UNKNOWN",
  );
});

test("ES256 is taken too", async () => {
  const at = await startTrusting();
  const key = newKey("elliptic", "ES256");
  at.issuer.keys = [key];
  expect((await exchange(at, jwt(claimsFor(at), key))).status).toBe(200);
});

type Refused = [what: string, reason: string, token: (at: Awaited<ReturnType<typeof startTrusting>>) => string];
const seconds = start.getTime() / 1000;
const refused: Refused[] = [
  ["another issuer", "issuer", (at) => jwt(claimsFor(at, { iss: "https://issuer.example" }))],
  ["another audience", "audience", (at) => jwt(claimsFor(at, { aud: "https://elsewhere.example" }))],
  ["several audiences", "audience", (at) => jwt(claimsFor(at, { aud: [at.origin, "https://elsewhere.example"] }))],
  ["an expired one", "expired", (at) => jwt(claimsFor(at, { exp: seconds }))],
  ["one without an end", "expired", (at) => jwt(claimsFor(at, { exp: undefined }))],
  ["one from the future", "not-yet", (at) => jwt(claimsFor(at, { nbf: seconds + 3600 }))],
  ["one that lives for a year", "lifetime", (at) => jwt(claimsFor(at, { exp: seconds + 365 * 86_400 }))],
  [
    "algorithm none",
    "algorithm",
    (at) => `${encode({ alg: "none", kid: "one" })}.${encode(claimsFor(at))}.${encode("x")}`,
  ],
  [
    "a shared secret made of the public key",
    "algorithm",
    (at) => {
      const text = `${encode({ alg: "HS256", kid: "one" })}.${encode(claimsFor(at))}`;
      const secret = shared.publicKey.export({ type: "spki", format: "pem" });
      return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
    },
  ],
  ["an algorithm that is not its key's", "algorithm", (at) => jwt(claimsFor(at), shared, { alg: "ES256", kid: "one" })],
  ["an unknown key", "key", (at) => jwt(claimsFor(at), { ...shared, id: "other" })],
  ["another key under a known name", "signature", (at) => jwt(claimsFor(at), newKey("one"))],
  [
    "claims that were changed",
    "signature",
    (at) => {
      const [header, , signature] = jwt(claimsFor(at)).split(".");
      return `${header}.${encode(claimsFor(at))}.${signature}`;
    },
  ],
  ["a repository that somebody else took over", "claims", (at) => jwt(claimsFor(at, { repository_owner_id: "78" }))],
  ["a renamed repository", "claims", (at) => jwt(claimsFor(at, { repository: "acme/renamed" }))],
  ["another branch", "claims", (at) => jwt(claimsFor(at, { ref: "refs/heads/evil" }))],
  ["a pull request of a fork", "claims", (at) => jwt(claimsFor(at, { event_name: "pull_request_target" }))],
  ["no event", "claims", (at) => jwt(claimsFor(at, { event_name: undefined }))],
  ["a claim of another type", "claims", (at) => jwt(claimsFor(at, { repository_id: 1234 }))],
  ["no token at all", "malformed", () => "klr_nothing"],
];

test.each(refused)("%s is refused (%s)", async (_what, reason, make) => {
  const at = await startTrusting();
  const answer = await exchange(at, make(at));
  const body = (await answer.json()) as { errors: { detail: { code: string; reason: string } }[] };
  expect([answer.status, body.errors[0]!.detail]).toMatchObject([
    401,
    { code: "KL_REGISTRY_IDENTITY_REFUSED", reason },
  ]);
  expect(await at.registry.listTokens("acme")).toHaveLength(2);
});

test("an identity is taken once", async () => {
  const at = await startTrusting();
  const claims = claimsFor(at);
  expect((await exchange(at, jwt(claims))).status).toBe(200);
  // Also under a fresh signature.
  const again = await exchange(at, jwt({ ...claims, extra: 1 }));
  expect(await again.json()).toMatchObject({ errors: [{ detail: { reason: "replayed" } }] });
});

test("an identity opens nothing by itself", async () => {
  const at = await startTrusting();
  const answer = putBlob(at, jwt(claimsFor(at)), "acme/norm", Buffer.from("x"));
  expect(await refusal(answer)).toEqual([401, "UNAUTHORIZED", "KL_REGISTRY_TOKEN_MALFORMED"]);
  const search = fetch(`${at.origin}/api/v1/search`, { headers: bearer(jwt(claimsFor(at))) });
  expect((await refusal(search))[0]).toBe(401);
});

test("another package than the trusted one is refused", async () => {
  const at = await startTrusting();
  const answer = await exchange(at, jwt(claimsFor(at)), "acme/other");
  expect(await answer.json()).toMatchObject({ errors: [{ detail: { reason: "issuer" } }] });
});

test("an issuer's new key is found without a restart, and a flood of unknown keys asks it once", async () => {
  let now = start;
  const at = await startTrusting(() => now);
  expect((await exchange(at, jwt(claimsFor(at)))).status).toBe(200);
  const fresh = newKey("two");
  at.issuer.keys = [fresh];
  now = new Date(start.getTime() + 11_000);
  for (let i = 0; i < 10; i++) await exchange(at, jwt(claimsFor(at), { ...shared, id: `unknown-${i}` }));
  expect(at.issuer.asked).toBe(2);
  expect((await exchange(at, jwt(claimsFor(at), fresh))).status).toBe(200);
  // The old key is no longer the issuer's.
  expect((await exchange(at, jwt(claimsFor(at)))).status).toBe(401);
});

test.each([
  ["a wildcard", { repository: "acme/*", repository_id: "1", repository_owner_id: "2" }],
  ["no owner's number", { repository: "acme/norm", repository_id: "1" }],
  ["an empty value", { repository: "acme/norm", repository_id: "1", repository_owner_id: "" }],
])("a trusted publisher with %s is not taken", async (_what, claims) => {
  const at = await startRegistry();
  const add = at.registry.addTrustedPublisher({
    namespace: "acme",
    kind: "github",
    issuer: "https://token.issuer.example",
    claims: claims as Record<string, string>,
  });
  await expect(add).rejects.toMatchObject({ code: "KL_REGISTRY_IDENTITY_CONFIG" });
});
