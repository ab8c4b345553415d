/**
 * Ten parsers of hostile bytes. A target gives a short word for what became of its input: "accepted", or the code of the
 * refusal. Anything else that it throws is a finding.
 */
import { createHash } from "node:crypto";
import { KernlockError, parseStrictJson, parseVariant } from "@kernlock/kernels/format";
import {
  checkDeviceCode,
  checkSharedObject,
  findDeviceCode,
  inspectCubin,
  inspectElf,
  inspectFatbin,
} from "@kernlock/kernels/inspect";
import { parseBundleManifest, parseKernelIndex, parseVariantManifest } from "@kernlock/kernels/oci";
import { parseLock, parseManifest } from "@kernlock/loader";
import { parsePolicy, parseTrustedRoot, trustedKey, verifyBundle } from "@kernlock/policies/trust";
import { addKernel, craftCubin, craftFatbin, sm80 } from "../../kernels/inspect/test/craft-cubin.ts";
import {
  bytesOf,
  identity,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  signedAt,
  trustedRoot,
} from "../../policies/trust/test/authorities/index.ts";
import { people, policyText } from "../../policies/trust/test/rules.ts";
import { libraries, makePack, now } from "../attacks/pack.ts";

export interface Target {
  readonly name: string;
  readonly what: string;
  readonly seeds: readonly Uint8Array[];
  /** Throws only KernlockError; returns a summary of what was understood. */
  readonly run: (bytes: Uint8Array) => unknown;
}

const limits = { allowedLibraries: ["libc.so.6", "libm.so.6"], libcMaximum: "2.40", exports: ["kl_get_api"] };
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
  const options = {
    keys: [trustedKey("publisher", people.publisher.pem)],
    identities: [identity(trustedRoot(world))],
    now,
  };
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
      what: "variant.json",
      seeds: [pack.variants[0]!.config, image.variants[1]!.config],
      run: (bytes) => parseVariant(bytes).variant,
    },
    {
      name: "documents",
      what: "OCI index, variant's and bundle's manifest",
      seeds: [pack.index, pack.variants[0]!.manifest, image.index],
      run: (bytes) =>
        [parseKernelIndex, parseVariantManifest, parseBundleManifest].map((parse) => word(() => parse(bytes))).join(),
    },
    {
      name: "lock",
      what: "kernels.lock and kernels.json",
      seeds: [lock, manifest].map((json) => Buffer.from(JSON.stringify(json))),
      run: (bytes) => [parseLock, parseManifest].map((parse) => word(() => parse(bytes))).join(),
    },
    {
      name: "bundle",
      what: "Sigstore bundles: keys, certificates, timestamps, log entries",
      seeds: [pack.evidence[0]!.bundle, certified, promised],
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
      seeds: [good, other],
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
  ];
}

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
