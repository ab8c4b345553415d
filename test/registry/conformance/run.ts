/**
 * `npm run conformance:oci`: the public OCI conformance suite against a fresh registry, in a namespace of artifacts.
 * Fails unless nothing fails and nothing is skipped. `--version dev` runs the draft's checks too; `--storage scale-out`
 * runs on PostgreSQL and an S3-compatible server.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createRegistry, type DataOptions } from "@kernlock/registry-server";
import { startPostgres } from "../services/postgres.ts";
import { startS3 } from "../services/s3.ts";
import { tool } from "../services/tools.ts";

const { values } = parseArgs({
  options: { version: { type: "string", default: "1.1" }, storage: { type: "string", default: "embedded" } },
});
const program = tool("conformance");
if (program === undefined) throw new Error("The suite cannot be built: it needs Go and its module proxy.");

const dataFolder = mkdtempSync(join(tmpdir(), "kernlock-conformance-"));
const stops: (() => Promise<void>)[] = [];
let data: DataOptions = { dataFolder };
if (values.storage === "scale-out") {
  const [postgres, s3] = [await startPostgres(), await startS3()];
  stops.push(postgres.stop, s3.stop);
  data = { dataFolder, database: await postgres.database(), s3: s3.bucket() };
}
const registry = await createRegistry(data);
await registry.createNamespace({ name: "conformance", kind: "artifacts" });
const { token } = await registry.createToken({ namespace: "conformance", role: "publisher" });
const { port } = await registry.listen();

const results = resolve(import.meta.dirname, "../../../test-results/conformance");
mkdirSync(results, { recursive: true });
const started = performance.now();
const code = await new Promise<number | null>((done) => {
  const child = spawn(program, {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      OCI_REGISTRY: `127.0.0.1:${port}`,
      OCI_TLS: "disabled",
      OCI_REPO1: "conformance/one",
      OCI_REPO2: "conformance/two",
      OCI_USERNAME: "conformance",
      OCI_PASSWORD: token,
      OCI_VERSION: values.version,
      OCI_RESULTS_DIR: results,
    },
  });
  child.on("close", done);
});
const seconds = (performance.now() - started) / 1000;
await registry.close();
for (const stop of stops) await stop();
rmSync(dataFolder, { recursive: true, force: true });

const report = readFileSync(join(results, "junit.xml"), "utf8");
const suite = /<testsuite\b[^>]*>/.exec(report)?.[0] ?? "";
const number = (name: string) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
const counts = {
  version: values.version,
  storage: values.storage,
  total: number("tests"),
  failed: number("failures") + number("errors"),
  skipped: number("skipped"),
  disabled: number("disabled"),
  seconds: Number(seconds.toFixed(1)),
};
console.log(JSON.stringify(counts));
if (code !== 0 || counts.total === 0 || counts.failed + counts.skipped > 0) process.exitCode = 1;
