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
  const at = await startRegistry();
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
  const tested = (suite: string, device: string, result: string, variant: number) =>
    say(testType, { result, kernlock: { suite, device, issued: "2026-11-20T10:00:00Z" } }, at.key, variant);
  await tested("numerics", "Xeon 8481C", "PASSED", 0);
  await tested("numerics", "H100", "PASSED", 2);
  await tested("numerics", "H200", "PASSED", 2);
  await tested("speed", "H100", "FAILED", 2);
  const audit = { kind: "full", criteria: ["reviewed"], result: "pass", kernlock: { issued: "2026-11-21T10:00:00Z" } };
  await say(auditType, audit, second);
  await say(auditType, { ...audit, result: "violation" }, newKey());
  return { ...at, second, newest, admin };
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
    const [readme, library] = variant.files;
    return {
      ...variant,
      tested,
      backend: { kind: "cuda", architectures, ptx: [], driver: "12.4" },
      files: [readme!, { ...library!, digest: digestOf(file), size: file.byteLength }],
      ops: variant.ops.map((op) => ({ ...op, path: "cuda", mode: "bf16" })),
    };
  };
  const variants = ["linux-x86_64-cpu-v3", ...Object.keys(images)];
  const pack = makePackage({ version, description, card, variants, change });
  return { ...pack, blobs: [...pack.blobs, ...Object.values(images).map((image) => image.file)] };
}

/** A shared object that carries a cubin, as a CUDA package does. */
function withCubin(cubin: Buffer): Buffer {
  return compile(`alignas(64) static const unsigned char image[] = {${[...cubin].join(",")}};
extern "C" __attribute__((visibility("default"))) const void *kl_get_api(unsigned) { return image; }`);
}

/** Every kind of page, as paths. */
export const everyPage: readonly string[] = [
  "/",
  "/?q=norm",
  "/?backend=cuda&architecture=sm_90a",
  "/?q=norm&mode=q8",
  "/?q=nothing-of-this",
  "/namespaces/acme",
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
