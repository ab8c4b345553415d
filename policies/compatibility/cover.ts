import type { Node } from "@kernlock/kernels/abi";
import { type Answer, type Candidate, cpuRank, type Need, type No, no, opLabel, supports } from "./candidates.ts";
import { specificity } from "./gpu.ts";
import type { Pin, ReasonCode } from "./types.ts";

/** The model as a sequence of nodes, three times: before the layers, one layer, after the layers. */
export const segments = {
  before: ["embed"],
  layer: [
    ...["norm", "qkv", "rope", "kv_write", "attn", "o_proj", "residual"],
    ...["norm", "router", "moe_up", "moe_down", "residual"],
  ],
  after: ["norm", "lm_head", "sample"],
} as const satisfies Record<string, readonly string[]> as {
  readonly [S in "before" | "layer" | "after"]: readonly Node[];
};

export interface Choice {
  readonly candidate: Candidate;
  readonly reason: { readonly code: ReasonCode; readonly text: string };
}

/** A node that nothing here runs, and what each op that could have run it answered. */
export interface Gap {
  readonly node: Node;
  readonly answers: readonly { readonly label: string; readonly reason: string; readonly about: No["about"] }[];
}

export type Cover =
  | { readonly ok: true; readonly choices: readonly Choice[] }
  | { readonly ok: false; readonly gap: Gap };

/**
 * Covers a segment with as few ops as possible, and before that with as little PTX: what a driver compiles at load runs only
 * where no machine code does. A pinned node is run by the pinned kernel alone; where that kernel has no
 * op that covers more, the node stays out of fusions by itself.
 */
export function coverSegment(
  nodes: readonly Node[],
  candidates: readonly Candidate[],
  pins: readonly Pin[],
  need: Need,
): Cover {
  /** best[i]: fewest nodes from PTX for nodes[i..], then fewest ops, with the first of them. */
  const best: ({ readonly ptx: number; readonly count: number; readonly first: Candidate | null } | null)[] = [];
  best[nodes.length] = { ptx: 0, count: 0, first: null };
  for (let i = nodes.length - 1; i >= 0; i--) {
    best[i] = null;
    for (const candidate of at(nodes, i, candidates, pins, need)) {
      const rest = best[i + candidate.op.covers.length];
      if (rest === null || rest === undefined) continue;
      const before = best[i] ?? null;
      const ptx = rest.ptx + (candidate.ptx === null ? 0 : candidate.op.covers.length);
      const count = rest.count + 1;
      const order = before === null ? -1 : ptx - before.ptx || count - before.count || prefer(candidate, before.first!);
      if (order < 0) best[i] = { ptx, count, first: candidate };
    }
  }
  if (best[0] === null) return { ok: false, gap: findGap(nodes, candidates, pins, need) };
  const choices: Choice[] = [];
  for (let i = 0; i < nodes.length; ) {
    const candidate = best[i]!.first!;
    choices.push({ candidate, reason: explain(candidate, nodes, i, candidates, pins, need) });
    i += candidate.op.covers.length;
  }
  return { ok: true, choices };
}

/** Supported candidates that cover nodes[i..] from its beginning. */
function at(
  nodes: readonly Node[],
  i: number,
  candidates: readonly Candidate[],
  pins: readonly Pin[],
  need: Need,
): Candidate[] {
  return candidates.filter((candidate) => liesAt(nodes, i, candidate) && answer(candidate, pins, need).supported);
}

function liesAt(nodes: readonly Node[], i: number, { op }: Candidate): boolean {
  return op.covers.length > 0 && op.covers.every((node, k) => nodes[i + k] === node);
}

/** What a candidate says to a place, pins included. */
export function answer(candidate: Candidate, pins: readonly Pin[], need: Need): Answer {
  const { kernel, op } = candidate;
  const against = pins.find(
    (pin) =>
      pin.nodes.some((node) => op.covers.includes(node)) &&
      (pin.kernel !== kernel.name || (pin.path !== null && pin.path !== op.path)),
  );
  if (against !== undefined) return no(`is not what --kernel ${against.text} asks for`);
  return supports(candidate, need);
}

/** Order among ops that lead to equally short covers. */
function prefer(a: Candidate, b: Candidate): number {
  return (
    b.op.covers.length - a.op.covers.length ||
    Number(b.op.name === "attn_decode") - Number(a.op.name === "attn_decode") ||
    level(b) - level(a) ||
    compare(a.kernel.name, b.kernel.name) ||
    compare(a.op.path, b.op.path)
  );
}
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
function level({ kernel, ptx }: Candidate): number {
  const { backend } = kernel.descriptor;
  if (ptx !== null) return -1;
  return backend.kind === "cpu" ? cpuRank(backend.level) : specificity(backend.architectures);
}

function explain(
  chosen: Candidate,
  nodes: readonly Node[],
  i: number,
  candidates: readonly Candidate[],
  pins: readonly Pin[],
  need: Need,
): Choice["reason"] {
  const pin = pins.find((one) => one.nodes.some((node) => chosen.op.covers.includes(node)));
  if (pin !== undefined) return { code: "pinned", text: `asked for with --kernel ${pin.text}` };
  const others = at(nodes, i, candidates, pins, need).filter((candidate) => candidate !== chosen);
  const other = others[0];
  if (other === undefined) return { code: "only_candidate", text: "no other locked op runs this here" };
  if (chosen.ptx === null && others.every((one) => one.ptx !== null)) {
    return { code: "machine_code", text: "is machine code, where others would have to be compiled from PTX" };
  }
  if (others.every((one) => one.op.covers.length < chosen.op.covers.length)) {
    return { code: "longest_cover", text: `runs ${chosen.op.covers.join(" + ")} at once` };
  }
  if (chosen.op.name === "attn_decode" && others.every((one) => one.op.name !== "attn_decode")) {
    return { code: "made_for_decode", text: "written for one row per sequence" };
  }
  if (others.every((one) => level(one) < level(chosen))) {
    return chosen.kernel.descriptor.backend.kind === "cpu"
      ? { code: "cpu_level", text: "uses the newest instruction set of this CPU" }
      : { code: "architecture", text: "is the code closest to this GPU" };
  }
  return { code: "first_by_name", text: `as good as ${opLabel(other)} by all that descriptors say` };
}

/** The first node that no supported op covers, wherever it would begin. */
function findGap(nodes: readonly Node[], candidates: readonly Candidate[], pins: readonly Pin[], need: Need): Gap {
  const runnable = new Set<number>();
  for (let i = 0; i < nodes.length; i++) {
    for (const candidate of at(nodes, i, candidates, pins, need)) {
      for (let k = 0; k < candidate.op.covers.length; k++) runnable.add(i + k);
    }
  }
  const missing = nodes.findIndex((_, i) => !runnable.has(i));
  const node = nodes[Math.max(missing, 0)]!;
  const answers = candidates
    .filter(({ op }) => op.covers.includes(node))
    .map((candidate) => {
      const said = answer(candidate, pins, need);
      const { reason, about } = said.supported ? no("leaves a neighbour of it uncovered", "neighbour") : said;
      return { label: opLabel(candidate), reason, about };
    });
  return { node, answers };
}
