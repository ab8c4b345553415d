/**
 * Parsers of hostile bytes; those of the registry alone are in registry-targets.ts. A target gives a short word for what became of its input: "accepted", or the code of the
 * refusal. Anything else that it throws is a finding.
 */
import { createHash } from "node:crypto";
import { type Dim, dims } from "@kernlock/kernels/abi";
import { gridOf, KernlockError, parseStrictJson, parseVariant, workspaceBytes } from "@kernlock/kernels/format";
import {
  checkDeviceCode,
  checkSharedObject,
  findDeviceCode,
  inspectCubin,
  inspectElf,
  inspectFatbin,
} from "@kernlock/kernels/inspect";
import {
  bundleManifest,
  checkVariantManifest,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
} from "@kernlock/kernels/oci";
import { checkLockMatches, parseLock, parseManifest } from "@kernlock/loader";
import { parsePolicy, parseTrustedRoot, trustedKey, verifyBundle } from "@kernlock/policies/trust";
import { harmless, library } from "../../kernels/inspect/test/craft.ts";
import { addKernel, craftCubin, craftFatbin, sm80 } from "../../kernels/inspect/test/craft-cubin.ts";
import { email, uri } from "../../policies/trust/test/authorities/certificates.ts";
import {
  bytesOf,
  identity,
  issuer,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  signedAt,
  trustedRoot,
} from "../../policies/trust/test/authorities/index.ts";
import { people, policyText } from "../../policies/trust/test/rules.ts";
import { libraries, makePack, now, type Pack, sizeAndDigest } from "../attacks/pack.ts";
import { registryTargets } from "./registry-targets.ts";

export interface Target {
  readonly name: string;
  readonly what: string;
  readonly seeds: readonly Uint8Array[];
  /** Throws only KernlockError; returns a summary of what was understood. */
  readonly run: (bytes: Uint8Array) => unknown;
}

