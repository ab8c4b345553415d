/** A registry with something on every page: several kernels and backends, changes of trust, states, audits and tests. */
import { digestOf, type Variant } from "@kernlock/kernels/format";
import { auditType, testType } from "@kernlock/policies/trust";
import { craftCubin, sm80 } from "../../kernels/inspect/test/craft-cubin.ts";
import {
  attach,
  compile,
  makePackage,
  newKey,
  policyFor,
  pushAll,
  putTag,
  startRegistry,
  type TestKey,
  type TestPackage,
  type TestRegistry,
} from "./material.ts";
import { startIssuer } from "./people.ts";

export interface Showcase extends TestRegistry {
  readonly second: TestKey;
  /** acme/norm 2.0.0: CPU and CUDA, signed by another key than 1.1.0, audited and tested. */
  readonly newest: TestPackage;
  /** Token of an admin of `acme`. */
  readonly admin: string;
}

const card = `# RMS norm

A root mean square norm over rows, in f32 on CPUs and bf16 on GPUs. Inputs are read once.

| rows | columns | time |
|-----:|--------:|-----:|
| 1 | 2880 | 0.9 µs |
| 64 | 2880 | 31 µs |

## Numerics

Sums are taken in f32, in an order that does not depend on the number of rows.
`;

export async function showcase(): Promise<Showcase> {
  const issuer = await startIssuer({ name: "Example SSO" });
  const at = await startRegistry({ signIn: issuer.signIn });
  const { addMember, createAccount } = at.registry;
  await createAccount({ name: "ada", namespace: "*", role: "admin", password });
  await createAccount({ name: "grace", namespace: "acme", role: "publisher" });
  const member = { namespace: "acme", issuer: issuer.url };
  await addMember({ ...member, role: "publisher", claims: { groups: "kernel-team" }, label: "Kernel team" });
  await addMember({ ...member, role: "auditor", claims: { email: "bob@audits.example" } });
  await addMember({ ...member, role: "admin", claims: { sub: issuer.claims.sub as string }, label: "Ada" });
  const week = new Date(Date.now() + 7 * 86_400_000);
  await at.registry.createToken({
    namespace: "acme",
    role: "publisher",
    label: "ci",
    package: "acme/norm",
    expiresAt: week,
  });
  await at.registry.addTrustedPublisher({
    namespace: "acme",
    package: "acme/norm",
    kind: "github",
    issuer: "https://token.actions.githubusercontent.com",
    claims: { repository: "acme/norm", repository_id: "1234", repository_owner_id: "77", ref: "refs/heads/main" },
    label: "release workflow",
  });
  const second = newKey();
  const [pem] = [second.pem.trimEnd().replaceAll(/^/gm, "      ")];
  const policy = policyFor(at.key)
    .replace("rules:", `  release:\n    pem: |\n${pem}\nrules:`)
    .replace("publishers: [team]", "publishers: [team, release]")
    .replace("keys: [team]", "keys: [team, release]");
  await at.registry.setPolicy({ namespace: "acme", policy });
  const admin = (await at.registry.createToken({ namespace: "acme", role: "admin", label: "Ada" })).token;

  const released = async (pack: TestPackage, signer: TestKey = at.key) => {
    await pushAll(at, pack, { signer });
    const answer = await putTag(at, pack);
    if (answer.status !== 201) throw new Error(await answer.text());
  };
  const description = "Root mean square norm over rows";
  await released(makePackage({ version: "0.9.0", description, card }));
  await released(makePackage({ version: "1.0.0", description, card }));
  await released(makePackage({ version: "1.1.0", description, card, variants: ["linux-x86_64-cpu-v3", cpu4] }));
  const newest = cudaToo("2.0.0", description);
  await released(newest, second);
  await released(makePackage({ name: "acme/rope", description: "Rotary embedding, interleaved and split halves" }));
  await released(
    makePackage({ name: "acme/gather", version: "0.3.0-rc.1", description: "Gathers expert rows", variants: [cpu4] }),
  );
  const set = at.registry.setVersionState;
  await set({ repository: "acme/norm", version: "1.0.0", state: "yanked", reason: "Reads past odd row lengths." });
  await set({
    repository: "acme/norm",
    version: "0.9.0",
    state: "quarantined",
    reason: "Its build host was taken over.",
  });

  const say = (predicateType: string, predicate: Record<string, unknown>, signer: TestKey, variant?: number) => {
    const about = variant === undefined ? undefined : newest.variants[variant]!;
    const subject = about === undefined ? newest.digest : digestOf(about.manifest);
    const bytes = Buffer.from(
      JSON.stringify({
        _type: "https://in-toto.io/Statement/v1",
        subject: [{ name: newest.name, digest: { sha256: subject.slice("sha256:".length) } }],
        predicateType,
        predicate,
      }),
    );
    return attach(at, at.write, newest, bytes, about, signer);
  };
  const tested = (suite: string, device: string, result: string, variant: number, measured?: object) =>
    say(testType, { result, measured, kernlock: { suite, device, issued: "2026-11-20T10:00:00Z" } }, at.key, variant);
  await tested("numerics", "Xeon 8481C", "PASSED", 0, { driver: null, errors: errorsOf("cpp", 1) });
  await tested("numerics", "H100", "PASSED", 2, { driver: "580.65.06 (CUDA 13.0)", errors: errorsOf("cuda", 9000) });
  await tested("numerics", "H200", "PASSED", 2);
  await tested("speed", "H100", "FAILED", 2, { driver: "580.65.06 (CUDA 13.0)", speeds: speedsOf(1, 3012) });
  await tested("speed", "A100", "PASSED", 1, { driver: "575.57.08 (CUDA 12.9)", speeds: speedsOf(0.52, 1710) });
  const audit = { kind: "full", criteria: ["reviewed"], result: "pass", kernlock: { issued: "2026-11-21T10:00:00Z" } };
  await say(auditType, audit, second);
  await say(auditType, { ...audit, result: "violation" }, newKey());
  return { ...at, second, newest, admin };
}

