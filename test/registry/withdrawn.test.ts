/** Yanked, quarantined and staged versions, as whoever locks meets them. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { expect, test, vi } from "vitest";
import { addCommand } from "../../cli/commands/add.ts";
import { lockCommand } from "../../cli/commands/lock.ts";
import { outdatedCommand } from "../../cli/commands/outdated.ts";
import {
  makePackage,
  policyFor,
  publish,
  startRegistry,
  type TestRegistry,
} from "../../registry-server/test/material.ts";
import { newFolder } from "./drivers.ts";

/** Runs a command in this process: its exit status, and what it printed. */
async function run(command: Command, args: readonly string[]): Promise<{ status: number; text: string }> {
  let text = "";
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  const stderr = vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  try {
    await command.parseAsync([...args], { from: "user" });
    return { status: Number(process.exitCode ?? 0), text };
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
    process.exitCode = 0;
  }
}

function newProject(at: TestRegistry, range: string) {
  const folder = newFolder();
  const kernels = { "acme/norm": range };
  const manifest = { version: 1, registry: at.origin, variants: ["linux-x86_64-cpu-v3"], kernels };
  writeFileSync(join(folder, "kernels.json"), JSON.stringify(manifest));
  writeFileSync(join(folder, "kernels.policy.yaml"), policyFor(at.key));
  const flags = ["--lock", join(folder, "kernels.lock"), "--cache", join(folder, "cache")];
  return {
    lock: async (...more: string[]) => {
      const { status, text } = await run(lockCommand(), [...flags, ...more, "--json"]);
      const code = (JSON.parse(text) as { error?: { code: string } }).error?.code;
      return status === 0 || status === 3 ? lockedIn(folder) : code;
    },
    outdated: async () => JSON.parse((await run(outdatedCommand(), [...flags, "--json"])).text).kernels as object[],
    outdatedText: async () => (await run(outdatedCommand(), flags)).text,
    add: async (what: string) => JSON.parse((await run(addCommand(), [what, ...flags, "--json"])).text),
  };
}
const lockedIn = (folder: string) =>
  JSON.parse(readFileSync(join(folder, "kernels.lock"), "utf8")).kernels["acme/norm"].version as string;
const set = (at: TestRegistry, version: string, state: "ok" | "yanked" | "quarantined") =>
  at.registry.setVersionState({ repository: "acme/norm", version, state, reason: "wrong for odd rows" });

test("what is yanked, in quarantine or waits is not chosen, and a lock that has it says so", async () => {
  const at = await startRegistry();
  for (const version of ["1.0.0", "1.1.0", "1.2.0"]) await publish(at, makePackage({ version }));
  const project = newProject(at, "^1.0.0");
  expect(await project.lock()).toBe("1.2.0");
  expect(await project.outdatedText()).toBe("every kernel is locked at its newest version\n");

  await set(at, "1.2.0", "yanked");
  // Who has it keeps it, and is told.
  expect(await project.lock()).toBe("1.2.0");
  expect((await project.lock("--check")) as string).toBe("1.2.0");
  expect(await project.outdated()).toMatchObject([
    {
      name: "acme/norm",
      locked: "1.2.0",
      in_range: "1.1.0",
      newest: "1.1.0",
      withdrawn: { state: "yanked", reason: "wrong for odd rows" },
    },
  ]);
  expect(await project.outdatedText()).toMatch(
    /^acme\/norm 1\.2\.0 was yanked on \d{4}-\d\d-\d\d: wrong for odd rows; `kernlock lock --update` takes 1\.1\.0\n/,
  );
  expect(await newProject(at, "^1.0.0").lock()).toBe("1.1.0");
  expect(await newProject(at, "1.2.0").lock()).toBe("KL_LOCK_NO_VERSION");
  expect(await project.add("acme/norm")).toMatchObject({ added: { "acme/norm": "^1.1.0" } });

  await set(at, "1.2.0", "quarantined");
  expect(await project.outdatedText()).toMatch(/^acme\/norm 1\.2\.0 is in quarantine since \d{4}-\d\d-\d\d: wrong/);
  expect(await project.lock()).toBe("1.1.0");

  await at.registry.updateNamespace({ namespace: "acme", review: "required" });
  await publish(at, makePackage({ version: "1.3.0" }));
  expect(await project.lock("--update")).toBe("1.1.0");
  // A member, who sees it, does not lock it either.
  vi.stubEnv("KERNLOCK_TOKEN", at.write);
  expect(await project.lock("--update")).toBe("1.1.0");
  vi.unstubAllEnvs();
});

test("where every version of a range was withdrawn, locking is refused and outdated says there is none", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  const project = newProject(at, "^1.0.0");
  expect(await project.lock()).toBe("1.0.0");
  await set(at, "1.0.0", "yanked");
  expect(await project.lock("--update")).toBe("KL_LOCK_NO_VERSION");
  expect(await project.outdatedText()).toContain("no version in its range is offered");
});
