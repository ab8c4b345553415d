/**
 * `npm test`: the checks, then every suite. Names the suites that were left out for want of a tool; with
 * KERNLOCK_TEST_ALL=1 leaving one out is a failure. Ends with `N passed, N failed`.
 * Arguments go on to vitest: `npm test -- loader`.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

interface Assertion {
  readonly fullName: string;
  readonly status: "passed" | "failed" | "skipped" | "pending" | "todo" | "disabled";
}
interface Report {
  readonly success: boolean;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly Assertion[];
  }[];
}

const root = resolve(import.meta.dirname, "..");
const bin = (name: string): string => join(root, "node_modules", ".bin", name);
const run = (command: string, args: readonly string[]): number =>
  spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, FORCE_COLOR: process.stdout.isTTY ? "1" : "0" },
  }).status ?? 1;

const filters = process.argv.slice(2);
const checks = filters.length > 0 ? 0 : run("npm", ["run", "--silent", "check"]);

const folder = join(root, "test-results");
const reportFile = join(folder, "vitest.json");
mkdirSync(folder, { recursive: true });
rmSync(reportFile, { force: true });
const status = run(bin("vitest"), [
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${reportFile}`,
  ...filters,
]);

let report: Report;
try {
  report = JSON.parse(readFileSync(reportFile, "utf8")) as Report;
} catch {
  console.error("The test runner wrote no report.");
  console.log("0 passed, 1 failed");
  process.exit(1);
}

const leftOut = report.testResults.flatMap((file) =>
  file.assertionResults
    .filter((test) => test.status !== "passed" && test.status !== "failed")
    .map((test) => test.fullName),
);
const brokenFiles = report.testResults.filter(
  (file) => file.status === "failed" && !file.assertionResults.some((t) => t.status === "failed"),
);
if (leftOut.length > 0) {
  console.log(`\nLeft out (${leftOut.length}):`);
  for (const name of leftOut) console.log(`  ${name}`);
}
const demanded = process.env.KERNLOCK_TEST_ALL === "1" ? leftOut.length : 0;
const failed = report.numFailedTests + brokenFiles.length + demanded + (checks === 0 ? 0 : 1);
if (checks !== 0) console.log("\n`npm run check` failed.");
if (demanded > 0) console.log("\nSuites were left out, and this run demands all of them.");
console.log(`\n${report.numPassedTests} passed, ${failed} failed`);
process.exitCode = failed > 0 || status !== 0 || report.numPassedTests === 0 ? 1 : 0;
