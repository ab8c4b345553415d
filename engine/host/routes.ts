/** Which experts the tokens of a sequence went to, kept so that another run of it can be held to the same. */
import { fail } from "@kernlock/kernels/format";
import type { Routing } from "../client/protocol.ts";
import type { Part, Sequence } from "./scheduler.ts";

/** How many rows followed, how many of them would have gone elsewhere, and by how much of a weight at most. */
export interface Routed {
  followed: number;
  otherwise: number;
  /** The largest difference of two weights of the same rank, of rows that would have gone elsewhere. */
  furthest: number;
}

export function addRouted(total: Routed, more: Readonly<Routed>): void {
  total.followed += more.followed;
  total.otherwise += more.otherwise;
  total.furthest = Math.max(total.furthest, more.furthest);
}

/** What a router gave: ids[row, k] by falling score, and their weights. */
interface Chosen {
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

export interface Routes {
  /** Forgets what was kept under a name, or sees that so many tokens are. @throws KL_ENGINE_ROUTING */
  open(routing: Routing, tokens: number): void;
  /** Keeps what the rows of a layer chose, or overwrites it with what was kept. */
  settle(
    layer: number,
    parts: readonly Part<Sequence & { readonly routing: Routing | null }>[],
    chosen: Chosen,
  ): Readonly<Routed>;
}

export function createRoutes(maxContext: number, topK: number): Routes {
  const orAll = (index: number): number => (index < 0 ? maxContext * topK : index);
  /** By name, then by layer, [token, k]; -1 where nothing is kept. */
  const kept = new Map<string, Map<number, Chosen>>();
  const layerOf = (name: string, layer: number): Chosen => {
    const layers = kept.get(name) ?? new Map<number, Chosen>();
    kept.set(name, layers);
    const known = layers.get(layer) ?? {
      ids: new Int32Array(maxContext * topK).fill(-1),
      weights: new Float32Array(maxContext * topK),
    };
    layers.set(layer, known);
    return known;
  };
  return {
    open({ kind, name }, tokens) {
      if (kind === "keep") {
        kept.delete(name);
        return;
      }
      const layers = [...(kept.get(name)?.values() ?? [])];
      const first = layers.length === 0 ? 0 : Math.min(...layers.map(({ ids }) => ids.indexOf(-1)).map(orAll));
      if (first >= tokens * topK) return;
      fail("KL_ENGINE_ROUTING", `A request of ${tokens} tokens follows "${name}", of which ${first / topK} are kept.`, {
        remedy: "Run the same tokens with routing of kind keep first, on the same engine.",
        details: { name, tokens, kept: first / topK },
      });
    },
    settle(layer, parts, chosen) {
      const total: Routed = { followed: 0, otherwise: 0, furthest: 0 };
      let row = 0;
      for (const { sequence, start, count } of parts) {
        const { routing } = sequence;
        if (routing !== null) {
          const place = layerOf(routing.name, layer);
          for (let k = 0; k < count; k++) {
            const [from, to] = [(start + k) * topK, (row + k) * topK];
            if (routing.kind === "keep") copy(chosen, to, place, from, topK);
            else follow(place, from, chosen, to, topK, total);
          }
        }
        row += count;
      }
      return total;
    },
  };
}

function copy(source: Chosen, from: number, target: Chosen, to: number, topK: number): void {
  target.ids.set(source.ids.subarray(from, from + topK), to);
  target.weights.set(source.weights.subarray(from, from + topK), to);
}

function follow(place: Chosen, from: number, chosen: Chosen, to: number, topK: number, total: Routed): void {
  const own = new Set(chosen.ids.subarray(to, to + topK));
  total.followed++;
  if (!place.ids.subarray(from, from + topK).every((id) => own.has(id))) {
    total.otherwise++;
    for (let k = 0; k < topK; k++) {
      const apart = Math.abs(place.weights[from + k]! - chosen.weights[to + k]!);
      total.furthest = Math.max(total.furthest, apart);
    }
  }
  copy(place, from, chosen, to, topK);
}
