/**
 * What a policy does when somebody turns. Auditors who disagree, a stolen key, an advisory, a project that asks for less
 * than its operator, and a signed kernel that attacks the machine.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mountNamespaces } from "../operator.ts";
import {
  advisory,
  auditRule,
  type Cast,
  gather,
  type Key,
  kernel,
  loosePolicy,
  makeProject,
  strictPolicy,
} from "./cast.ts";
import { hostileKernel } from "./hostile.ts";
import { openStage, type Scene, type Stage } from "./stage.ts";

/** Tells the whole story; resolves with the number of outcomes that were checked, throws at the first that differs. */
export async function lockdown(options: { readonly hostileKernel: boolean; say(line: string): void }): Promise<number> {
  const stage = openStage(options.say);
  try {
    stage.title("A registry, a publisher, two auditors, a security team of two");
    const cast = await gather(stage);
    try {
      const play = await begin(stage, cast);
      await twoAuditors(play);
      await anAdvisory(play);
      await aRevokedKey(play);
      await aSmallerProject(play);
      await aViolation(play);
    } finally {
      await cast.stop();
    }
    stage.title("A hostile kernel with valid signatures");
    if (options.hostileKernel) await hostileKernel(stage);
    else stage.say("LEFT OUT, as asked.");
    stage.title(`Done: ${stage.checked()} outcomes, each as the policy says.`);
    return stage.checked();
  } finally {
    stage.close();
  }
}

/** What the scenes share: the project in which they play, and what people do there again and again. */
interface Play extends Stage, Cast {
  readonly project: string;
  readonly here: Scene;
  audit(who: Key, ...more: readonly string[]): Promise<string>;
  feed(kind: "advisories" | "revocations", sequence: number, entries: readonly object[], who?: Key): Promise<string>;
}

async function begin(stage: Stage, cast: Cast): Promise<Play> {
  const { keys, origin, token } = cast;
  const { folder, say } = stage;
  say(`${kernel} 0.1.0 is published, signed by its publisher.`);
  const project = makeProject(join(folder, "project"), origin, strictPolicy(keys));
  const here = stage.at({ cwd: project });
  const auditing = stage.at({ cwd: project, env: token });
  const play: Play = {
    ...stage,
    ...cast,
    ...{ project, here },
    audit: (who, ...more) => {
      const what = [`${kernel}@0.1.0`, "--registry", origin, "--criteria", "reviewed", "--key", who.file];
      return auditing.accepted("attest", "audit", ...what, ...more);
    },
    feed: (kind, sequence, entries, who = keys.security) => {
      const list = join(folder, "list.json");
      writeFileSync(list, JSON.stringify(entries));
      const what = ["--kind", kind, "--feed", kind, "--sequence", `${sequence}`, "--output", `${kind}.json`];
      return here.accepted("policy", "feed", list, ...what, "--key", who.file);
    },
  };

  say("\nThe policy wants two different people to have reviewed each kernel, and fresh feeds of the security team:");
  const policy = readFileSync(join(project, "kernels.policy.yaml"), "utf8");
  say(policy.replaceAll(/^ {4}pem: \|\n(?: {6}.*\n)+/gm, "    pem: …\n").trimEnd());
  await here.accepted("policy", "lint", "kernels.policy.yaml");
  await play.feed("advisories", 1, []);
  await play.feed("revocations", 1, []);
  return play;
}

async function twoAuditors({ title, say, here, keys, audit }: Play): Promise<void> {
  title("Two auditors");
  say("Nobody has reviewed it yet.");
  await here.refused("KL_VERDICT_AUDIT_MISSING", "lock");

  say("\nAlice reviews it, and signs twice: with the key of her laptop and with that of her token. She is one person.");
  await audit(keys["alice-laptop"]);
  await audit(keys["alice-token"]);
  await here.refused("KL_VERDICT_THRESHOLD", "lock");

  say("\nBob reviews it, too.");
  await audit(keys.bob);
  await here.accepted("lock");
  await here.accepted("verify", "--frozen");

  say("\nWhy it is allowed:");
  await here.accepted("explain", kernel);
  await here.told("explain", kernel);
}

