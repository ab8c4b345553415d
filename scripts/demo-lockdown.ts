/**
 * `npm run demo:lockdown`: what a policy does when somebody turns. Auditors who disagree, a stolen key, an advisory, a
 * project that asks for less than its operator, and a signed kernel that attacks the machine. Every step is a `kernlock`
 * command as a user would run it; what each one has to say is checked, and one that says something else ends the demo.
 */
import { createHash, createPublicKey } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPair } from "@kernlock/cli/keys";
import { attacks, tokensOf } from "../test/attacks/hostile-kernel/attacks.ts";
import { hostileProject } from "../test/attacks/hostile-kernel/project.ts";
import { mountNamespaces, underOperator } from "./operator.ts";
import { builder, kernlock, kernlockOk, makeWorkshop, type Ran, repository, root, startRegistry } from "./project.ts";

const kernel = "kernlock/liger-rmsnorm";
const cpu = "linux-x86_64-cpu-v3";

interface Key {
  readonly file: string;
  readonly pem: string;
  /** As policies, locks and revocations name it. */
  readonly signer: string;
}

interface Reason {
  readonly code: string;
  readonly message: string;
}

/** A node of a verdict's tree. */
interface Node {
  readonly ok: boolean;
  readonly code?: string;
  readonly reason?: string;
  readonly children: readonly Node[];
}

interface How {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A folder that stands where /etc/kernlock is. */
  readonly operator?: string;
}

