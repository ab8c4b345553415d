import { digestOf } from "@kernlock/kernels/format";
import { policyText, rule } from "../../../policies/trust/test/material.ts";
import { source } from "../../../registry-server/test/material.ts";
import { type Attack, type Keys, type Loose, pinned, type Twist } from "../attack.ts";

type Row = [
  number: Attack["number"],
  name: string,
  refused: `KL_${string}` | Attack["refused"],
  how: Twist | ((keys: Keys) => Twist),
];

const name = "acme/norm";
const elsewhere = digestOf("something else");
const kernel = (change: (kernel: Loose) => unknown): Twist => ({ lock: (lock) => change(lock.kernels[name]) });
const text = (change: (text: string) => string): Twist => ({
  lock: (lock) => Buffer.from(change(JSON.stringify(lock))),
});
const field = "KL_LOCK_FIELD";

const rows: Row[] = [
  [
    74,
    "the digest of a payload edited",
    "KL_LOCK_FILE_DIFFERS",
    kernel((k) => (k.variants[0].files[1].digest = elsewhere)),
  ],
  [
    74,
    "the digest of a card edited",
    "KL_LOCK_FILE_DIFFERS",
    kernel((k) => (k.variants[0].files[0].digest = elsewhere)),
  ],
  [74, "the digest of the index edited", "KL_CACHE_MISSING", kernel((k) => (k.index.digest = elsewhere))],
  [74, "the size of the index edited", "KL_CACHE_SIZE", kernel((k) => k.index.size++)],
  [
    74,
    "the digest of a manifest edited",
    "KL_LOCK_VARIANT",
    kernel((k) => (k.variants[0].manifest.digest = elsewhere)),
  ],
  [
    74,
    "the digest of a variant.json edited",
    "KL_LOCK_CONFIG",
    kernel((k) => (k.variants[0].config.digest = elsewhere)),
  ],
  [74, "the list of signers emptied", "KL_LOCK_SIGNERS", kernel((k) => (k.signers = []))],
  [74, "the list of signers gone", field, kernel((k) => delete k.signers)],
  [74, "another signer", "KL_LOCK_SIGNERS", kernel((k) => (k.signers = [elsewhere]))],
  [74, "one signer more", "KL_LOCK_SIGNERS", kernel((k) => (k.signers = [...k.signers, elsewhere].sort()))],
  [74, "an unknown field of a kernel", field, kernel((k) => (k.verified = true))],
  [74, "an unknown field of the lock", field, { lock: (l) => (l.skip = [name]) }],
  [74, "another policy, under --frozen", "KL_LOCK_POLICY", { lock: (l) => (l.policy = elsewhere), frozen: true }],
  [74, "a policy that is no digest", field, { lock: (l) => (l.policy = "none") }],
  [74, "another builder", "KL_LOCK_BUILDER", kernel((k) => (k.builder = "https://builder.example/two"))],
  [74, "another repository", "KL_LOCK_SOURCE", kernel((k) => (k.source.repository = "https://git.example/fork"))],
  [74, "another revision", "KL_LOCK_SOURCE", kernel((k) => (k.source.revision = "f".repeat(40)))],
  [74, "another version", "KL_LOCK_INDEX", kernel((k) => (k.version = "1.0.1"))],
  [74, "another ABI", "KL_LOCK_ABI", kernel((k) => (k.abi = 1))],
  [74, "the statements emptied", "KL_VERDICT_MISSING", kernel((k) => (k.statements = []))],
  [74, "the index's statement taken out", "KL_VERDICT_MISSING", kernel((k) => k.statements.shift())],
  [
    74,
    "another payload of a statement",
    "KL_LOCK_STATEMENT",
    kernel((k) => (k.statements[0].payload = `sha256:${"0".repeat(64)}`)),
  ],
  [
    74,
    "another predicate type of a statement",
    "KL_LOCK_STATEMENT",
    kernel((k) => (k.statements[0].predicateType = "https://x.example/v1")),
  ],
  [
    74,
    "a statement moved to another manifest",
    "KL_VERDICT_MISSING",
    kernel((k) => (k.statements[1].subject = k.variants[1].manifest.digest)),
  ],
  [74, "a file left out", "KL_LOCK_FILE_MISSING", kernel((k) => k.variants[0].files.pop())],
  [
    74,
    "a file that no manifest names",
    "KL_LOCK_FILE_UNLISTED",
    kernel((k) => k.variants[0].files.push({ ...k.variants[0].files[1], path: "planted.so" })),
  ],
  [74, "a file of another kind", "KL_LOCK_FILE_DIFFERS", kernel((k) => (k.variants[0].files[1].kind = "card"))],
  [
    74,
    "manifests swapped between variants",
    "KL_LOCK_VARIANT",
    kernel((k) => (k.variants[0].manifest = k.variants[1].manifest)),
  ],
  [
    74,
    "files swapped between variants",
    "KL_LOCK_FILE_DIFFERS",
    kernel((k) => (k.variants[0].files = k.variants[1].files)),
  ],
  [74, "no variants", "KL_LOCK_VARIANT", kernel((k) => (k.variants = []))],
  [
    37,
    "a lock with one kernel twice",
    "KL_JSON_DUPLICATE_KEY",
    text((t) => t.replace('"acme/norm":', '"acme/norm":{},"acme/norm":')),
  ],
  [
    37,
    "a lock with one key twice, once escaped",
    "KL_JSON_DUPLICATE_KEY",
    text((t) => t.replace('"signers":', '"\\u0073igners":[],"signers":')),
  ],
  [
    37,
    "a lock with a key __proto__",
    "KL_JSON_KEY",
    text((t) => t.replace('"kernels":{', '"kernels":{"__proto__":{},')),
  ],
  ["own", "bytes after the lock", "KL_JSON_TRAILING", text((t) => `${t}\n{}`)],
  ["own", "a lock that is nested too deeply", "KL_JSON_DEPTH", text(() => "[".repeat(10_000))],
  ["own", "a lock of a later version", "KL_LOCK_VERSION", { lock: (l) => (l.lockVersion = 2) }],
  ["own", "a lock without its version", field, { lock: (l) => delete l.lockVersion }],
  ["own", "a reserved field filled in by hand", "KL_LOCK_RESERVED", { lock: (l) => (l.checkpoint = "x") }],
  [
    "own",
    "a signer with a space before it, to look the same",
    "KL_LOCK_SIGNERS",
    kernel((k) => (k.signers = [` ${k.signers[0]}`])),
  ],
  ["own", "signers out of order", field, kernel((k) => (k.signers = [`sha256:${"f".repeat(64)}`, ...k.signers]))],
  ["own", "a file's path that climbs", field, kernel((k) => (k.variants[0].files[0].path = "../../x"))],
  [
    "own",
    "a digest with another algorithm",
    field,
    kernel((k) => (k.variants[0].files[0].digest = `md5:${"0".repeat(32)}`)),
  ],
  [
    "own",
    "a digest that climbs out of the cache",
    field,
    kernel((k) => (k.index.digest = "sha256:../../../../etc/passwd")),
  ],
  ["own", "a size that is no whole number", field, kernel((k) => (k.index.size = 1.5))],
  [
    75,
    "the registry of another project, where the policy names one",
    "KL_POLICY_REGISTRY",
    bound("https://kernels.example"),
  ],
  [
    75,
    "a lock of another project, made by others with their keys",
    "KL_BUNDLE_UNKNOWN_KEY",
    ({ other }) => ({ signer: other }),
  ],
  [
    76,
    "the same name from another registry, where the policy names one",
    "KL_POLICY_REGISTRY",
    bound("http://127.0.0.1:2"),
  ],
  [
    "own",
    "a registry's address with a path behind it",
    field,
    { lock: (l) => (l.registry.origin = "http://127.0.0.1:1/evil") },
  ],
  [
    "own",
    "a registry's address with a user in it",
    field,
    { lock: (l) => (l.registry.origin = "http://user@127.0.0.1:1") },
  ],
  ["own", "another allowed signer's bundle than the lock pins", "KL_LOCK_SIGNERS", otherAllowed],
  [
    77,
    "a clock set back before the key's window",
    "KL_BUNDLE_KEY_WINDOW",
    { ...windowed(), now: new Date("2020-01-01T00:00:00Z") },
  ],
  [
    77,
    "a clock set forward behind the key's window",
    "KL_BUNDLE_KEY_WINDOW",
    { ...windowed(), now: new Date("2030-01-01T00:00:00Z") },
  ],
  [
    77,
    "a clock that tells no time",
    { lock: "KL_CALL_ARGUMENT", ...pinned("KL_CALL_ARGUMENT") },
    { now: new Date(Number.NaN) },
  ],
  [
    "own",
    "a lock that was emptied",
    { fetch: "KL_LOCK_EMPTY", ...pinned("KL_LOCK_EMPTY") },
    {
      lock: (lock) => {
        lock.kernels = {};
      },
    },
  ],
];

