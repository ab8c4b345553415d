import { type Node, nodes } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import type { Pin } from "./types.ts";

/** Names that stand for several nodes. */
const groups: Readonly<Record<string, readonly Node[]>> = { moe: ["moe_up", "moe_down"] };

const shape = /^([a-z_]+)=((?:[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*?)(?:\/([a-z0-9]+))?$/;

/**
 * Takes `NODE=NAME[/PATH]` apart. `NAME` is a bare name or `namespace/name`; which of the two `a/b` means is decided by
 * the kernels that are there, since only they know whether `b` is a package or a path.
 *
 * @throws KL_PLAN_PIN
 */
export function parsePin(text: string, kernelNames: readonly string[]): Pin {
  const match = shape.exec(text);
  const remedy = `Write --kernel NODE=NAME or NODE=NAME/PATH, with NODE one of moe, ${nodes.join(", ")}.`;
  if (match === null) fail("KL_PLAN_PIN", `"${text}" does not name a node and a kernel.`, { remedy });
  const node = match[1] ?? "";
  const meant = groups[node] ?? nodes.filter((known) => known === node);
  if (meant.length === 0) fail("KL_PLAN_PIN", `"${node}" in "${text}" is not a node of the model.`, { remedy });
  const name = text.slice(node.length + 1);
  const found = resolve(name, kernelNames);
  if (found.length === 1) return { nodes: meant, text, ...found[0]! };
  const locked = [...kernelNames].sort().join(", ") || "none";
  fail(
    "KL_PLAN_PIN",
    found.length === 0
      ? `No locked kernel is called "${name}".`
      : `"${name}" fits more than one locked kernel: ${found.map((pin) => pin.kernel).join(", ")}.`,
    { remedy: `Name one of the locked kernels (${locked}), with its namespace where the bare name is not unique.` },
  );
}

function resolve(name: string, kernelNames: readonly string[]): { kernel: string; path: string | null }[] {
  const parts = name.split("/");
  const bare = (kernel: string): string => kernel.slice(kernel.indexOf("/") + 1);
  const whole = kernelNames.filter((kernel) => kernel === name || bare(kernel) === name);
  if (whole.length > 0 || parts.length === 1) return whole.map((kernel) => ({ kernel, path: null }));
  const path = parts.at(-1)!;
  const rest = parts.slice(0, -1).join("/");
  return kernelNames.filter((kernel) => kernel === rest || bare(kernel) === rest).map((kernel) => ({ kernel, path }));
}