const limits = { allowedLibraries: ["libc.so.6", "libm.so.6"], libcMaximum: "2.40", exports: ["kl_get_api"] };
/** With a constructor, an indirect function and a second export. */
const flawed = `${harmless} __attribute__((constructor)) static void run() { asm volatile(""); }
extern "C" { static int one() { return 1; } }
extern "C" int (*pick_one())() { return one; }
extern "C" __attribute__((ifunc("pick_one"), visibility("default"))) int chosen();`;
const cuda = { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" } as const;

export async function makeTargets(): Promise<readonly Target[]> {
  const keys = { publisher: people.publisher, other: people.bob, auditor: people.alice, second: people.carol };
  const pack = await makePack(keys);
  const image = await makePack(keys, { image: craftCubin() });
  const lock = {
    lockVersion: 1,
    registry: { origin: "http://127.0.0.1:1" },
    policy: `sha256:${"0".repeat(64)}`,
    kernels: { [pack.name]: pack.lock },
  };
  const world = newWorld();
  const certified = bytesOf(
    newBundle({
      leaf: newLeaf(world),
      stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
      entries: (signed) => [world.log.entry(signed)],
    }),
  );
  const promised = bytesOf(
    newBundle({ leaf: newLeaf(world), entries: (signed) => [world.oldLog.promised(signed, signedAt)] }),
  );
  const stamped = bytesOf(
    newBundle({
      pair: people.publisher,
      stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
      entries: (signed) => [world.log.entry(signed)],
    }),
  );
  const named = [[email("release@example.com")], [uri("a"), uri("b")], []].map((names) =>
    bytesOf(
      newBundle({
        leaf: newLeaf(world, { names, oldIssuerUrl: issuer }),
        entries: (it) => [world.oldLog.promised(it, signedAt)],
      }),
    ),
  );
  const options = {
    keys: [trustedKey("publisher", people.publisher.pem, { validUntil: new Date("2027-01-01T00:00:00Z") })],
    identities: [identity(trustedRoot(world))],
    anchor: { root: trustedRoot(world) },
    now,
  };
  const referrer = bundleManifest({
    bundle: pack.evidence[0]!.bundle,
    predicateType: "https://slsa.dev/provenance/v1",
    subject: { mediaType: "application/vnd.oci.image.index.v1+json", ...sizeAndDigest(pack.index) },
    created: "2026-11-24T12:00:00Z",
  });
  const manifest = {
    version: 1,
    registry: "http://127.0.0.1:1",
    variants: ["linux-x86_64-cpu-v3"],
    kernels: { "acme/norm": "^1.0.0" },
  };
  const { good, other } = libraries();
  const images = [craftCubin(), craftCubin(sm80), craftCubin({ kernels: [addKernel, { ...addKernel, name: "sub" }] })];
  const fatbins = [
    craftFatbin([{ payload: craftCubin() }]),
    craftFatbin([
      { payload: craftCubin(), zstd: true },
      { kind: 1, payload: Buffer.from(".version 8.0\n.target sm_90a\n") },
    ]),
  ];
  return [
    {
      name: "json",
      what: "strict JSON",
      seeds: [
        Buffer.from('{"a":[1,-2.5e3,"\\u00e9\\n",null,true,{"b":{}}],"c":"\u00e9"}'),
        pack.variants[0]!.config,
        Buffer.from("[]"),
      ],
      run: (bytes) => JSON.stringify(parseStrictJson(bytes, { maxBytes: 1 << 20 })),
    },
    {
      name: "variant",
      what: "variant.json, its workspace rules and launches",
      seeds: [pack.variants[0]!.config, image.variants[1]!.config, ...richVariants(image)],
      run: (bytes) => {
        const variant = parseVariant(bytes);
        const sizes = Object.fromEntries(dims.map((dim) => [dim, 64])) as Record<Dim, number>;
        for (const { workspace, launch } of variant.ops) {
          for (const terms of [workspace.scratch, workspace.state]) workspaceBytes(terms, sizes);
          for (const step of launch?.steps ?? []) gridOf(step, sizes);
        }
        return variant.variant;
      },
    },
    {
      name: "documents",
      what: "OCI index, variant's and bundle's manifest",
      seeds: [pack.index, pack.variants[0]!.manifest, image.index, referrer],
      run: (bytes) =>
        [
          () => parseKernelIndex(bytes),
          () => parseBundleManifest(bytes),
          () =>
            checkVariantManifest(parseVariantManifest(bytes), parseVariant(pack.variants[0]!.config), {
              name: pack.name,
              version: pack.version,
              variant: pack.variants[0]!.key,
            }),
        ]
          .map(word)
          .join(),
    },
    {
      name: "lock",
      what: "kernels.lock and kernels.json",
      seeds: [lock, manifest].map((json) => Buffer.from(JSON.stringify(json))),
      run: (bytes) =>
        [
          () => checkLockMatches(parseManifest(JSON.stringify(manifest)), parseLock(bytes)),
          () => checkLockMatches(parseManifest(bytes), parseLock(JSON.stringify(lock))),
        ]
          .map(word)
          .join(),
    },
    {
      name: "bundle",
      what: "Sigstore bundles: keys, certificates, timestamps, log entries",
      seeds: [pack.evidence[0]!.bundle, certified, promised, stamped, ...named],
      run: (bytes) => JSON.stringify(verifyBundle(bytes, options).signer),
    },
    {
      name: "policy",
      what: "kernels.policy.yaml",
      seeds: [
        policyText(),
        policyText(
          "require: { audit: { by: [alice, bob], criteria: [reviewed], atLeast: 2 } }\nlicenses: [MIT]\n",
          "revocations: [{ id: acme, url: https://a.example/r, by: [security], maxAgeDays: 7 }]\n",
        ),
        policyText(richRule, richPolicy(newRoot(world))),
      ].map((text) => Buffer.from(text)),
      run: (bytes) => parsePolicy(bytes).rules.length,
    },
    {
      name: "root",
      what: "trusted roots",
      seeds: [bytesOf(newRoot(world))],
      run: (bytes) => parseTrustedRoot(bytes).logs.length,
    },
    {
      name: "elf",
      what: "shared objects",
      seeds: [good, other, library(flawed, ["-Wl,-rpath,$ORIGIN,--audit,evil.so,-z,execstack,-z,nodelete,-z,notext"])],
      run: (bytes) => checkSharedObject(inspectElf(bytes), limits),
    },
    {
      name: "cubin",
      what: "cubins",
      seeds: images,
      run: (bytes) => inspectCubin(bytes).architecture,
    },
    {
      name: "fatbin",
      what: "fatbins, and device code inside of libraries",
      seeds: [...fatbins, Buffer.concat([good, ...fatbins])],
      run: (bytes) =>
        [
          () => inspectFatbin(bytes).entries.length,
          () =>
            findDeviceCode(bytes, [
              { ...inspectElf(good).segments[0]!, type: 1, offset: 0, fileSize: bytes.byteLength },
            ]).cubins.length,
          () =>
            checkDeviceCode(
              bytes,
              { path: "x", kind: "device-image" },
              { backend: { ...cuda, architectures: ["sm_90a"], ptx: [] }, ops: [] },
            ),
        ]
          .map(word)
          .join(),
    },
    ...registryTargets(pack),
  ];
}

/** One op of a device image whose launch has everything that a launch can have. */
function richVariants(image: Pack): Uint8Array[] {
  const variant = JSON.parse(Buffer.from(image.variants[1]!.config).toString());
  const [op] = variant.ops;
  const [step] = op.launch.steps;
  const size = [{ dims: ["rows"], times: 3, per: 2 }];
  const extra = [
    { kind: "extent", type: "i64", value: size },
    { kind: "constant", type: "f32", value: 0.5 },
    { kind: "sink", bytes: 64 },
    { kind: "argument", name: "rows" },
  ];
  const rich = {
    ...step,
    grid: [size, [], []],
    when: { sizes: { rows: { min: 1, max: 64 } } },
    params: [...step.params, ...extra],
  };
  const limited = {
    ...op,
    limits: { rows: { min: 1, max: 4096, multipleOf: 8 } },
    features: ["pdl"],
    launch: { ...op.launch, steps: [rich, step] },
  };
  const worker = { ...op, path: "two", workspace: { scratch: [{ bytes: 4, dims: ["rows"] }], state: [] } };
  return [[limited], [worker]].map((ops) => Buffer.from(JSON.stringify({ ...variant, ops })));
}

const richRule = `mode: warn
licenses: [MIT]
payloads: [device-image]
libraries: [libc.so.6]
ptx: true
untestedVariants: true
minimumAgeDays: 3
minimumVersion: "1.0.0"
require:
  allOf:
    - anyOf: [{ sbom: { by: [publisher] } }, { rebuild: { by: [bob], maxAgeDays: 30 } }]
    - atLeast:
        count: 2
        of:
          - audit: { by: [alice, bob], criteria: [reviewed, audited] }
          - test: { by: [bob], suites: [numerics], devices: [H100] }
          - vsa: { by: [carol], levels: [SLSA_BUILD_LEVEL_2] }
`;

const richPolicy = (root: unknown): string => `roots:
  private: { json: ${JSON.stringify(JSON.stringify(root))} }
identities:
  release: { root: private, issuer: "https://login.example", san: "https://ci.example/x" }
times: { root: private }
advisories: [{ id: osv, file: osv.json, action: warn }]
revocations: [{ id: gone, url: https://a.example/r, by: [security], maxAgeDays: 7 }]
exceptions: { by: [security, officer], atLeast: 2, maxDays: 30 }
breakGlass: { by: [officer], maxDays: 3 }
approval: { by: [security, officer], atLeast: 2 }
registry: { origin: "https://kernels.example" }
`;

/** The code of a refusal, or "accepted". Lets everything else through. */
export function word(run: () => unknown): string {
  try {
    run();
    return "accepted";
  } catch (error) {
    if (error instanceof KernlockError && /^KL_[A-Z0-9]+(_[A-Z0-9]+)*$/.test(error.code)) return error.code;
    throw error;
  }
}

/** What tells two behaviours apart: the word, and for a refusal the shape of its message without its particulars. */
export function behaviour(target: Target, bytes: Uint8Array): string {
  try {
    const result = target.run(bytes);
    return `accepted ${typeof result === "string" && /^[A-Z0-9_a-z,-]{1,200}$/.test(result) ? result : typeof result}`;
  } catch (error) {
    if (!(error instanceof KernlockError) || !/^KL_[A-Z0-9]+(_[A-Z0-9]+)*$/.test(error.code)) throw error;
    return `${error.code} ${error.message.replaceAll(/"[^"]*"|0x[0-9a-f]+|[0-9]+/g, "#").slice(0, 100)}`;
  }
}

export const shortDigest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex").slice(0, 16);
