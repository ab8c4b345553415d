/** One thing that was tried: who did it, what, what should come of it and what did. */
export interface Row {
  readonly tool: string;
  readonly what: string;
  readonly expected: "accepted" | "refused";
  /** The last words of whoever refused, where it did; why it was left out. */
  readonly said: string;
  /** null: left out. */
  readonly right: boolean | null;
}

export interface Done {
  readonly status: number;
  readonly output: string;
}

/** Tries something. A refusal counts only when it says `because`: a program that merely fails proves nothing. */
export async function row(
  tool: string,
  what: string,
  attempt: () => Promise<Done> | Done,
  because?: RegExp,
): Promise<Row> {
  const expected = because === undefined ? "accepted" : "refused";
  let done: Done;
  try {
    done = await attempt();
  } catch (error) {
    done = { status: -1, output: String(error) };
  }
  const right = because === undefined ? done.status === 0 : done.status > 0 && because.test(done.output);
  const said = done.status === 0 ? "" : lastLine(because, done.output);
  return { tool, what, expected, said, right };
}

export const leftOut = (tool: string, what: string, why: string): Row => ({
  ...{ tool, what, expected: "accepted", said: why, right: null },
});

function lastLine(because: RegExp | undefined, output: string): string {
  const lines = output.trim().split("\n");
  const line = (because && lines.find((one) => because.test(one))) ?? lines.at(-1) ?? "";
  return line.trim().slice(0, 300);
}

const verdict = ({ right, expected }: Row): string =>
  right === null ? "left out" : right ? expected : expected === "accepted" ? "REFUSED" : "NOT REFUSED";

export function asText(rows: readonly Row[]): string {
  return rows
    .map(
      (one) =>
        `${one.tool.padEnd(18)} ${verdict(one).padEnd(11)} ${one.what}${one.said === "" ? "" : `\n${" ".repeat(31)}${one.said}`}`,
    )
    .join("\n");
}

export function asMarkdown(rows: readonly Row[]): string {
  return [
    "| Who | What | Outcome |",
    "|---|---|---|",
    ...rows.map((one) => `| ${one.tool} | ${one.what} | ${verdict(one)} |`),
  ].join("\n");
}