/** Tells the whole story; resolves with the number of outcomes that were checked, throws at the first that differs. */
export async function lockdown(options: { readonly hostileKernel: boolean; say(line: string): void }): Promise<number> {
  const { say } = options;
  const folder = mkdtempSync(join(tmpdir(), "kernlock-lockdown-"));
  let checked = 0;

  const ask = async (args: readonly string[], { cwd, env = {}, operator }: How): Promise<Ran> => {
    say(`$ kernlock ${args.map((arg) => shown(arg, folder)).join(" ")}`);
    const all = { XDG_STATE_HOME: join(folder, "state"), ...env };
    const run = { cwd, env: all };
    return operator === undefined
      ? kernlock([...args, "--json"], run)
      : underOperator(operator, [...args, "--json"], run);
  };
  /** The command has to go through; `lock` says with 3 that it trusts somebody new. */
  const accepted = async (args: readonly string[], how: How, status = 0): Promise<string> => {
    const ran = await ask(args, how);
    if (ran.status !== status)
      throw new Error(`should have ended with ${status}: ${ran.status} ${ran.stdout}${ran.stderr}`);
    say(status === 3 ? "accepted; trust changed, so that a person has to agree" : "accepted");
    checked += 1;
    return ran.stdout;
  };
  /** The command has to refuse, with this code and no other; or with it among the reasons, where there are several. */
  const refused = async (code: string, args: readonly string[], how: How, among = false): Promise<string> => {
    const ran = await ask(args, how);
    const said = JSON.parse(ran.stdout || "{}") as { error?: Reason; kernels?: { verdict: Node | null }[] };
    const reasons = said.error === undefined ? [] : [said.error];
    if (among) reasons.push(...(said.kernels ?? []).flatMap(({ verdict }) => (verdict ? refusals(verdict) : [])));
    const reason = reasons.find((one) => one.code === code);
    if (ran.status === 0 || reason === undefined) {
      throw new Error(`should have refused with ${code}: ${ran.status} ${ran.stdout}${ran.stderr}`);
    }
    say(`refused: [${code}] ${reason.message.replaceAll(folder, "…")}`);
    checked += 1;
    return reason.message;
  };

  try {
    say(scene("A registry, a publisher, two auditors, a security team of two"));
    const workshop = await makeWorkshop(join(folder, "workshop"));
    const names = ["alice-laptop", "alice-token", "bob", "security", "officer"] as const;
    const key = Object.fromEntries(names.map((name) => [name, makeKey(folder, name)])) as Record<
      (typeof names)[number],
      Key
    >;
    const publisher = keyOf(
      workshop.privateKey,
      createPublicKey(readFileSync(workshop.privateKey)).export({ type: "spki", format: "pem" }) as string,
    );
    const keys = { publisher, ...key };
    const layout = join(workshop.layouts, "liger-rmsnorm");
    await kernlockOk(["build", "kernels/liger-rmsnorm", "--out", layout, "--builder", builder, "--variant", cpu]);
    const registry = await startRegistry(workshop.registryData);
    try {
      const token = { KERNLOCK_TOKEN: workshop.token };
      await kernlockOk(["publish", layout, "--registry", registry.origin, "--key", workshop.privateKey], {
        env: token,
      });
      say(`${kernel} 0.1.0 is published, signed by its publisher.`);

      const project = makeProject(join(folder, "project"), registry.origin, strictPolicy(keys));
      const here = { cwd: project };
      const audit = (who: Key, ...more: string[]) =>
        accepted(
          [
            "attest",
            "audit",
            `${kernel}@0.1.0`,
            "--registry",
            registry.origin,
            "--criteria",
            "reviewed",
            "--key",
            who.file,
            ...more,
          ],
          { cwd: project, env: token },
        );
      const feed = async (
        kind: "advisories" | "revocations",
        sequence: number,
        entries: readonly object[],
        who = key.security,
      ) => {
        const list = join(folder, "list.json");
        writeFileSync(list, JSON.stringify(entries));
        const args = ["--kind", kind, "--feed", kind, "--sequence", `${sequence}`, "--output", `${kind}.json`];
        await accepted(["policy", "feed", list, ...args, "--key", who.file], here);
      };

      say(
        "\nThe policy wants two different people to have reviewed each kernel, and fresh feeds of the security team:",
      );
      say(
        readFileSync(join(project, "kernels.policy.yaml"), "utf8")
          .replaceAll(/^ {4}pem: \|\n(?: {6}.*\n)+/gm, "    pem: …\n")
          .trimEnd(),
      );
      await accepted(["policy", "lint", "kernels.policy.yaml"], here);
      await feed("advisories", 1, []);
      await feed("revocations", 1, []);

      say(scene("Two auditors"));
      say("Nobody has reviewed it yet.");
      await refused("KL_VERDICT_AUDIT_MISSING", ["lock"], here);
      say(
        "\nAlice reviews it, and signs twice: with the key of her laptop and with that of her token. She is one person.",
      );
      await audit(key["alice-laptop"]);
      await audit(key["alice-token"]);
      await refused("KL_VERDICT_THRESHOLD", ["lock"], here);
      say("\nBob reviews it, too.");
      await audit(key.bob);
      await accepted(["lock"], here);
      await accepted(["verify", "--frozen"], here);
      say("\nWhy it is allowed:");
      await accepted(["explain", kernel], here);
      say(
        (
          await kernlockOk(["explain", kernel], { cwd: project, env: { XDG_STATE_HOME: join(folder, "state") } })
        ).trimEnd(),
      );

      say(scene("An advisory"));
      await feed("advisories", 2, [osv]);
      await refused("KL_VERDICT_ADVISORY", ["verify"], here);
      const second = readFileSync(join(project, "advisories.json"));
      say("\nSomebody else signs a newer feed. Only the security team may.");
      await feed("advisories", 3, [], key.bob);
      await refused("KL_FEED_SIGNER", ["verify"], here);
      say("\nSomebody takes the feed away.");
      rmSync(join(project, "advisories.json"));
      await refused("KL_FEED_MISSING", ["verify"], here);
      writeFileSync(join(project, "advisories.json"), second);
      say("\nThe bug does not matter here: an exception for a week. It takes two signatures.");
      const made = await accepted(
        [
          "policy",
          "exception",
          kernel,
          "--waive",
          `advisory:${osv.id}`,
          "--reason",
          "Not reached here.",
          "--days",
          "7",
          "--key",
          key.security.file,
        ],
        here,
      );
      await refused("KL_VERDICT_ADVISORY", ["verify"], here);
      await accepted(
        ["policy", "cosign", (JSON.parse(made) as { file: string }).file, "--key", key.officer.file],
        here,
      );
      await accepted(["verify"], here);
      say("\nLocked again, the lock pins the feed's number: somebody who puts the older one back gets nothing by it.");
      await accepted(["lock"], here);
      await feed("advisories", 1, []);
      await refused("KL_FEED_ROLLBACK", ["verify"], here);
      rmSync(join(project, "kernels.exceptions"), { recursive: true });

      say(scene("A revoked key"));
      await feed("advisories", 3, []);
      say("\nAlice has lost her laptop. What she signed with her token still counts.");
      await feed("revocations", 2, [
        { kind: "signer", signer: key["alice-laptop"].signer, reason: "the laptop was stolen" },
      ]);
      await accepted(["verify"], here);
      say("\nThen the publisher's key is stolen.");
      await feed("revocations", 3, [{ kind: "signer", signer: publisher.signer, reason: "the key was copied" }]);
      await refused("KL_VERDICT_REVOKED", ["verify"], here, true);
      say("\nNo break-glass order brings back a publisher.");
      await accepted(
        [
          "policy",
          "exception",
          kernel,
          "--break-glass",
          "--reason",
          "We are in a hurry.",
          "--days",
          "1",
          "--key",
          key.officer.file,
        ],
        here,
      );
      await refused("KL_VERDICT_REVOKED", ["verify"], here, true);
      rmSync(join(project, "kernels.exceptions"), { recursive: true });
      await feed("revocations", 4, []);
      await accepted(["verify"], here);

      say(scene("A project that asks for less than its operator"));
      if (mountNamespaces === null) {
        say("LEFT OUT: this needs root, or a system on which `unshare -rm` works, to put a file at /etc/kernlock.");
      } else {
        const loose = makeProject(join(folder, "loose"), registry.origin, loosePolicy(keys));
        const etc = join(folder, "etc-kernlock");
        mkdirSync(etc, { mode: 0o755 });
        writeFileSync(join(etc, "policy.yaml"), loosePolicy(keys, auditRule), { mode: 0o644 });
        say("The project's policy demands no audit at all, and on a machine without an operator's policy it decides.");
        await accepted(["lock"], { cwd: loose });
        await accepted(["verify"], { cwd: loose });
        say("\nOn a machine whose /etc/kernlock/policy.yaml demands two audits:");
        const there = { cwd: loose, operator: etc };
        await refused("KL_VERDICT_AUDIT_MISSING", ["verify"], there);
        say("\nNeither a flag nor a variable helps.");
        await refused("KL_VERDICT_AUDIT_MISSING", ["verify", "--policy", "kernels.policy.yaml"], there);
        const variables = Object.fromEntries(
          ["KERNLOCK_POLICY", "KERNLOCK_OPERATOR_POLICY", "KERNLOCK_ETC", "XDG_CONFIG_HOME"].map((name) => [
            name,
            loose,
          ]),
        );
        await refused("KL_VERDICT_AUDIT_MISSING", ["verify"], { ...there, env: variables });
        say("\nWhat was audited can be locked there: the lock then pins the audits.");
        await accepted(["lock"], there, 3);
        await accepted(["verify", "--frozen"], there);
      }

      say(scene("A violation"));
      say(
        "Bob looks again, and finds that the kernel reads past its input. His word beats every pass, his own included.",
      );
      await audit(key.bob, "--violation", "--notes", "Reads past its input.");
      await refused("KL_VERDICT_AUDIT_VIOLATION", ["lock", "--check"], here);
      say("\nWhat is locked already names its own evidence, and touches no network:");
      await accepted(["verify"], here);
      say("so the security team revokes the version.");
      await feed("revocations", 5, [
        { kind: "kernel", name: kernel, versions: "<=0.1.0", reason: "it reads past its input" },
      ]);
      await refused("KL_VERDICT_REVOKED", ["verify"], here);
    } finally {
      await registry.stop();
    }

    say(scene("A hostile kernel with valid signatures"));
    if (!options.hostileKernel) say("LEFT OUT, as asked.");
    else await hostile();
    say(`\n== Done: ${checked} outcomes, each as the policy says.`);
    return checked;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }

  /** Everybody was fooled: the kernel is signed, locked and allowed. What it attempts is looked at from outside. */
  async function hostile(): Promise<void> {
    let connections = 0;
    const server = createServer((socket) => {
      connections += 1;
      socket.on("error", () => {}).resume();
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    try {
      const at = (name: string): string => join(folder, name);
      const target = {
        port: (server.address() as AddressInfo).port,
        secret: at("secret"),
        file: at("loot"),
        victim: at("victim"),
      };
      const secret = "the-secret-of-the-machine";
      writeFileSync(target.secret, secret, { mode: 0o600 });
      writeFileSync(target.victim, "x");
      say(
        "The norm is replaced by one that does its work and attacks on certain prompts. (All five packages are built first.)",
      );
      const how = { cwd: await hostileProject(at("hostile"), target) };
      await accepted(["verify", "--frozen"], how);
      const prompt = (tokens: number): string[] => [
        ...[
          "generate",
          "--model",
          join(root, "test/golden/tiny-mxfp4"),
          "--max-new-tokens",
          "1",
          "--ignore-eos",
          "--greedy",
        ],
        ...["--token-ids", Array.from({ length: tokens }, (_, index) => index + 1).join(",")],
      ];
      say("\nOn a prompt of one token it only computes.");
      await accepted(prompt(1), how);
      for (const what of [
        "connects to a socket",
        "reads a secret file",
        "executes a program in its place",
        "writes a file",
        "forks",
        "creates a file through io_uring",
      ]) {
        const attack = attacks.find((one) => one.what === what);
        if (attack === undefined) throw new Error(`there is no attack "${what}"`);
        say(`\nOn a prompt of ${tokensOf(attack)} tokens it ${what}.`);
        const message = await refused(
          "errno" in attack.ends ? "KL_OP_FAILED" : "KL_CONFINE_VIOLATION",
          prompt(tokensOf(attack)),
          how,
        );
        if (connections > 0 || existsSync(target.file) || message.includes(secret) || escaped()) {
          throw new Error(`the kernel that ${what} did what it wanted`);
        }
        say("From outside: no connection, no file, no process, and the secret is not in the answer.");
      }
    } finally {
      server.close();
    }
  }
}

const auditRule = "require: { audit: { by: [alice, bob], criteria: [reviewed], atLeast: 2 } }";

function strictPolicy(keys: Readonly<Record<string, Key>>): string {
  return `${loosePolicy(keys, auditRule)}advisories: [{ id: advisories, file: advisories.json, by: [security], maxAgeDays: 7 }]
revocations: [{ id: revocations, file: revocations.json, by: [security], maxAgeDays: 7 }]
exceptions: { by: [security, officer], atLeast: 2, maxDays: 30 }
breakGlass: { by: [officer], maxDays: 3 }
`;
}

function loosePolicy(keys: Readonly<Record<string, Key>>, rule = ""): string {
  const pems = Object.entries(keys).map(
    ([name, { pem }]) => `  ${name}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n`,
  );
  return `version: 1
keys:
${pems.join("")}principals:
  alice: { keys: [alice-laptop, alice-token] }
criteria:
  reviewed: { description: "Read line by line." }
rules:
  - match: "kernlock/*"
    publishers: [publisher]
    builders: [{ id: "${builder}", keys: [publisher] }]
    sources: [{ repository: "${repository}" }]
${rule === "" ? "" : `    ${rule}\n`}numerics: { allowDequantization: false }
`;
}

const osv = {
  id: "KSA-2026-0001",
  modified: "2026-11-01T00:00:00Z",
  summary: "Wrong sums for rows longer than 4096",
  affected: [
    {
      package: { ecosystem: "Kernlock", name: kernel },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed: "0.2.0" }] }],
    },
  ],
};

