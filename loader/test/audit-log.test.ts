import { spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { appendAudit, emptyAuditHead, verifyAuditLog } from "../audit-log.ts";

const scratch = mkdtempSync(join(tmpdir(), "kernlock-audit-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let next = 0;

function log(lines: number): string {
  const path = join(scratch, `${next++}`, "audit.jsonl");
  for (let i = 0; i < lines; i++) appendAudit(path, { event: "load", kernel: `k${i}` });
  return path;
}

function codeOf(use: () => unknown): string | undefined {
  try {
    use();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe("the audit log", () => {
  it("chains its lines, and its head tells how many there are", () => {
    const path = log(3);
    const head = verifyAuditLog(path);
    expect(head.count).toBe(3);
    const after = appendAudit(path, { event: "run" });
    expect(after.count).toBe(4);
    expect(verifyAuditLog(path, head)).toEqual(after);
    expect(verifyAuditLog(path, emptyAuditHead)).toEqual(after);
  });

  it.each([
    ["a changed word", (text: string) => text.replace("k1", "k9"), "KL_AUDIT_CHAIN"],
    ["a removed line", (text: string) => text.split("\n").toSpliced(1, 1).join("\n"), "KL_AUDIT_CHAIN"],
    ["two lines swapped", (text: string) => text.replace(/^(.*\n)(.*\n)/, "$2$1"), "KL_AUDIT_CHAIN"],
    ["a line put in", (text: string) => text.replace("\n", "\n{}\n"), "KL_AUDIT_CHAIN"],
    ["a line that is no JSON", (text: string) => `${text}x\n`, "KL_AUDIT_CHAIN"],
    ["a line cut short", (text: string) => text.slice(0, -5), "KL_AUDIT_CHAIN"],
  ])("shows %s", (_, change, code) => {
    const path = log(3);
    writeFileSync(path, change(readFileSync(path, "utf8")));
    expect(codeOf(() => verifyAuditLog(path))).toBe(code);
  });

  it("shows a cut end only against a head that was kept elsewhere", () => {
    const path = log(3);
    const kept = verifyAuditLog(path);
    writeFileSync(path, readFileSync(path, "utf8").split("\n").toSpliced(2, 1).join("\n"));
    expect(verifyAuditLog(path).count).toBe(2);
    expect(codeOf(() => verifyAuditLog(path, kept))).toBe("KL_AUDIT_HEAD");
  });

  it("refuses to go on after a line that a crash cut short", () => {
    const path = log(1);
    appendFileSync(path, '{"event":"lo');
    expect(codeOf(() => appendAudit(path, { event: "load" }))).toBe("KL_AUDIT_CHAIN");
  });

  it("refuses to load when it cannot be written", () => {
    const file = join(scratch, "a-file");
    writeFileSync(file, "");
    expect(codeOf(() => appendAudit(join(file, "audit.jsonl"), {}))).toBe("KL_AUDIT_WRITE");
  });

  it("stays one chain when several processes write, also past a lock whose owner died", async () => {
    const path = log(1);
    writeFileSync(`${path}.lock`, "999999999");
    const program = `import { appendAudit } from ${JSON.stringify(join(import.meta.dirname, "..", "audit-log.ts"))};
      for (let i = 0; i < 10; i++) appendAudit(${JSON.stringify(path)}, { event: "load", i });`;
    const ends = [0, 1, 2].map(
      () =>
        new Promise((done) =>
          spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "inherit" }).on("close", done),
        ),
    );
    expect(await Promise.all(ends)).toEqual([0, 0, 0]);
    expect(verifyAuditLog(path).count).toBe(31);
  });
});