async function anAdvisory({ title, say, project, here, keys, feed }: Play): Promise<void> {
  const file = join(project, "advisories.json");
  title("An advisory");
  await feed("advisories", 2, [advisory]);
  await here.refused("KL_VERDICT_ADVISORY", "verify");
  const second = readFileSync(file);

  say("\nSomebody else signs a newer feed. Only the security team may.");
  await feed("advisories", 3, [], keys.bob);
  await here.refused("KL_FEED_SIGNER", "verify");

  say("\nSomebody takes the feed away.");
  rmSync(file);
  await here.refused("KL_FEED_MISSING", "verify");
  writeFileSync(file, second);

  say("\nThe bug does not matter here: an exception for a week. It takes two signatures.");
  const why = ["--waive", `advisory:${advisory.id}`, "--reason", "Not reached here.", "--days", "7"];
  const made = await here.accepted("policy", "exception", kernel, ...why, "--key", keys.security.file);
  await here.refused("KL_VERDICT_ADVISORY", "verify");
  await here.accepted("policy", "cosign", (JSON.parse(made) as { file: string }).file, "--key", keys.officer.file);
  await here.accepted("verify");

  say("\nLocked again, the lock pins the feed's number: somebody who puts the older one back gets nothing by it.");
  await here.accepted("lock");
  await feed("advisories", 1, []);
  await here.refused("KL_FEED_ROLLBACK", "verify");
  rmSync(join(project, "kernels.exceptions"), { recursive: true });
}

async function aRevokedKey({ title, say, project, here, keys, feed }: Play): Promise<void> {
  title("A revoked key");
  await feed("advisories", 3, []);

  say("\nAlice has lost her laptop. What she signed with her token still counts.");
  const stolen = { kind: "signer", signer: keys["alice-laptop"].signer, reason: "the laptop was stolen" };
  await feed("revocations", 2, [stolen]);
  await here.accepted("verify");

  say("\nThen the publisher's key is stolen.");
  await feed("revocations", 3, [{ kind: "signer", signer: keys.publisher.signer, reason: "the key was copied" }]);
  await here.refusedAmongOthers("KL_VERDICT_REVOKED", "verify");

  say("\nNo break-glass order brings back a publisher.");
  const order = ["--break-glass", "--reason", "We are in a hurry.", "--days", "1"];
  await here.accepted("policy", "exception", kernel, ...order, "--key", keys.officer.file);
  await here.refusedAmongOthers("KL_VERDICT_REVOKED", "verify");
  rmSync(join(project, "kernels.exceptions"), { recursive: true });
  await feed("revocations", 4, []);
  await here.accepted("verify");
}

async function aSmallerProject(play: Play): Promise<void> {
  const { title, say, at, folder, origin, keys } = play;
  title("A project that asks for less than its operator");
  if (mountNamespaces === null) {
    say("LEFT OUT: this needs root, or a system on which `unshare -rm` works, to put a file at /etc/kernlock.");
    return;
  }
  const loose = makeProject(join(folder, "loose"), origin, loosePolicy(keys));
  say("The project's policy demands no audit at all, and on a machine without an operator's policy it decides.");
  const anywhere = at({ cwd: loose });
  await anywhere.accepted("lock");
  await anywhere.accepted("verify");

  say("\nOn a machine whose /etc/kernlock/policy.yaml demands two audits:");
  const operator = join(folder, "etc-kernlock");
  mkdirSync(operator, { mode: 0o755 });
  writeFileSync(join(operator, "policy.yaml"), loosePolicy(keys, auditRule), { mode: 0o644 });
  const there = at({ cwd: loose, operator });
  await there.refused("KL_VERDICT_AUDIT_MISSING", "verify");

  say("\nNeither a flag nor a variable helps.");
  await there.refused("KL_VERDICT_AUDIT_MISSING", "verify", "--policy", "kernels.policy.yaml");
  const names = ["KERNLOCK_POLICY", "KERNLOCK_OPERATOR_POLICY", "KERNLOCK_ETC", "XDG_CONFIG_HOME"];
  const env = Object.fromEntries(names.map((name) => [name, loose]));
  await at({ cwd: loose, operator, env }).refused("KL_VERDICT_AUDIT_MISSING", "verify");

  say("\nWhat was audited can be locked there: the lock then pins the audits.");
  await there.acceptedWithNewTrust("lock");
  await there.accepted("verify", "--frozen");
}

async function aViolation({ title, say, here, keys, audit, feed }: Play): Promise<void> {
  title("A violation");
  say("Bob looks again, and finds that the kernel reads past its input. His word beats every pass, his own included.");
  await audit(keys.bob, "--violation", "--notes", "Reads past its input.");
  await here.refused("KL_VERDICT_AUDIT_VIOLATION", "lock", "--check");

  say("\nWhat is locked already names its own evidence, and touches no network:");
  await here.accepted("verify");
  say("so the security team revokes the version.");
  const versions = { kind: "kernel", name: kernel, versions: "<=0.1.0", reason: "it reads past its input" };
  await feed("revocations", 5, [versions]);
  await here.refused("KL_VERDICT_REVOKED", "verify");
}
