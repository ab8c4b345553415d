/** How a scene is played: every step is a `kernlock` command as a user would run it, and what it says is checked. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { underOperator } from "../operator.ts";
import { kernlock, root } from "../project.ts";

export interface Place {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A folder that stands where /etc/kernlock is. */
  readonly operator?: string;
}

/** Commands in one place. Each counts as one outcome; one that ends otherwise than told ends the story. */
export interface Scene {
  /** The command has to go through; gives its result as JSON. */
  accepted(...args: readonly string[]): Promise<string>;
  /** It has to go through and say (exit code 3) that whom the lock trusts has changed. */
  acceptedWithNewTrust(...args: readonly string[]): Promise<string>;
  /** It has to refuse with this code and no other; gives the message. */
  refused(code: string, ...args: readonly string[]): Promise<string>;
  /** It has to refuse, with this code among the reasons. */
  refusedAmongOthers(code: string, ...args: readonly string[]): Promise<string>;
  /** What the command tells people, which is shown as it is. */
  told(...args: readonly string[]): Promise<void>;
}

export interface Stage {
  readonly folder: string;
  /** How many outcomes were checked so far. */
  readonly checked: () => number;
  say(line: string): void;
  title(text: string): void;
  at(place: Place): Scene;
  close(): void;
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

export function openStage(say: (line: string) => void): Stage {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-lockdown-"));
  let checked = 0;

  const run = ({ cwd, env = {}, operator }: Place, args: readonly string[]) => {
    const how = { cwd, env: { XDG_STATE_HOME: join(folder, "state"), ...env } };
    return operator === undefined ? kernlock(args, how) : underOperator(operator, args, how);
  };

  const at = (place: Place): Scene => {
    const ask = (args: readonly string[]) => {
      say(`$ kernlock ${args.map((arg) => shown(arg, folder)).join(" ")}`);
      return run(place, [...args, "--json"]);
    };
    const accept = async (status: number, words: string, args: readonly string[]): Promise<string> => {
      const ran = await ask(args);
      if (ran.status !== status) {
        throw new Error(`should have ended with ${status}: ${ran.status} ${ran.stdout}${ran.stderr}`);
      }
      say(words);
      checked += 1;
      return ran.stdout;
    };
    const refuse = async (code: string, args: readonly string[], among: boolean): Promise<string> => {
      const ran = await ask(args);
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
    return {
      accepted: (...args) => accept(0, "accepted", args),
      acceptedWithNewTrust: (...args) => accept(3, "accepted; trust changed, so that a person has to agree", args),
      refused: (code, ...args) => refuse(code, args, false),
      refusedAmongOthers: (code, ...args) => refuse(code, args, true),
      told: async (...args) => {
        const { status, stdout, stderr } = await run(place, args);
        if (status !== 0) throw new Error(`should have gone through: ${status} ${stdout}${stderr}`);
        say(stdout.replaceAll(folder, "…").trimEnd());
      },
    };
  };

  return {
    folder,
    checked: () => checked,
    say,
    title: (text) => say(`\n== ${text}`),
    at,
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Every refusal in a tree, outermost first. */
function refusals(node: Node): Reason[] {
  if (node.ok) return [];
  const own = node.code === undefined ? [] : [{ code: node.code, message: node.reason ?? "" }];
  return [...own, ...node.children.flatMap(refusals)];
}

function shown(arg: string, folder: string): string {
  const text = arg.replaceAll(folder, "…").replaceAll(root, ".");
  return /[\s*<>]/.test(text) ? `"${text}"` : text;
}
