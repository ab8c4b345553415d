import { z } from "zod";
import { includesSigner } from "../policy.ts";
import type { LeafDemand, Requirement } from "../types.ts";
import type { Scene } from "./demands.ts";
import {
  type About,
  aboutOf,
  type Claim,
  checkParameters,
  checkScope,
  checkSubject,
  checkTimes,
  type Heard,
  provenanceOf,
  provenanceType,
  sbomType,
  signerId,
  signerName,
  signerWords,
  testType,
  vsaType,
} from "./evidence.ts";
import { checkSource } from "./provenance.ts";
import { allOf, closest, decided, found, leaf, type Problem, problem } from "./tree.ts";

type Plain = Exclude<LeafDemand, { kind: "audit" }>;

/** In-toto test result v0.1; suite and device are ours. */
export const testSchema = z.looseObject({
  result: z.enum(["PASSED", "WARNED", "FAILED"]),
  configuration: z.array(z.unknown()),
  kernlock: z.looseObject({ suite: z.string(), device: z.string().optional() }),
});

/** SLSA verification summary v1, as far as it decides. */
export const vsaSchema = z.looseObject({
  verifier: z.looseObject({ id: z.string() }),
  timeVerified: z.string(),
  resourceUri: z.string(),
  policy: z.looseObject({}),
  verificationResult: z.enum(["PASSED", "FAILED"]),
  verifiedLevels: z.array(z.string()),
});

const types: Readonly<Record<Plain["kind"], string>> = {
  test: testType,
  sbom: sbomType,
  vsa: vsaType,
  rebuild: provenanceType,
};

/** Where the name of the kernel's `kernlock` member carries more than `aboutOf` reads. */
function aboutTest(item: Heard): About | undefined {
  const { statement } = item.signed;
  const { suite: _, device: __, ...about } = (statement.predicate.kernlock ?? {}) as Record<string, unknown>;
  return aboutOf({ ...statement, predicate: { ...statement.predicate, kernlock: about } });
}

/**
 * Judges a test result, SBOM, verification summary or second build against one claim. Null for a statement of another
 * kind, or a test of another suite.
 */
export function judgeStatement(
  demand: Plain,
  suite: string | undefined,
  scene: Scene,
  claim: Claim,
  item: Heard,
): Requirement | null {
  const { statement, signer } = item.signed;
  if (statement.predicateType !== types[demand.kind]) return null;
  const test = demand.kind === "test" ? testSchema.safeParse(statement.predicate).data : undefined;
  if (test && suite !== undefined && test.kernlock.suite !== suite) return null;
  const { name, version } = scene.kernel;
  const provenance = demand.kind === "rebuild" ? provenanceOf(statement) : undefined;
  const parameters = provenance?.buildDefinition.externalParameters;
  const about = demand.kind === "rebuild" ? undefined : demand.kind === "test" ? aboutTest(item) : aboutOf(statement);
  const given = about ?? parameters;
  const voice = checkVoice(demand, scene, item);
  // A rebuild's kind is that of every provenance: the publisher's own is no candidate, not a bad one.
  if (demand.kind === "rebuild" && voice) return null;
  const checks = [found("its signer is one whom the rule names", voice, signerWords(signer))];
  if (given === undefined) checks.push(leaf("it can be read", problem("KL_VERDICT_FORM", "It is not well-formed.")));
  else {
    checks.push(
      leaf("its only subject is this manifest under this name", checkSubject(statement, name, claim.digest)),
      leaf("it speaks about this scope", checkScope(given, claim)),
      leaf("it names this package and version", checkParameters(given, name, version)),
    );
    if (about) checks.push(leaf("it holds at this time", checkTimes(about, scene.now, demand.maxAgeDays)));
  }
  const before = checks.every(({ ok }) => ok);
  checks.push(leaf("it says what is demanded", says(demand, item, test, scene)));
  const node = allOf(`a statement by "${item.principal}" (${signerName(signer)})`, checks);
  // Only a failure that would count as a pass counts: others are somebody else's word, or about something else.
  const why = node.ok ? null : before ? (closest([node]) ?? null) : (closest([allOf("", checks.slice(0, -1))]) ?? null);
  return { ...decided(node.requirement, why, checks), ...(item.bundle ? { evidence: item.bundle } : {}) };
}

function says(
  demand: Plain,
  { signed }: Heard,
  test: z.infer<typeof testSchema> | undefined,
  scene: Scene,
): Problem | null {
  switch (demand.kind) {
    case "sbom":
      return null;
    case "test": {
      if (test === undefined) return problem("KL_VERDICT_FORM", "It is not well-formed.");
      const { devices } = demand;
      const { device } = test.kernlock;
      if (test.result !== "PASSED") return problem("KL_VERDICT_TEST_FAILED", `The test says ${test.result}.`);
      const right = devices === undefined || (device !== undefined && devices.includes(device));
      return right ? null : problem("KL_VERDICT_TEST_DEVICE", "The test was run on another device.");
    }
    case "vsa": {
      const vsa = vsaSchema.safeParse(signed.statement.predicate).data;
      if (vsa === undefined) return problem("KL_VERDICT_FORM", "It is not well-formed.");
      if (vsa.verificationResult !== "PASSED") return problem("KL_VERDICT_VSA_FAILED", "The summary says FAILED.");
      const lacking = demand.levels.find((level) => !vsa.verifiedLevels.includes(level));
      return lacking === undefined ? null : problem("KL_VERDICT_VSA_LEVEL", `The summary lacks the level ${lacking}.`);
    }
    case "rebuild": {
      const source = provenanceOf(signed.statement)?.buildDefinition.externalParameters.source;
      return source ? checkSource(source, scene.kernel.source) : problem("KL_VERDICT_FORM", "It is not well-formed.");
    }
  }
}

/** Whether somebody signed who is named, and is not the publisher where that would be its own word for itself. */
export function checkVoice(demand: LeafDemand, scene: Scene, { signed, principal }: Heard): Problem | null {
  if (!includesSigner(scene.policy, demand.by, signerId(signed.signer))) {
    return problem("KL_VERDICT_SIGNER", `"${principal}" is nobody whom the rule names for this.`);
  }
  const independent = demand.kind === "audit" || demand.kind === "rebuild" || demand.kind === "vsa";
  return independent && scene.publishers.has(principal)
    ? problem("KL_VERDICT_SELF_AUDIT", `"${principal}" published what it vouches for.`)
    : null;
}
