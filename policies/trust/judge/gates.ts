import semver from "semver";
import type { OpenFeed } from "../advisories/feeds.ts";
import { affects } from "../advisories/osv.ts";
import type { KernelFacts, Requirement, Rule } from "../types.ts";
import { dayMs } from "./evidence.ts";
import { found, leaf, type Problem, problem, waive } from "./tree.ts";
import type { Waivers } from "./waivers.ts";

/** What a rule demands of the kernel itself, statements apart. What cannot be known is refused. */
export function judgeGates(
  rule: Rule,
  kernel: KernelFacts,
  times: readonly (Date | undefined)[],
  now: Date,
  waivers: Waivers,
) {
  const nodes: Requirement[] = [];
  const gate = (requirement: string, waiver: string, refusal: Problem | null, what = ""): void => {
    const node = what === "" ? leaf(requirement, refusal) : found(requirement, refusal, what);
    nodes.push(refusal ? waive(node, waivers.find(waiver)) : node);
  };
  if (rule.licenses)
    gate(
      `its licence is one of ${rule.licenses.join(", ")}`,
      "licenses",
      checkLicense(rule.licenses, kernel),
      kernel.license,
    );
  if (rule.payloads)
    gate(`its payloads are ${rule.payloads.join(" or ")}`, "payloads", checkPayloads(rule.payloads, kernel));
  if (!rule.ptx) gate("the driver compiles nothing of it", "ptx", checkPtx(kernel));
  if (rule.minimumVersion !== undefined) {
    gate(
      `it is ${rule.minimumVersion} or newer`,
      "minimumVersion",
      checkMinimum(rule.minimumVersion, kernel),
      kernel.version,
    );
  }
  if (rule.minimumAgeDays !== undefined) {
    gate(
      `it has existed for ${rule.minimumAgeDays} days`,
      "minimumAge",
      checkAge(rule.minimumAgeDays, times, now),
      sinceWords(times),
    );
  }
  return nodes;
}

function checkLicense(allowed: readonly string[], { license, variants }: KernelFacts): Problem | null {
  const found = [license, ...variants.map(({ contents }) => contents?.license)];
  const bad = found.find((one) => one === undefined || !allowed.includes(one));
  if (bad === undefined && found.every((one) => one !== undefined)) return null;
  return problem("KL_VERDICT_LICENSE", bad === undefined ? "Its licence is not known." : `Its licence is ${bad}.`);
}

function checkPayloads(allowed: readonly string[], { variants }: KernelFacts): Problem | null {
  for (const { key, contents } of variants) {
    if (contents === undefined) return problem("KL_VERDICT_PAYLOAD", `It is not known what ${key} holds.`);
    const bad = contents.payloads.find((kind) => !allowed.includes(kind));
    if (bad !== undefined) return problem("KL_VERDICT_PAYLOAD", `The variant ${key} holds a ${bad}.`);
  }
  return null;
}

function checkPtx({ variants }: KernelFacts): Problem | null {
  const bad = variants.find(({ contents }) => contents?.ptx !== false);
  if (bad === undefined) return null;
  const what = bad.contents === undefined ? "may hold" : "holds";
  return problem("KL_VERDICT_PTX", `The variant ${bad.key} ${what} PTX, which the driver would compile.`);
}

function checkMinimum(minimum: string, { version }: KernelFacts): Problem | null {
  return semver.gte(version, minimum)
    ? null
    : problem("KL_VERDICT_MINIMUM_VERSION", `Version ${version} is older than ${minimum}, the oldest that is safe.`);
}

function checkAge(minimumDays: number, times: readonly (Date | undefined)[], now: Date): Problem | null {
  for (const time of times) {
    if (time === undefined) {
      return problem("KL_VERDICT_NO_TRUSTED_TIME", "No trusted clock says since when it exists.");
    }
    if (!(now.getTime() - time.getTime() >= minimumDays * dayMs)) {
      return problem("KL_VERDICT_TOO_YOUNG", `It exists since ${time.toISOString()}, less than ${minimumDays} days.`);
    }
  }
  return null;
}

/** Since when all of it has existed at the latest. */
function sinceWords(times: readonly (Date | undefined)[]): string {
  const known = times.flatMap((time) => time ?? []).sort((a, b) => b.getTime() - a.getTime());
  return known[0] === undefined ? "" : `since ${known[0].toISOString()}`;
}

/** One node for each advisory about this version; those of feeds that only warn are apart. */
export function judgeAdvisories(feeds: readonly OpenFeed[], kernel: KernelFacts, waivers: Waivers) {
  const refusing: Requirement[] = [];
  const warning: Requirement[] = [];
  for (const { feed, advisories } of feeds) {
    for (const osv of advisories) {
      const hit = affects(osv, kernel.name, kernel.version);
      if (hit === null) continue;
      const fix = hit.fixed === null ? "no version fixes it" : `${hit.fixed} fixes it`;
      const reason = `${osv.id} is about ${kernel.name} ${kernel.version}${osv.summary ? ` (${osv.summary})` : ""}; ${fix}.`;
      const node = leaf("no advisory is about this version", problem("KL_VERDICT_ADVISORY", reason));
      if (feed.action === "warn") warning.push(node);
      else refusing.push(waive(node, waivers.find(`advisory:${osv.id}`)));
    }
  }
  return { refusing, warning };
}
