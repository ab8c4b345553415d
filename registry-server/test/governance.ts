/** A registry with something on every page of administration, and two people who run it. */

import { canonicalJson, digestOf } from "@kernlock/kernels/format";
import { createBundle, feedSubject, revocationsType } from "@kernlock/policies/trust";
import { makePackage, newKey, publish, pushAll, putTag, startRegistry, type TestRegistry } from "./material.ts";

export const password = "correct horse battery staple";

/** `ada` administers everything and `bo` audits `acme`; acme/norm 1.0.0 is published, 0.9.0 in quarantine, 2.0.0 waits. */
export async function governed(): Promise<TestRegistry> {
  const at = await startRegistry();
  await at.registry.createAccount({ name: "ada", namespace: "*", role: "admin", password });
  await at.registry.createAccount({ name: "bo", namespace: "acme", role: "auditor", password });
  for (const version of ["0.9.0", "1.0.0"]) await publish(at, makePackage({ version }));
  const state = { state: "quarantined", reason: "Its build host was taken over." } as const;
  await at.registry.setVersionState({ repository: "acme/norm", version: "0.9.0", ...state });
  await at.registry.updateNamespace({ namespace: "acme", review: "required" });
  for (const version of ["1.1.0", "2.0.0"]) {
    const next = makePackage({ version, card: `# Norm ${version}\n` });
    await pushAll(at, next);
    const answer = await putTag(at, next);
    if (answer.status !== 201) throw new Error(await answer.text());
  }
  await at.registry.fileAdvisory(Buffer.from(JSON.stringify(advisory)));
  const key = newKey();
  await at.registry.serveFeed({ id: "acme-revocations", kind: "revocations", keys: [key.pem] });
  const value = { feed: "acme-revocations", sequence: 7, issued: new Date().toISOString(), revocations: [] };
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: feedSubject(value.feed), digest: { sha256: digestOf(canonicalJson(value)).slice(7) } }],
    predicateType: revocationsType,
    predicate: value,
  };
  await at.registry.putServedFeed(value.feed, await createBundle(Buffer.from(JSON.stringify(statement)), key));
  return at;
}

const advisory = {
  id: "ACME-2026-1",
  modified: "2026-11-20T10:00:00Z",
  summary: "Reads past odd row lengths",
  details: "Rows whose length is odd are read one element too far; results are wrong, and may be of other requests.",
  references: [{ type: "ADVISORY", url: "https://security.example/ACME-2026-1" }],
  affected: [
    {
      package: { ecosystem: "Kernlock", name: "acme/norm" },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed: "2.0.0" }] }],
    },
  ],
};
