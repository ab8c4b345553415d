import type { Candidate, Need } from "./candidates.ts";
import { origin } from "./conversions.ts";
import { answer, type Choice, type Cover, coverSegment, type Gap, segments } from "./cover.ts";
import type { Bucket, Declined, LayerKind, ModelFacts, Pin, PlannedOp } from "./types.ts";

/** What the whole model asks for; places add their bucket and layer. */
export type ModelNeed = Omit<Need, "bucket" | "layer">;

/** A choice and where in the model it stands. */
export interface Placed {
  readonly bucket: Bucket;
  readonly segment: PlannedOp["segment"];
  readonly layers: readonly number[];
  readonly choice: Choice;
}
export type ModelCover =
  | { readonly ok: true; readonly ops: readonly Placed[] }
  | { readonly ok: false; readonly gap: Gap };

/** Covers the whole model for both kinds of step. All ops that use the experts agree on one layout. */
export function coverModel(candidates: readonly Candidate[], pins: readonly Pin[], need: ModelNeed): ModelCover {
  const kinds = [...new Set(need.model.layers)];
  const ops: Placed[] = [];
  for (const bucket of ["decode", "mixed"] as const) {
    const cover = (segment: PlannedOp["segment"], layer: LayerKind | null): Cover =>
      coverSegment(segments[segment], candidates, pins, { ...need, bucket, layer });
    const before = cover("before", null);
    const layers = kinds.map((kind) => cover("layer", kind));
    const after = cover("after", null);
    for (const part of [before, ...layers, after]) if (!part.ok) return part;
    const choices = (part: Cover): readonly Choice[] => (part.ok ? part.choices : []);
    const outside = (segment: "before" | "after", part: Cover): Placed[] =>
      choices(part).map((choice) => ({ bucket, segment, layers: [], choice }));
    ops.push(
      ...outside("before", before),
      ...mergeKinds(need.model, kinds, layers.map(choices)).map((one) => ({
        bucket,
        segment: "layer" as const,
        ...one,
      })),
      ...outside("after", after),
    );
  }
  return { ok: true, ops };
}

/** One entry for both kinds of layers where they run the same op at the same place. */
function mergeKinds(
  model: ModelFacts,
  kinds: readonly LayerKind[],
  covers: readonly (readonly Choice[])[],
): { layers: number[]; choice: Choice }[] {
  const layersOf = (some: readonly LayerKind[]): number[] =>
    model.layers.flatMap((kind, layer) => (some.includes(kind) ? [layer] : []));
  const [first, second] = covers as [readonly Choice[], (readonly Choice[])?];
  const aligned = second?.every((choice, i) => {
    const covered = choice.candidate.op.covers.join();
    return covered === first[i]?.candidate.op.covers.join() && second.length === first.length;
  });
  if (second === undefined || !aligned) {
    return covers.flatMap((cover, k) => cover.map((choice) => ({ layers: layersOf([kinds[k]!]), choice })));
  }
  return first.flatMap((choice, i) =>
    choice.candidate === second[i]!.candidate && choice.reason.code === second[i]!.reason.code
      ? [{ layers: layersOf(kinds), choice }]
      : [choice, second[i]!].map((one, k) => ({ layers: layersOf([kinds[k]!]), choice: one })),
  );
}

/** Ops of the model that were offered and not taken anywhere, each with the first reason there was. */
export function declinedOps(
  candidates: readonly Candidate[],
  taken: readonly Placed[],
  pins: readonly Pin[],
  need: ModelNeed,
): Declined[] {
  const unused = candidates.filter(
    (candidate) => candidate.op.covers.length > 0 && !taken.some(({ choice }) => choice.candidate === candidate),
  );
  return unused.map((candidate) => {
    const places = (["decode", "mixed"] as const).flatMap((bucket) =>
      need.model.layers.map((layer) => answer(candidate, pins, { ...need, bucket, layer })),
    );
    const refused = places.find((said) => !said.supported);
    const { kernel, version, variant } = origin(candidate.kernel);
    const reason = refused === undefined ? "would do, and another op covers more or comes first" : refused.reason;
    return {
      op: `${candidate.op.name}/${candidate.op.path}`,
      kernel,
      version,
      variant,
      covers: candidate.op.covers,
      reason,
    };
  });
}
