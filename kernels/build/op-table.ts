import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argsBytes, type OpName, opNames } from "../abi/index.ts";
import { fail, parseStrictJson } from "../format/index.ts";
import type { CompileOptions } from "./call.ts";
import { runProgram } from "./process.ts";
import type { OpSource } from "./source.ts";
import type { Stage } from "./stage.ts";
import { compilerEnvironment, type Toolchain } from "./toolchain.ts";

// Prints the table behind kl_get_api as JSON: rows of name, op number, size of the arguments.
const probe = `#include <dlfcn.h>
#include <stdio.h>
#include "kernlock.h"
int main(int argc, char** argv) {
  void* library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library == NULL) return 2;
  const kl_api* (*get)(uint32_t) = (const kl_api* (*)(uint32_t))dlsym(library, "kl_get_api");
  const kl_api* api = get == NULL ? NULL : get(KL_ABI);
  if (api == NULL || api->size < sizeof *api || api->abi != KL_ABI || get(KL_ABI + 1) != NULL) return 3;
  printf("[");
  for (uint32_t i = 0; i < api->op_count; i++)
    printf("%s[\\"%s\\",%u,%u]", i ? "," : "", api->ops[i].name, api->ops[i].op, api->ops[i].args_size);
  printf("]");
  return 0;
}
`;

/**
 * Asks a library that was just built for its op table and compares it with kernel.json; the engine would refuse a
 * difference, the builder says so earlier. Runs the library's kl_get_api in a process of its own.
 * Throws `KL_BUILD_OP_TABLE`.
 */
export async function checkOpTable(
  stage: Stage,
  toolchain: Toolchain,
  output: string,
  ops: readonly OpSource[],
  options: CompileOptions,
): Promise<void> {
  const env = compilerEnvironment(join(stage.folder, "tmp"));
  const run = (program: string, args: string[]) => runProgram(program, args, { cwd: stage.folder, env, ...options });
  const tool = join(stage.folder, "tmp", "probe");
  if ((await readFile(tool).catch(() => undefined)) === undefined) {
    await writeFile(`${tool}.cc`, probe);
    const made = await run(toolchain.compiler, ["-O0", "-Iinclude", "-o", tool, `${tool}.cc`, "-ldl"]);
    if (made.status !== 0) fail("KL_BUILD_COMPILER", "The compiler cannot build a program that loads a library.");
  }
  const asked = await run(tool, [`./out/${output}`]);
  if (asked.status !== 0) {
    const why = { 2: "it cannot be loaded here", 3: "kl_get_api does not answer as the ABI wants" }[asked.status ?? -1];
    fail("KL_BUILD_OP_TABLE", `${output} does not give its op table: ${why ?? "it crashes"}.`, {
      remedy: "kl_get_api(KL_ABI) returns the table, and null for every other version.",
    });
  }
  const rows = parseStrictJson(asked.stdout, { what: "The op table" }) as [string, number, number][];
  const found = new Map(rows.map(([name, op, size]) => [name, { op, size }]));
  if (found.size !== rows.length) fail("KL_BUILD_OP_TABLE", `${output} has one op twice in its table.`);
  for (const op of ops.filter((o) => o.file === output)) {
    const name = `${op.name}/${op.path}`;
    const row = found.get(name);
    if (row === undefined)
      return fail("KL_BUILD_OP_TABLE", `kernel.json names ${name}, which ${output} does not have.`);
    const wanted = { op: numberOf(op.name), size: argsBytes(op.name) };
    if (row.op !== wanted.op || row.size !== wanted.size) {
      fail("KL_BUILD_OP_TABLE", `${output} has ${name} with another number or argument size than the ABI.`);
    }
    found.delete(name);
  }
  for (const name of found.keys()) fail("KL_BUILD_OP_TABLE", `${output} has ${name}, which kernel.json does not name.`);
}

function numberOf(name: OpName): number {
  return opNames.indexOf(name);
}