function bound(origin: string): Twist {
  return {
    policy: ({ publisher }) =>
      `${policyText({ publisher }, rule({ source: source.repository }))}registry:\n  origin: ${origin}\n`,
  };
}

function otherAllowed({ publisher, other }: Keys): Twist {
  const keys = rule({ publisher: "publisher, other", source: source.repository });
  return {
    signer: other,
    policy: () => policyText({ publisher, other }, keys),
    // As if the lock had been made when the publisher still signed itself.
    lock: (lock) => (lock.kernels[name].signers = [fingerprint(publisher)]),
  };
}

const fingerprint = (key: Keys["publisher"]) => digestOf(key.publicKey.export({ type: "spki", format: "der" }));

function windowed(): Twist {
  return {
    policy: ({ publisher }) =>
      policyText(
        { publisher: { pem: publisher.pem, validFrom: "2026-01-01T00:00:00Z", validUntil: "2027-01-01T00:00:00Z" } },
        rule({ source: source.repository }),
      ),
  };
}

export const lockAttacks: readonly Attack[] = rows.map(([number, attack, refused, how]) => ({
  number,
  name: attack,
  area: "lock",
  refused: typeof refused === "string" ? pinned(refused) : refused,
  how: (keys) => (typeof how === "function" ? how(keys) : how),
}));
