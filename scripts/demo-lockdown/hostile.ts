/** The last scene: everybody was fooled, and the kernel is signed, locked and allowed. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { attacks, tokensOf } from "../../test/attacks/hostile-kernel/attacks.ts";
import { hostileProject } from "../../test/attacks/hostile-kernel/project.ts";
import { root } from "../project.ts";
import type { Stage } from "./stage.ts";

const tried = [
  "connects to a socket",
  "reads a secret file",
  "executes a program in its place",
  "writes a file",
  "forks",
  "creates a file through io_uring",
];

/** What the kernel attempts is looked at from outside: the socket, the file, the process, the answer. */
export async function hostileKernel({ folder, say, at }: Stage): Promise<void> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {}).resume();
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    const target = {
      port: (server.address() as AddressInfo).port,
      secret: join(folder, "secret"),
      file: join(folder, "loot"),
      victim: join(folder, "victim"),
    };
    const secret = "the-secret-of-the-machine";
    writeFileSync(target.secret, secret, { mode: 0o600 });
    writeFileSync(target.victim, "x");
    say(
      "The norm is replaced by one that does its work and attacks on certain prompts. (All five packages are built first.)",
    );
    const here = at({ cwd: await hostileProject(join(folder, "hostile"), target) });
    await here.accepted("verify", "--frozen");

    say("\nOn a prompt of one token it only computes.");
    await here.accepted(...generate(1));
    for (const what of tried) {
      const attack = attacks.find((one) => one.what === what);
      if (attack === undefined) throw new Error(`there is no attack "${what}"`);
      say(`\nOn a prompt of ${tokensOf(attack)} tokens it ${what}.`);
      const code = "errno" in attack.ends ? "KL_OP_FAILED" : "KL_CONFINE_VIOLATION";
      const message = await here.refused(code, ...generate(tokensOf(attack)));
      if (connections > 0 || existsSync(target.file) || message.includes(secret) || escaped()) {
        throw new Error(`the kernel that ${what} did what it wanted`);
      }
      say("From outside: no connection, no file, no process, and the secret is not in the answer.");
    }
  } finally {
    server.close();
  }
}

/** One new token after a prompt of so many. */
function generate(tokens: number): string[] {
  const ids = Array.from({ length: tokens }, (_, index) => index + 1).join(",");
  const model = join(root, "test/golden/tiny-mxfp4");
  const how = ["--max-new-tokens", "1", "--ignore-eos", "--greedy"];
  return ["generate", "--model", model, ...how, "--token-ids", ids];
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
