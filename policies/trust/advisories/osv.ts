import semver from "semver";
import { z } from "zod";
import { checkCall, given } from "../border.ts";

/** The ecosystem name under which OSV records speak about kernel packages. */
export const ecosystem = "Kernlock";

const event = z.looseObject({
  introduced: z.string().optional(),
  fixed: z.string().optional(),
  last_affected: z.string().optional(),
});

/** The parts of an OSV record (schema 1.x) that decide whether it concerns a version. */
export const osvSchema = z.looseObject({
  id: z.string().min(1).max(200),
  modified: z.string(),
  summary: z.string().max(1000).optional(),
  withdrawn: z.string().optional(),
  aliases: z.array(z.string()).max(64).optional(),
  affected: z
    .array(
      z.looseObject({
        package: z.looseObject({ ecosystem: z.string(), name: z.string() }).optional(),
        versions: z.array(z.string()).max(10_000).optional(),
        ranges: z
          .array(z.looseObject({ type: z.string(), events: z.array(event).max(1000) }))
          .max(100)
          .optional(),
      }),
    )
    .max(1000),
});
export type Osv = z.infer<typeof osvSchema>;

/** Whether a record concerns a version; `fixed` is the lowest version that it names as safe and that is newer. */
export function affects(osv: Osv, name: string, version: string): { fixed: string | null } | null {
  if (osv.withdrawn !== undefined) return null;
  const mine = osv.affected.filter((entry) => entry.package?.ecosystem === ecosystem && entry.package.name === name);
  const hit = mine.some(({ versions = [], ranges = [] }) => {
    // An entry that names no versions at all is about all of them.
    if (versions.length === 0 && ranges.length === 0) return true;
    return versions.includes(version) || ranges.some((range) => range.type !== "GIT" && inRange(range.events, version));
  });
  if (!hit) return null;
  const fixes = mine
    .flatMap(({ ranges = [] }) => ranges.flatMap(({ events }) => events.flatMap(({ fixed }) => fixed ?? [])))
    .filter((fix) => semver.valid(fix) !== null && semver.gt(fix, version))
    .sort(semver.compare);
  return { fixed: fixes[0] ?? null };
}

const question = z.object({ osv: osvSchema, name: given.text, version: given.text });

/** The same for whoever shows advisories. */
export function isAffected(osv: Osv, name: string, version: string): { fixed: string | null } | null {
  checkCall("isAffected", question, { osv, name, version });
  return affects(osv, name, version);
}

/** OSV's own algorithm: events in the order of their versions switch between affected and not. */
function inRange(events: readonly z.infer<typeof event>[], version: string): boolean {
  const steps = events.flatMap(({ introduced, fixed, last_affected: last }) => [
    ...(introduced === undefined
      ? []
      : [{ at: introduced === "0" ? "0.0.0-0" : introduced, affected: true, after: false }]),
    ...(fixed === undefined ? [] : [{ at: fixed, affected: false, after: false }]),
    ...(last === undefined ? [] : [{ at: last, affected: false, after: true }]),
  ]);
  // A version that cannot be compared must not make the range miss.
  if (steps.some(({ at }) => semver.valid(at) === null)) return true;
  let affected = false;
  for (const step of steps.sort((a, b) => semver.compare(a.at, b.at))) {
    const order = semver.compare(version, step.at);
    if (order > 0 || (order === 0 && !step.after)) affected = step.affected;
  }
  return affected;
}
