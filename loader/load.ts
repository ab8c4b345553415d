import { closeSync, writeSync } from "node:fs";
import { abiBuild } from "@kernlock/kernels/abi";
import {
  digestOf,
  type ErrorCode,
  fail,
  KernlockError,
  payloadFiles,
  type VariantFile,
} from "@kernlock/kernels/format";
import { checkDeviceCode, checkSharedObject, inspectElf } from "@kernlock/kernels/inspect";
import { allowedLibraries, type Policy, permits, type Verdict } from "@kernlock/policies/trust";
import { checkRequest } from "./border.ts";
import type { Cache } from "./cache.ts";
import { assertPinned, judgeLocked, type ReadKernel, readContents } from "./contents.ts";
import { compiledHere, misfit } from "./fit.ts";
import { coverageProblems, emptyLock } from "./lock.ts";
import { loadNative, type Native, readSealed, requiredSeals } from "./native/index.ts";
import type {
  AuditLine,
  Loaded,
  LoadMachine,
  Lock,
  LockedKernel,
  Manifest,
  SealedFile,
  SealedKernel,
  SkippedVariant,
} from "./types.ts";
import { lockProblems, selected } from "./verify.ts";

interface Request {
  readonly lock: Lock;
  /** `kernels.json`, where there is one: nothing that it asks for may be missing in the lock. */
  readonly manifest?: Manifest | undefined;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly machine: LoadMachine;
  /** Only these packages; each must then have a variant that fits. */
  readonly names?: readonly string[];
  readonly now: Date;
  readonly frozen?: boolean;
  readonly onAudit?: (line: AuditLine) => void;
  /** Called with each verdict before it is acted on: what it rests on is known from then on, refused or not. */
  readonly onVerdict?: (verdict: Verdict) => void;
  /** Called once a file is sealed, before it is hashed: here tests rewrite the cache. */
  readonly onSealed?: (file: SealedFile) => void | Promise<void>;
}

type Variant = ReadKernel["variants"][number];

/** KL_ABI of kernlock.h. */
const abiVersion = 0;

/** Libraries that a kernel may need: the C library and its mathematics, nothing else. A policy can only take away. */
const knownLibraries = ["libc.so.6", "libm.so.6"];

/** Largest payload that is sealed; what is pinned may lie about nothing else, but may be absurd. */
const maxPayload = 1 << 30;

/**
 * Verifies, judges and seals every locked variant that fits the machine; all or nothing.
 *
 * Per kernel: documents compared with the lock, bundles verified, policy asked, evidence compared with the pins. Per
 * variant that fits: ABI; then each payload file is copied from the cache into a memory file of its own, sealed, hashed
 * by reading the sealed file back, and inspected from the same bytes. Other files are not read.
 *
 * Throws the codes of `verifyLocked`, KL_LOCK_EMPTY, KL_LOAD_ABI_VERSION, KL_LOAD_ABI_BUILD, KL_LOAD_NO_VARIANT, KL_ELF_*, KL_CUBIN_*,
 * KL_FATBIN_*, KL_IMAGE_*, KL_SEAL_UNAVAILABLE, KL_ADDON_*.
 */
