import { email, uri, usage } from "../../../policies/trust/test/authorities/certificates.ts";
import {
  bytesOf,
  issuer,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  san,
  signedAt,
} from "../../../policies/trust/test/authorities/index.ts";
import { source } from "../../../registry-server/test/material.ts";
import { type Attack, everywhere, type Keys, type Loose, type Twist } from "../attack.ts";

type Parts = Omit<Parameters<typeof newBundle>[0], "payload" | "pair">;
type Row = [
  number: Attack["number"],
  name: string,
  code: `KL_${string}`,
  parts: Parts,
  rest?: Parameters<typeof policy>[0],
];

const world = newWorld();
const stranger = newWorld();
const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
const entries: NonNullable<Parts["entries"]> = (signed) => [world.log.entry(signed)];
const whole = { stamps, entries };
const leaf = (parts: Parameters<typeof newLeaf>[1] = {}) => newLeaf(world, parts);
const at = (time: string) => new Date(time);

/** Trusts one certificate identity under one root, as publisher and builder. */
function policy(parts: { root?: Loose; issuer?: string; san?: string } = {}): string {
  const root = parts.root ?? newRoot(world);
  return `version: 1
keys: {}
roots:
  private:
    json: ${JSON.stringify(JSON.stringify(root))}
identities:
  release: { root: private, issuer: "${parts.issuer ?? issuer}", san: "${parts.san ?? san}" }
rules:
  - match: "acme/*"
    publishers: [release]
    builders: [{ id: "https://builder.example/one", keys: [release] }]
    sources: [{ repository: "${source.repository}" }]
numerics: { allowDequantization: false }
`;
}

const windows = { log: { start: "2025-01-01T00:00:00Z", end: "2025-06-01T00:00:00Z" } };