function makeKey(folder: string, name: string): Key {
  const { privatePem, publicPem } = generateKeyPair("p256");
  const file = join(folder, `${name}.pem`);
  writeFileSync(file, privatePem, { mode: 0o600 });
  return keyOf(file, publicPem);
}

function keyOf(file: string, pem: string): Key {
  const der = createPublicKey(pem).export({ type: "spki", format: "der" });
  return { file, pem, signer: `sha256:${createHash("sha256").update(der).digest("hex")}` };
}

function makeProject(folder: string, origin: string, policy: string): string {
  mkdirSync(join(folder, "cache"), { recursive: true });
  const manifest = { version: 1, registry: origin, variants: [cpu], kernels: { [kernel]: "^0.1.0" } };
  writeFileSync(join(folder, "kernels.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(join(folder, "kernels.policy.yaml"), policy);
  return folder;
}

function refusals(node: Node): Reason[] {
  if (node.ok) return [];
  const own = node.code === undefined ? [] : [{ code: node.code, message: node.reason ?? "" }];
  return [...own, ...node.children.flatMap(refusals)];
}

function scene(title: string): string {
  return `\n== ${title}`;
}

function shown(arg: string, folder: string): string {
  const text = arg.replaceAll(folder, "…").replaceAll(root, ".");
  return /[\s*<>]/.test(text) ? `"${text}"` : text;
}

/** Whether the process that the hostile kernel forks is alive, under the name that it takes. */
function escaped(): boolean {
  return readdirSync("/proc").some((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/comm`, "utf8").trim() === "kl-escaped";
    } catch {
      return false;
    }
  });
}

if (import.meta.main) {
  const started = Date.now();
  await lockdown({
    hostileKernel: !process.argv.includes("--without-hostile-kernel"),
    say: (line) => console.log(line),
  });
  console.log(`${((Date.now() - started) / 1000).toFixed(1)} s`);
}
