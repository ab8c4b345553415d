/**
 * A kernel that is signed, locked and allowed, and hostile. Every attack runs twice: in a host that nothing confines, where
 * it has to work, or the test would show nothing; and in the engine as it is. What came of it is looked at from outside.
 */
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultRequest, readMachineFacts } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { addonPath } from "@kernlock/engine/native";
import type { KernlockError } from "@kernlock/kernels/format";
import { type Loaded, loadKernels, openCache, parseLock } from "@kernlock/loader";
import { parsePolicy } from "@kernlock/policies/trust";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startEngineIn } from "../../../engine/client/engine.ts";
import type { StartProcess } from "../../../engine/client/host.ts";
import { root } from "../../../scripts/project.ts";
import { type Attack, attacks, type Sign, tokensOf } from "./attacks.ts";
import { hostileProject, type Target } from "./project.ts";

/** What a process that got away calls itself. */
const escaped = "kl-escaped";
const secretText = "the-secret-of-the-machine";
const folder = mkdtempSync(join(tmpdir(), "kernlock-hostile-"));
let target: Target;
let server: Server;
let loaded: Loaded;
let connections = 0;
let signals = 0;
const countSignal = (): void => {
  signals += 1;
};

beforeAll(async () => {
  addonPath();
  process.on("SIGUSR2", countSignal);
  server = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {}).resume();
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const [secret, file, victim] = ["secret", "file", "victim"].map((name) => join(folder, name));
  target = { port: (server.address() as AddressInfo).port, secret: secret!, file: file!, victim: victim! };
  writeFileSync(target.secret, secretText, { mode: 0o600 });
  const project = await hostileProject(folder, target);
  const read = (name: string): Uint8Array => readFileSync(join(project, name));
  loaded = await loadKernels({
    lock: parseLock(read("kernels.lock")),
    policy: parsePolicy(read("kernels.policy.yaml")),
    cache: openCache(join(project, "cache")),
    machine: readMachineFacts(),
    now: new Date(),
  });
}, 400_000);

afterAll(() => {
  loaded?.close();
  server?.close();
  process.off("SIGUSR2", countSignal);
  rmSync(folder, { recursive: true, force: true });
});

/** A host without the starter, which does not confine itself either: it is not told to. Nothing but a test can ask for it. */
const unconfined: StartProcess = (main, stdio) =>
  spawn(process.execPath, [main], { cwd: "/", env: {}, stdio: [...stdio] });

/** Runs a prompt of so many tokens; resolves with the error, null when all went well. */
async function run(tokens: number, start?: StartProcess): Promise<KernlockError | null> {
  const model = openModel(join(root, "test/golden/tiny-mxfp4"));
  try {
    await using engine = await startEngineIn(
      { kernels: loaded.kernels, model, request: defaultRequest({ workers: 2 }) },
      start,
    );
    const prompt = { tokenIds: Array.from({ length: tokens }, (_, i) => i + 1) };
    await engine.generate({ prompt, maxNewTokens: 1, ignoreEos: true });
    return null;
  } catch (error) {
    return error as KernlockError;
  } finally {
    model.close();
  }
}

interface Seen {
  readonly signs: ReadonlySet<Sign>;
  readonly error: KernlockError | null;
}

/** Attacks, and looks while it does and for a while afterwards. */
async function attack(one: Attack, start?: StartProcess): Promise<Seen> {
  rmSync(target.file, { force: true });
  writeFileSync(target.victim, "x");
  chmodSync(target.victim, 0o600);
  [connections, signals] = [0, 0];
  const signs = new Set<Sign>();
  const look = (): void => {
    if (connections > 0) signs.add("connection");
    if (signals > 0) signs.add("signal");
    if (existsSync(target.file)) signs.add("file");
    if (!existsSync(target.victim) || statSync(target.victim).mode % 0o1000 !== 0o600) signs.add("victim");
    if (!/^TracerPid:\s*0$/m.test(readFileSync("/proc/self/status", "utf8"))) signs.add("tracer");
    if (one.signs.includes("process") && processes().includes(escaped)) signs.add("process");
  };
  const looking = setInterval(look, 50);
  try {
    const error = await run(tokensOf(one), start);
    await sleep(200);
    look();
    if (error?.message.includes(`attack ${tokensOf(one)}: 0 `)) signs.add("answer");
    return { signs, error };
  } finally {
    clearInterval(looking);
  }
}

function processes(): string[] {
  return readdirSync("/proc").flatMap((name) => {
    try {
      return /^\d+$/.test(name) ? [readFileSync(`/proc/${name}/comm`, "utf8").trim()] : [];
    } catch {
      return [];
    }
  });
}

describe("a signed kernel that", () => {
  it.each(attacks)(
    "$what",
    async (one) => {
      const free = await attack(one, unconfined);
      expect([...free.signs]).toEqual(expect.arrayContaining([...one.signs]));

      while (processes().includes(escaped)) await sleep(100);

      const { signs, error } = await attack(one);
      expect([...signs]).toEqual([]);
      expect(error?.message).not.toContain(secretText);
      if ("errno" in one.ends) {
        expect(error).toMatchObject({ code: "KL_OP_FAILED" });
        expect(error?.message).toContain(`attack ${tokensOf(one)}: ${one.ends.errno} `);
      } else {
        expect(error).toMatchObject({ code: "KL_CONFINE_VIOLATION" });
        expect(error?.details.call ?? null).toBe(one.ends.call);
      }
    },
    60_000,
  );

  it("attacks while it is loaded finds the filter in place", async () => {
    const tokens = attacks.length + 2;
    expect((await run(tokens, unconfined))?.message).toContain(`attack ${tokens}: 0 `);
    // 2: a filter on system calls.
    expect((await run(tokens))?.message).toContain(`attack ${tokens}: 2 `);
  }, 300_000);

  it("attacks nothing runs confined", async () => {
    expect(await run(1)).toBeNull();
  }, 300_000);

  it("shows the secret where nothing confines it", async () => {
    const reads = attacks.find(({ what }) => what === "reads a secret file")!;
    expect((await run(tokensOf(reads), unconfined))?.message).toContain(secretText);
  }, 300_000);
});
