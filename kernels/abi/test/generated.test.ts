import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { generated } from "../generate.ts";
import { opNames, structLayout } from "../index.ts";

const abi = join(import.meta.dirname, "..");

it("the committed files are what ops.ts gives", () => {
  for (const [path, text] of generated()) {
    expect(readFileSync(join(abi, "..", "..", path), "utf8"), `${path}: run npm run generate`).toBe(text);
  }
});

it("a C and a C++ compiler lay the structs out as the encoder does", () => {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-abi-"));
  const lines = opNames.flatMap((op) => [
    `printf("%zu\\n", sizeof(kl_${op}_args));`,
    ...structLayout(op).slots.map(({ name }) => `printf("%zu\\n", offsetof(kl_${op}_args, ${name}));`),
  ]);
  const expected = opNames.flatMap((op) => [
    structLayout(op).bytes,
    ...structLayout(op).slots.map((slot) => slot.offset),
  ]);
  const source = `#include <stdio.h>\n#include "kernlock.h"\n#include "ops.h"\nint main(void) {\n${lines.join("\n")}\n}\n`;
  try {
    for (const [file, standard] of [
      ["layout.c", "-std=c11"],
      ["layout.cc", "-std=c++20"],
    ] as const) {
      writeFileSync(join(folder, file), source);
      const include = [`-I${abi}`, `-I${join(abi, "generated")}`];
      const options = ["-Wall", "-Wextra", "-Wpadded", "-Werror", standard, ...include, "-o", "layout", file];
      const compiled = spawnSync(file.endsWith(".cc") ? "g++" : "gcc", options, { cwd: folder, encoding: "utf8" });
      expect(compiled.stderr).toBe("");
      const printed = spawnSync(join(folder, "layout"), { encoding: "utf8" }).stdout;
      expect(printed.trim().split("\n").map(Number)).toEqual(expected);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
