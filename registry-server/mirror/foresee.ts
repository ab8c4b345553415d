/**
 * What the judgement of a version will say, as far as its small documents tell: before the files are fetched, so that
 * an upstream without a signature that counts here fills no disk, and what is too young costs next to nothing. It is the
 * same judgement; whatever passes is judged again, with its files, by the publish itself.
 */
import { type Digest, mediaTypes, type Variant } from "@kernlock/kernels/format";
import { type KernelIndex, parseBundleManifest } from "@kernlock/kernels/oci";
import { auditBases, type Evidence, judge } from "@kernlock/policies/trust";
import { kernelFacts } from "../publish/kernel-facts.ts";
import { readJudges } from "../publish/policies.ts";
import { assertPublishable } from "../publish/refusal.ts";
import { coolDown } from "./cool-down.ts";
import type { Subject } from "./fetched.ts";
import type { Kit } from "./kit.ts";

export async function foresee(
  { context }: Pick<Kit, "context">,
  { repository, owner, mirror }: Subject,
  version: {
    readonly index: KernelIndex;
    readonly digest: Digest;
    readonly variants: readonly { readonly key: string; readonly manifest: Digest; readonly variant: Variant }[];
    readonly evidence: readonly Evidence[];
  },
): Promise<void> {
  const { index, digest, variants } = version;
  const kernel = kernelFacts(index, digest, variants);
  const { policy } = await readJudges(context, owner.name);
  const evidence = [...version.evidence];
  for (const subject of [digest, ...variants.map(({ manifest }) => manifest)]) {
    evidence.push(...(await held(context, repository, subject)));
  }
  const judged = coolDown(policy, mirror.settings.coolDownDays);
  const question = { policy: judged, evidence, now: context.now() };
  // Delta audits rest on earlier versions, which the publish looks up.
  if (auditBases(question).length > 0) return;
  assertPublishable(judge({ ...question, kernel }), kernel);
}

/** From an earlier try. */
async function held({ records, blobs }: Kit["context"], repository: string, subject: Digest): Promise<Evidence[]> {
  const rows = (await records.referrers(repository, subject)).filter((row) => row.artifactType === mediaTypes.bundle);
  return Promise.all(
    rows.map(async (row) => ({ subject, bundle: await blobs.readAll(parseBundleManifest(row.bytes).bundle.digest) })),
  );
}
