import { execFileSync } from "node:child_process";
import {
  closeSync,
  cpSync,
  fstatSync,
  ftruncateSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type Digest, digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { type AuditLine, createLock, fetchLocked, loadKernels, openCache } from "../index.ts";
import { loadNative, readSealed } from "../native/index.ts";
import { codeOf, type KernelParts, library, machine, newFolder, newKey, now, policyOf, scene } from "./kit.ts";

const { registry, client, key, policy, cache, lock, manifest, norm } = await scene();
const native = await loadNative();
const payload = lock.kernels["acme/norm"]!.variants[0]!.files[1]!;

function copyOfCache() {
  const copy = openCache(join(newFolder(), "cache"));
  cpSync(cache.folder, copy.folder, { recursive: true });
  return copy;
}

/** Publishes, locks and fetches one kernel, and loads it: what then refuses has got past the lock. */
async function loadNew(parts: Partial<KernelParts>, on = machine) {
  const name = "acme/one";
  const kernel: KernelParts = { ...norm, name, ...parts };
  await registry.publish(kernel, key);
  const wanted = { ...manifest, kernels: { [name]: kernel.version } };
  const fresh = openCache(join(newFolder(), "cache"));
  const made = await createLock({ manifest: wanted, policy, registry: client, cache: fresh, now });
  await fetchLocked({ lock: made.lock, cache: fresh, registry: client });
  registry.tagged.delete(name);
  return loadKernels({ lock: made.lock, policy, cache: fresh, machine: on, now });
}

describe("a load", () => {
  test("seals the payload files of every variant that fits, and says what it left out", async () => {
    const lines: AuditLine[] = [];
    const loaded = await loadKernels({ lock, policy, cache, machine, now, onAudit: (line) => lines.push(line) });
    expect(loaded.kernels.map(({ name, variantKey }) => [name, variantKey])).toEqual([
      ["acme/moe", "linux-x86_64-cpu-v3"],
      ["acme/norm", "linux-x86_64-cpu-v3"],
    ]);
    expect(loaded.skipped).toMatchObject([{ name: "acme/norm", variant: "linux-x86_64-cpu-v4", code: "KL_LOAD_CPU" }]);
    for (const { files } of loaded.kernels) {
      expect(files.map(({ path }) => path)).toEqual(["kernel.so"]);
      for (const { fd, digest, size } of files) {
        expect(native.seals(fd) & 0xf).toBe(0xf);
        expect(digestOf(readSealed(fd))).toBe(digest);
        expect(fstatSync(fd).size).toBe(size);
      }
    }
    expect(loaded.verdicts.get("acme/norm")?.ok).toBe(true);
    expect(lines).toEqual(loaded.audit);
    expect(lines[1]).toEqual({
      time: now.toISOString(),
      event: "load",
      kernel: "acme/norm",
      version: "1.0.0",
      variant: "linux-x86_64-cpu-v3",
      index: lock.kernels["acme/norm"]!.index.digest,
      manifest: lock.kernels["acme/norm"]!.variants[0]!.manifest.digest,
      files: [{ path: "kernel.so", digest: payload.digest }],
      signers: lock.kernels["acme/norm"]!.signers,
      builder: lock.kernels["acme/norm"]!.builder,
      policy: policy.digest,
      lockPolicy: lock.policy,
      verdict: "allow",
    });
    expect(JSON.parse(JSON.stringify(lines))).toEqual(lines);
    loaded.close();
  });

  test("takes all variants that fit a newer machine", async () => {
    const loaded = await loadKernels({
      lock,
      policy,
      cache,
      machine: { ...machine, cpu: { level: "x86-64-v4" } },
      now,
    });
    expect(loaded.kernels).toHaveLength(3);
    expect(loaded.skipped).toEqual([]);
    loaded.close();
  });

  test("gives memory files that nobody can change or run any more", async () => {
    const loaded = await loadKernels({ lock, policy, cache, machine, now, names: ["acme/norm"] });
    const { fd } = loaded.kernels[0]!.files[0]!;
    expect(() => writeSync(fd, Buffer.from("x"), 0, 1, 0)).toThrow(/EPERM/);
    expect(() => ftruncateSync(fd, 1)).toThrow(/EPERM|EINVAL/);
    // Opening it anew through its path gives no way around the seals.
    expect(() => writeFileSync(`/proc/self/fd/${fd}`, "x")).toThrow(/EPERM|EACCES/);
    expect(() => execFileSync(`/proc/${process.pid}/fd/${fd}`)).toThrow();
    expect(() => native.seal(fd)).toThrow(expect.objectContaining({ code: "KL_SEAL_UNAVAILABLE" }));
    loaded.close();
  });

  test("loads what was sealed, whatever becomes of the cache afterwards", async () => {
    const copy = copyOfCache();
    const before = readFileSync(copy.pathOf(payload));
    const loaded = await loadKernels({
      lock,
      policy,
      cache: copy,
      machine,
      now,
      names: ["acme/norm"],
      onSealed: () => writeFileSync(copy.pathOf(payload), Buffer.alloc(payload.size, 0xcc)),
    });
    expect(digestOf(readFileSync(copy.pathOf(payload)))).not.toBe(payload.digest);
    expect(Buffer.from(readSealed(loaded.kernels[0]!.files[0]!.fd)).equals(before)).toBe(true);
    loaded.close();
  });
});

describe("a load is refused, and an audit line says so", () => {
  async function refusal(change: Partial<Parameters<typeof loadKernels>[0]>) {
    const lines: AuditLine[] = [];
    const code = await codeOf(() =>
      loadKernels({
        lock,
        policy,
        cache,
        machine,
        now,
        names: ["acme/norm"],
        onAudit: (l) => lines.push(l),
        ...change,
      }),
    );
    return { code, audit: lines.map((line) => line.code) };
  }
  const spoil = (change: (path: string) => void) => {
    const copy = copyOfCache();
    change(copy.pathOf(payload));
    return { cache: copy };
  };

  test("when a bit of the payload is flipped in the cache", async () => {
    const flipped = spoil((path) => {
      const bytes = readFileSync(path);
      bytes[200]! ^= 1;
      writeFileSync(path, bytes);
    });
    expect(await refusal(flipped)).toEqual({ code: "KL_CACHE_DIGEST", audit: ["KL_CACHE_DIGEST"] });
  });
  test("when the payload is missing, cut or a link", async () => {
    expect((await refusal(spoil((path) => rmSync(path)))).code).toBe("KL_CACHE_MISSING");
    expect((await refusal(spoil((path) => writeFileSync(path, "x")))).code).toBe("KL_CACHE_SIZE");
    const linked = spoil((path) => {
      rmSync(path);
      symlinkSync(cache.pathOf(payload), path);
    });
    expect((await refusal(linked)).code).toBe("KL_CACHE_FILE");
  });
  test("when the policy does not name the signer", async () => {
    expect(await refusal({ policy: policyOf({ publisher: newKey() }) })).toEqual({
      code: "KL_BUNDLE_UNKNOWN_KEY",
      audit: ["KL_BUNDLE_UNKNOWN_KEY"],
    });
  });
  test("when frozen and under another policy", async () => {
    const wider = policyOf({ publisher: key, other: newKey() });
    expect(await refusal({ policy: wider, frozen: true })).toEqual({
      code: "KL_LOCK_POLICY",
      audit: ["KL_LOCK_POLICY"],
    });
    expect((await refusal({ policy: wider })).code).toBe("no refusal");
  });
  test("when no variant of a named kernel fits", async () => {
    const old = { ...machine, cpu: { level: "x86-64-v2" } };
    expect((await refusal({ machine: old })).code).toBe("KL_LOAD_NO_VARIANT");
    expect((await refusal({ machine: { ...machine, libc: { family: "musl", version: "1.2" } } })).code).toBe(
      "KL_LOAD_NO_VARIANT",
    );
  });

  const v3 = (change: object, bytes = library("abi")) => ({ variants: { v3: { library: bytes, change } } });
  test("when the ABI is newer, or of another build", async () => {
    expect(await codeOf(() => loadNew(v3({ abi: 1 })))).toBe("KL_LOAD_ABI_VERSION");
    const abi_build: Digest = digestOf("another header");
    expect(await codeOf(() => loadNew(v3({ abi_build })))).toBe("KL_LOAD_ABI_BUILD");
  });
  const otherMachine = (): Uint8Array => {
    const bytes = Buffer.from(library("machine"));
    bytes.writeUInt16LE(183, 18); // e_machine of AArch64
    return bytes;
  };
  test.each([
    ["no library at all", /^KL_ELF_/, () => Buffer.from("#!/bin/sh\n")],
    ["cut in half", "KL_ELF_TRUNCATED", () => library("cut").subarray(0, library("cut").length >> 1)],
    ["for another machine", "KL_ELF_MACHINE", otherMachine],
    ["looking for others beside it", "KL_ELF_RUNPATH", () => library("path", ["-Wl,-rpath,$ORIGIN/evil"])],
    ["with an executable stack", "KL_ELF_EXECUTABLE_STACK", () => library("stack", ["-Wl,-z,execstack"])],
    ["with a constructor", "KL_ELF_INITIALIZER", () => library("constructor", ["-DCONSTRUCTOR"])],
    ["with a foreign library", "KL_ELF_LIBRARY", () => library("foreign", ["-Wl,--no-as-needed", "-lstdc++"])],
    ["without its symbol", "KL_ELF_SYMBOL_MISSING", () => library("symbol", ["-Dkl_get_api=kl_other"])],
  ])("when the sealed library is %s", async (_, code, bytes) => {
    expect(await codeOf(() => loadNew(v3({}, bytes())))).toMatch(code);
  });
  test("and then no descriptor stays open", async () => {
    const fds = () => readFileSync("/proc/self/status", "utf8").match(/FDSize.*/)?.[0] && listMemfds();
    const before = fds();
    await codeOf(() => loadNew(v3({ abi: 1 })));
    await refusal(spoil((path) => writeFileSync(path, Buffer.alloc(payload.size))));
    expect(fds()).toEqual(before);
  });
});

function listMemfds(): string[] {
  return execFileSync("sh", ["-c", `ls -l /proc/${process.pid}/fd | grep -o 'memfd:.*' || true`])
    .toString()
    .split("\n");
}

test("what is no memory file cannot be taken for sealed", async () => {
  const path = join(newFolder(), "x");
  writeFileSync(path, "x");
  const { openSync } = await import("node:fs");
  const fd = openSync(path, "r");
  expect(await codeOf(() => native.seals(fd))).toBe("KL_SEAL_UNAVAILABLE");
  closeSync(fd);
});