const rows: Row[] = [
  [
    49,
    "the identity of another repository",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(san.replace("acme/norm", "evil/norm"))] }) },
  ],
  [
    49,
    "the identity of another branch",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(san.replace("main", "dev"))] }) },
  ],
  [
    49,
    "the identity of another workflow",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(san.replace("release", "test"))] }) },
  ],
  [
    50,
    "another identity provider",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ issuerUrl: "https://evil.example" }) },
  ],
  [50, "no identity provider", "KL_BUNDLE_CERTIFICATE_NAME", { ...whole, leaf: newLeaf(world, { issuerUrl: "" }) }],
  [
    50,
    "two identity providers",
    "KL_BUNDLE_CERTIFICATE_NAME",
    { ...whole, leaf: leaf({ oldIssuerUrl: "https://evil.example" }) },
  ],
  [
    51,
    "an identity that a dot of a pattern would match",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(san.replace("ci.example", "ci-example"))] }) },
  ],
  [
    51,
    "an identity that begins like the trusted one",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(`${san}-evil`)] }) },
  ],
  [
    51,
    "an identity that ends like the trusted one",
    "KL_BUNDLE_IDENTITY",
    { ...whole, leaf: leaf({ names: [uri(`https://evil.example/?${san}`)] }) },
  ],
  [
    51,
    "two names, the trusted one among them",
    "KL_BUNDLE_CERTIFICATE_NAME",
    { ...whole, leaf: leaf({ names: [email("evil@example.com"), uri(san)] }) },
  ],
  [52, "an empty name", "KL_BUNDLE_MALFORMED", { ...whole, leaf: leaf({ names: [uri("")] }) }],
  [
    53,
    "a certificate for timestamps",
    "KL_BUNDLE_CERTIFICATE_USE",
    { ...whole, leaf: leaf({ purposes: [usage.timeStamping] }) },
  ],
  [53, "a certificate for no purpose", "KL_BUNDLE_CERTIFICATE_USE", { ...whole, leaf: leaf({ purposes: [] }) }],
  [53, "a certificate of an authority", "KL_BUNDLE_CERTIFICATE_USE", { ...whole, leaf: leaf({ ca: true }) }],
  [
    54,
    "a certificate of another instance with the same identity",
    "KL_BUNDLE_CERTIFICATE",
    { ...whole, leaf: newLeaf(stranger) },
  ],
  [40, "an expired certificate without a timestamp", "KL_BUNDLE_TIME", { entries, leaf: leaf() }],
  [
    41,
    "a timestamp after the certificate's end",
    "KL_BUNDLE_CERTIFICATE",
    { entries, leaf: leaf(), stamps: (s) => [world.tsa.stamp(s, at("2026-06-01T12:10:01Z"))] },
  ],
  [
    41,
    "a timestamp before the certificate's begin",
    "KL_BUNDLE_CERTIFICATE",
    { entries, leaf: leaf(), stamps: (s) => [world.tsa.stamp(s, at("2026-06-01T11:59:59Z"))] },
  ],
  [
    41,
    "a timestamp by an authority whose time is over",
    "KL_BUNDLE_TIMESTAMP",
    { ...whole, leaf: leaf() },
    { root: newRoot(world, { tsa: windows.log }) },
  ],
  [
    42,
    "a timestamp over other bytes",
    "KL_BUNDLE_TIMESTAMP",
    { entries, leaf: leaf(), stamps: () => [world.tsa.stamp(Buffer.from("other"), signedAt)] },
  ],
  [
    "own",
    "a timestamp by nobody whom the root names",
    "KL_BUNDLE_TIMESTAMP",
    { entries, leaf: leaf(), stamps: (s) => [stranger.tsa.stamp(s, signedAt)] },
  ],
  [
    "own",
    "a timestamp that is no DER",
    "KL_BUNDLE_MALFORMED",
    { entries, leaf: leaf(), stamps: () => [Buffer.from("no timestamp")] },
  ],
  [
    44,
    "one log entry twice",
    "KL_BUNDLE_LOG",
    { stamps, leaf: leaf(), entries: (s) => Array(2).fill(world.log.entry(s)) },
  ],
  [
    45,
    "a log entry of another signature",
    "KL_BUNDLE_LOG",
    { stamps, leaf: leaf(), entries: (s) => [world.log.entry({ ...s, signature: Buffer.from("other") })] },
  ],
  [
    45,
    "a log entry of another signer",
    "KL_BUNDLE_LOG",
    { stamps, leaf: leaf(), entries: (s) => [world.log.entry({ ...s, certificate: leaf().der })] },
  ],
  ["own", "no log entry where the root has a log", "KL_BUNDLE_LOG_MISSING", { stamps, leaf: leaf() }],
  [
    "own",
    "an entry of a log that the root does not name",
    "KL_BUNDLE_LOG_UNKNOWN",
    { stamps, leaf: leaf(), entries: (s) => [stranger.log.entry(s)] },
  ],
  [
    46,
    "an entry of a retired log",
    "KL_BUNDLE_LOG_WINDOW",
    { ...whole, leaf: leaf() },
    { root: newRoot(world, windows) },
  ],
  [
    "own",
    "a root that names no authority",
    "KL_BUNDLE_CERTIFICATE",
    { ...whole, leaf: leaf() },
    { root: { ...newRoot(world), certificateAuthorities: [] } },
  ],
  [
    "own",
    "a certificate that is no DER",
    "KL_BUNDLE_MALFORMED",
    { ...whole, leaf: { ...leaf(), der: Buffer.from("no certificate") } },
  ],
];

/** All the provenance is signed with a certificate; that of the index is the hostile one. */
function twist(parts: Parts, rest: Parameters<typeof policy>[0]): Twist {
  const good: Parts = { ...whole, leaf: leaf() };
  return {
    policy: () => policy(rest),
    bundle: (bundle, where) =>
      bytesOf(
        newBundle({
          ...(where === "index" ? parts : good),
          payload: Buffer.from(bundle.dsseEnvelope.payload, "base64"),
        }),
      ),
    lock: (lock) => {
      lock.kernels["acme/norm"].signers = [`${issuer} ${san}`];
    },
  };
}

export const identityAttacks: readonly Attack[] = rows.map(([number, name, code, parts, rest]) => ({
  number,
  name,
  area: "evidence",
  refused: everywhere(code),
  how: (_: Keys) => twist(parts, rest ?? {}),
}));
/** To see that only the hostile part is in the way. */
export const honestIdentity: Twist = twist({ ...whole, leaf: leaf() }, {});