const bill = {
  bomFormat: "CycloneDX",
  specVersion: "1.6",
  version: 1,
  components: [
    { type: "file", name: "norm.so", licenses: [{ expression: "Apache-2.0" }] },
    {
      type: "library",
      name: "triton",
      version: "3.4.0",
      purl: "pkg:pypi/triton@3.4.0",
      licenses: [{ license: { id: "MIT" } }],
      hashes: [{ alg: "SHA-256", content: "5b1c6f0d".repeat(8) }],
    },
    {
      type: "library",
      name: "libm.so.6",
      scope: "required",
      properties: [{ name: "dev.kernlock.provided-by", value: "system" }],
    },
  ],
};
const papers = [
  { path: "LICENSE", kind: "license", bytes: Buffer.from("Apache License\nVersion 2.0, January 2004\n") },
  { path: "sbom.cdx.json", kind: "sbom", bytes: Buffer.from(JSON.stringify(bill)) },
] as const;

/** Host code that takes something from libm. */
function withMath(): Buffer {
  return compile(
    `extern "C" float cosf(float); extern "C" float sqrtf(float); extern "C" void *memcpy(void *, const void *, unsigned long);
static float f(float x) { return cosf(x) + sqrtf(x); }
static float (*volatile kept)(float) = f; static void *(*volatile copy)(void *, const void *, unsigned long) = memcpy;
extern "C" __attribute__((visibility("default"))) const void *kl_get_api(unsigned n) { return kept(n) > 1 ? (const void *)copy : 0; }`,
    ["-Wl,--no-as-needed", "-lm", "-lc"],
  );
}

const cpu4 = "linux-x86_64-cpu-v4";
const cuda = "linux-x86_64-cuda";