export async function loadKernels(request: Request): Promise<Loaded> {
  checkRequest("loadKernels", request);
  const { lock, manifest, names } = request;
  const kernels: SealedKernel[] = [];
  const skipped: SkippedVariant[] = [];
  const verdicts = new Map<string, Verdict>();
  const audit: AuditLine[] = [];
  if (Object.keys(lock.kernels).length === 0) throw coverageProblems(manifest, lock)[0] ?? emptyLock();
  const close = (): void => {
    for (const file of kernels.flatMap(({ files }) => files)) closeSync(file.fd);
    kernels.length = 0;
  };
  try {
    for (const [name, locked] of selected(lock, names)) {
      const record = recorder(request, name, locked, audit, () => verdicts.get(name));
      const kernel = await record(null, [], () => admit(request, name, locked, verdicts));
      const permitted = permits(request.policy, name);
      const fitting = kernel.variants.filter((variant) => {
        const reason = misfit(variant.variant, request.machine, permitted);
        if (reason === null) return true;
        skipped.push({ name, version: locked.version, variant: variant.locked.key, ...reason });
        return false;
      });
      if (fitting.length === 0 && names !== undefined) {
        await record(null, [], () =>
          refuse("KL_LOAD_NO_VARIANT", name, "no locked variant of it fits this machine", { skipped }),
        );
      }
      for (const variant of fitting) {
        kernels.push(
          await record(variant, payloadFiles(variant.variant), () => seal(request, locked, kernel, variant)),
        );
      }
    }
    if (kernels.length === 0) {
      fail("KL_LOAD_NO_VARIANT", "No locked variant fits this machine.", {
        remedy: "Add a variant of this machine to kernels.json and lock again.",
        details: { skipped },
      });
    }
    return { kernels, skipped, verdicts, audit, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Everything that is asked before a byte of a payload is read. */
async function admit(
  { lock, manifest, policy, cache, now, frozen, onVerdict }: Request,
  name: string,
  locked: LockedKernel,
  verdicts: Map<string, Verdict>,
): Promise<ReadKernel> {
  const [problem] = lockProblems({ lock, manifest, policy, frozen });
  if (problem) throw problem;
  const kernel = await readContents(name, locked, cache, manifest);
  const verdict = await judgeLocked({ kernel, locked, policy, cache, now, seen: lock.advisories });
  verdicts.set(name, verdict);
  onVerdict?.(verdict);
  assertPinned(verdict, kernel, locked);
  return kernel;
}

async function seal(
  request: Request,
  locked: LockedKernel,
  kernel: ReadKernel,
  variant: Variant,
): Promise<SealedKernel> {
  const { name } = kernel;
  checkAbi(name, variant);
  const native = await loadNative();
  const files: SealedFile[] = [];
  try {
    for (const file of payloadFiles(variant.variant)) {
      const sealed = await sealFile(request, native, `${name}/${file.path}`, file);
      files.push(sealed);
      await request.onSealed?.(sealed);
      checkSealed(name, native, sealed, variant, allowedLibraries(request.policy, name));
    }
  } catch (error) {
    for (const { fd } of files) closeSync(fd);
    throw error;
  }
  return {
    name,
    version: locked.version,
    index: locked.index.digest,
    manifest: variant.locked.manifest.digest,
    variantKey: variant.locked.key,
    variant: variant.variant,
    signers: locked.signers,
    permits: permits(request.policy, name),
    files,
  };
}

/** A v0 kernel loads only in the build whose header it was compiled against. */
function checkAbi(name: string, { locked, variant }: Variant): void {
  if (variant.abi !== abiVersion) {
    refuse("KL_LOAD_ABI_VERSION", name, `${locked.key} speaks ABI ${variant.abi}, and this program ${abiVersion}`);
  }
  if (variant.abi_build !== abiBuild) {
    refuse("KL_LOAD_ABI_BUILD", name, `${locked.key} was compiled against another build of the ABI`, {
      pinned: variant.abi_build,
      found: abiBuild,
    });
  }
}

/** Copies a cache file into a sealed memory file. What was copied is found out afterwards, from the sealed side. */
async function sealFile({ cache }: Request, native: Native, label: string, file: VariantFile): Promise<SealedFile> {
  if (file.size > maxPayload) refuse("KL_LOAD_TOO_LARGE", label, `it has more than ${maxPayload} bytes`);
  const source = await cache.open(file);
  let fd: number | undefined;
  try {
    fd = native.createSealable(`kernlock:${label}`);
    const chunk = Buffer.allocUnsafe(Math.min(1 << 20, file.size));
    for (let at = 0; at < file.size; ) {
      const { bytesRead } = await source.read(chunk, 0, Math.min(chunk.byteLength, file.size - at), at);
      if (bytesRead === 0) break;
      for (let done = 0; done < bytesRead; ) done += writeSync(fd, chunk, done, bytesRead - done, at + done);
      at += bytesRead;
    }
    native.seal(fd);
    return { path: file.path, kind: file.kind, digest: file.digest, size: file.size, fd };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw error;
  } finally {
    await source.close();
  }
}

/** Only here is it known what was sealed: seals, size, digest, and then what the system's loader would make of it. */
function checkSealed(
  name: string,
  native: Native,
  file: SealedFile,
  { variant }: Variant,
  allowed?: readonly string[],
): void {
  if ((native.seals(file.fd) & requiredSeals) !== requiredSeals) {
    fail("KL_SEAL_UNAVAILABLE", `The memory file of ${name}/${file.path} is not sealed.`);
  }
  const bytes = readSealed(file.fd);
  if (bytes.byteLength !== file.size || digestOf(bytes) !== file.digest) {
    fail("KL_CACHE_DIGEST", `${name}/${file.path} has other bytes in the cache than its digest says.`, {
      remedy: "Run `kernlock fetch`, which replaces what is missing or damaged.",
      details: { kernel: name, path: file.path, digest: file.digest },
    });
  }
  if (file.kind === "shared-object") {
    checkSharedObject(inspectElf(bytes), {
      allowedLibraries: knownLibraries.filter((library) => allowed?.includes(library) ?? true),
      libcMaximum: variant.platform.libc.minimum,
      exports: ["kl_get_api"],
    });
  }
  checkDeviceCode(bytes, file, variant);
}

/** Runs a step and leaves one audit line: for a step about a variant in any case, for others when they refuse. */
function recorder(
  { lock, policy, machine, now, onAudit }: Request,
  name: string,
  locked: LockedKernel,
  audit: AuditLine[],
  judged: () => Verdict | undefined,
) {
  return async <T>(variant: Variant | null, files: readonly VariantFile[], step: () => T | Promise<T>): Promise<T> => {
    const write = (verdict: AuditLine["verdict"], code?: ErrorCode): void => {
      const compiled = variant === null ? [] : compiledHere(variant.variant, machine);
      const line: AuditLine = {
        time: now.toISOString(),
        event: "load",
        kernel: name,
        version: locked.version,
        variant: variant?.locked.key ?? null,
        index: locked.index.digest,
        manifest: variant?.locked.manifest.digest ?? null,
        files: files.map(({ path, digest }) => ({ path, digest })),
        signers: locked.signers,
        builder: locked.builder,
        policy: policy.digest,
        ...(policy.above === undefined ? {} : { operatorPolicy: policy.above.digest }),
        lockPolicy: lock.policy,
        ...waiversOf(judged()),
        ...(compiled.length === 0 ? {} : { compiledHere: compiled }),
        verdict,
        ...(code === undefined ? {} : { code }),
      };
      audit.push(line);
      onAudit?.(line);
    };
    try {
      const result = await step();
      if (variant !== null) write("allow");
      return result;
    } catch (error) {
      write("refuse", error instanceof KernlockError ? error.code : "KL_LOAD_INTERNAL");
      throw error;
    }
  };
}

/** A load that only somebody's signed word allowed says so for good. */
function waiversOf(verdict: Verdict | undefined): Pick<AuditLine, "mode" | "waivers"> {
  if (verdict === undefined || verdict.waivers.length === 0) return {};
  const waivers = [...new Set(verdict.waivers.map(({ payload }) => payload))];
  return { ...(verdict.mode === "break-glass" ? { mode: verdict.mode } : {}), waivers };
}

function refuse(code: ErrorCode, name: string, what: string, details: Record<string, unknown> = {}): never {
  return fail(code, `${name}: ${what}.`, {
    remedy: "Lock a version or variant that was built for this program and this machine.",
    details: { kernel: name, ...details },
  });
}
