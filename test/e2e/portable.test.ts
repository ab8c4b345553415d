import { spawn } from "node:child_process";
import { createPrivateKey, createPublicKey } from "node:crypto";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { kernlock, kernlockOk, type Ran, root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";

const scratch = mkdtempSync(join(tmpdir(), "kernlock-portable-"));
const portable = join(scratch, "somewhere", "port able");
const elsewhere = join(scratch, "elsewhere");
const publicKey = join(scratch, "public.pem");
let privateKey = "";

beforeAll(async () => {
  const { folder, workshop } = await testProject();
  ({ privateKey } = workshop);
  mkdirSync(join(scratch, "somewhere"));
  mkdirSync(join(elsewhere, "home"), { recursive: true });
  const pem = createPublicKey(createPrivateKey(readFileSync(workshop.privateKey))).export({
    type: "spki",
    format: "pem",
  });
  writeFileSync(publicKey, pem);
  await kernlockOk(["bundle", "--portable", portable, "--key", workshop.privateKey], { cwd: folder });
}, 600_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** As on a machine that has nothing: no PATH, no environment, another folder. */
function bare(...args: string[]): Promise<Ran> {
  return new Promise((done, failed) => {
    const env = { HOME: join(elsewhere, "home"), PATH: "" };
    const child = spawn(join(portable, "kernlock"), args, { cwd: elsewhere, env });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", failed);
    child.on("close", (code) => done({ status: code ?? 1, stdout, stderr }));
  });
}

it("runs a model from anywhere, with nothing in PATH and its own project", async () => {
  const dictionary = join(elsewhere, "dictionary");
  cpSync(join(root, "models/dictionary"), dictionary, { recursive: true });
  const { status, stdout, stderr } = await bare(
    ...["generate", "--model", "dictionary", "--chat", "What is a harbor?", "--reasoning", "low", "--greedy", "--json"],
  );
  expect(status, stderr).toBe(0);
  const answer = JSON.parse(stdout) as { text: string; run_record: { signer: string }[] };
  expect(answer.text).toContain("a sheltered port");
  expect(answer.run_record.length).toBeGreaterThan(8);
  const selftest = await bare("selftest", "--model", "dictionary");
  expect(selftest.stdout).toContain("55 of 55 decided conversations");
}, 300_000);

it("answers what needs no native code, and says what it left at home", async () => {
  const doctor = await bare("doctor", "--trust", publicKey);
  expect([doctor.status, /program: \d+ files as signed by sha256:/.test(doctor.stdout)], doctor.stdout).toEqual([
    0,
    true,
  ]);
  expect((await bare("verify", "--frozen")).status).toBe(0);
  const { stdout } = await bare("--help");
  expect(stdout).toContain("selftest");
  expect(stdout).not.toMatch(/^ {2}registry /m);
}, 300_000);

it("has each process in one piece, every licence, and makes another portable folder with the same program", async () => {
  const listed = (folder: string): string[] =>
    (JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { files: { path: string }[] }).files
      // Whether symbols can be stripped depends on PATH.
      .filter(({ path }) => path !== "runtime/node")
      .map((file) => JSON.stringify(file));
  const paths = listed(portable).map((file) => (JSON.parse(file) as { path: string }).path);
  expect(paths.filter((path) => path.endsWith(".ts"))).toEqual([]);
  for (const main of ["cli/main", "engine/host/main", "engine/model/template-process", "engine/client/gpu-probe"]) {
    expect(paths).toContain(`app/${main}.js`);
  }
  for (const name of ["zod", "yaml", "commander", "@huggingface/tokenizers", "@huggingface/jinja", "rolldown"]) {
    expect(paths).toContain(`app/node_modules/${name}/LICENSE`);
  }
  expect(readFileSync(join(portable, "app/engine/host/main.js"), "utf8")).not.toContain(root);
  const another = join(scratch, "another");
  const key = join(scratch, "another.pem");
  cpSync(privateKey, key);
  const made = await bare("bundle", "--portable", another, "--key", key);
  expect(made.status, made.stderr).toBe(0);
  expect(listed(another)).toEqual(listed(portable));
}, 300_000);

it("leaves out the server, tests and compilers", () => {
  for (const name of ["app/test", "app/registry-server", "app/node_modules/typescript", "app/engine/test"]) {
    expect(existsSync(join(portable, name)), name).toBe(false);
  }
});

it("is as its signed manifest says, and is refused with one file more or one byte other", async () => {
  const check = (): Promise<Ran> => kernlock(["bundle", "--check", portable, "--trust", publicKey, "--json"]);
  expect((await check()).status).toBe(0);
  const added = join(portable, "app", "added.ts");
  writeFileSync(added, "");
  expect(JSON.parse((await check()).stdout)).toMatchObject({ error: { code: "KL_PORTABLE_DIFFERS" } });
  const doctor = await bare("doctor", "--json");
  expect(doctor.status).toBe(1);
  expect(JSON.parse(doctor.stdout).checks).toContainEqual(
    expect.objectContaining({
      name: "program",
      ok: false,
      error: expect.objectContaining({ code: "KL_PORTABLE_DIFFERS" }),
    }),
  );
  rmSync(added);
  appendFileSync(join(portable, "project", "kernels.policy.yaml"), "\n");
  expect(JSON.parse((await check()).stdout)).toMatchObject({ error: { code: "KL_PORTABLE_DIFFERS" } });
  appendFileSync(join(portable, "manifest.json"), "\n");
  expect(JSON.parse((await check()).stdout)).toMatchObject({ error: { code: "KL_PORTABLE_SIGNATURE" } });
}, 300_000);
