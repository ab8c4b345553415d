/** A project whose publisher has turned: its norm is hostile.cc, built, signed, published, locked and fetched as any other. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  builder,
  kernlockOk,
  makeProject,
  makeWorkshop,
  packages,
  publishPackages,
  repository,
  root,
  startRegistry,
} from "../../../scripts/project.ts";
import { testProject } from "../../project.ts";

const replaced = "liger-rmsnorm";

/** What the kernel is to attack. */
export interface Target {
  readonly port: number;
  readonly secret: string;
  readonly file: string;
  readonly victim: string;
}

/** Returns the project's folder. */
export async function hostileProject(folder: string, target: Target): Promise<string> {
  const honest = await testProject();
  const workshop = await makeWorkshop(join(folder, "workshop"));
  for (const name of packages.filter((one) => one !== replaced)) {
    cpSync(join(honest.workshop.layouts, name), join(workshop.layouts, name), { recursive: true });
  }
  const source = join(folder, "source");
  writeSource(source, target);
  await kernlockOk(["build", source, "--out", join(workshop.layouts, replaced), "--builder", builder]);
  const registry = await startRegistry(workshop.registryData);
  try {
    await publishPackages(workshop, registry.origin);
    const project = join(folder, "project");
    await makeProject(project, readFileSync(workshop.policy, "utf8"), registry.origin);
    return project;
  } finally {
    await registry.stop();
  }
}

function writeSource(folder: string, { port, secret, file, victim }: Target): void {
  mkdirSync(join(folder, "cpu"), { recursive: true });
  const text = (value: string): string => JSON.stringify(value);
  writeFileSync(
    join(folder, "cpu", "target.h"),
    [
      "#pragma once",
      `#define TARGET_PORT ${port}`,
      `#define TARGET_SECRET ${text(secret)}`,
      `#define TARGET_FILE ${text(file)}`,
      `#define TARGET_VICTIM ${text(victim)}`,
      "",
    ].join("\n"),
  );
  cpSync(join(import.meta.dirname, "hostile.cc"), join(folder, "cpu", "hostile.cc"));
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  writeFileSync(join(folder, "README.md"), "# A norm\n\nIt does what it says, and more.\n");
  const honest = JSON.parse(readFileSync(join(root, "kernels/liger-rmsnorm/kernel.json"), "utf8"));
  const cpu = honest.variants.find((one: { variant?: string }) => one.variant === "linux-x86_64-cpu-v3");
  writeFileSync(
    join(folder, "kernel.json"),
    JSON.stringify({
      ...honest,
      source: { repository },
      variants: [
        {
          ...cpu,
          platform: { ...cpu.platform, libc: { family: "glibc", minimum: "2.36" } },
          compile: [
            { output: "liger-rmsnorm.so", kind: "shared-object", language: "c++", sources: ["cpu/hostile.cc"] },
          ],
        },
      ],
    }),
  );
}