function cudaToo(version: string, description: string): TestPackage {
  const images: Record<string, { architectures: string[]; tested: boolean; file: Buffer }> = {
    [`${cuda}-sm80`]: { architectures: ["sm_80"], tested: false, file: withCubin(craftCubin(sm80)) },
    [`${cuda}-sm90a`]: { architectures: ["sm_90a"], tested: true, file: withCubin(craftCubin()) },
  };
  const change = (variant: Variant): Variant => {
    const image = images[variant.variant];
    if (image === undefined) return variant;
    const { architectures, tested, file } = image;
    const { path, kind } = variant.files.find((one) => one.kind === "shared-object")!;
    const others = variant.files.filter((one) => one.kind !== "shared-object");
    return {
      ...variant,
      tested,
      backend: { kind: "cuda", architectures, ptx: [], driver: "12.4" },
      files: [...others, { path, kind, digest: digestOf(file), size: file.byteLength }].sort((a, b) =>
        a.path < b.path ? -1 : 1,
      ),
      ops: variant.ops.map((op) => ({ ...op, path: "cuda", mode: "bf16" })),
    };
  };
  const variants = ["linux-x86_64-cpu-v3", ...Object.keys(images)];
  const pack = makePackage({ version, description, card, variants, change, extra: papers, payload: withMath() });
  return { ...pack, blobs: [...pack.blobs, ...Object.values(images).map((image) => image.file)] };
}

/** A shared object that carries a cubin, as a CUDA package does. */
function withCubin(cubin: Buffer): Buffer {
  return compile(`alignas(64) static const unsigned char image[] = {${[...cubin].join(",")}};
extern "C" __attribute__((visibility("default"))) const void *kl_get_api(unsigned) { return image; }`);
}

function errorsOf(path: string, scale: number) {
  return [
    { op: `rmsnorm/${path}`, cases: 24, failed: 0, worst: 1.4e-7 * scale },
    { op: `rmsnorm_residual/${path}`, cases: 24, failed: 0, worst: 2.9e-7 * scale },
    { op: `norm_router/${path}`, cases: 12, failed: 0, worst: 4.4e-7 * scale },
    { op: `copy_rows/${path}`, cases: 8, failed: 0, worst: 0 },
  ];
}

function speedsOf(share: number, ceiling: number) {
  const at = (op: string, launch: string, value: number) => ({
    ...{ op, launch, unit: "GB/s", value: Math.round(value * share * 10) / 10, ceiling },
  });
  return [
    at("rmsnorm/cuda", "1 row", 61.3),
    at("rmsnorm/cuda", "64 rows", 1480.9),
    at("rmsnorm/cuda", "2048 rows", 2655.1),
    at("rmsnorm_residual/cuda", "1 row", 80.4),
    at("rmsnorm_residual/cuda", "64 rows", 1702.2),
    at("rmsnorm_residual/cuda", "2048 rows", 2790.8),
    { op: "whole model", launch: "decode, batch 8", unit: "tokens/s", value: 1540 * share },
  ];
}

/** Of the account `ada`, an admin of all namespaces. */
export const password = "correct horse battery staple";

/** Pages for who is signed in. */
export const insidePages: readonly string[] = ["/", "/namespaces/acme/members", "/namespaces/acme/tokens"];

/** Every kind of page, as paths. */
export const everyPage: readonly string[] = [
  "/",
  "/?q=norm",
  "/?backend=cuda&architecture=sm_90a",
  "/?q=norm&mode=q8",
  "/?q=nothing-of-this",
  "/namespaces",
  "/namespaces/acme",
  "/namespaces/acme/policy",
  "/signin",
  "/signin/setup",
  "/signin/callback?state=x",
  "/kernels/acme/norm",
  "/kernels/acme/norm?cpu=x86-64-v3&gpu=9.0&driver=12.8",
  "/kernels/acme/norm/1.0.0",
  "/kernels/acme/norm/0.9.0",
  "/kernels/acme/norm/2.0.0/contents",
  "/kernels/acme/norm/2.0.0/provenance",
  "/kernels/acme/norm/2.0.0/evidence",
  "/kernels/acme/rope/1.0.0/evidence",
  "/kernels/acme/norm/versions",
  "/kernels/acme/norm/compare?from=1.1.0&to=2.0.0",
  "/kernels/no/such",
];
