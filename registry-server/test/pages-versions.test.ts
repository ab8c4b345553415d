/** What the pages of a version say, without a browser. */
import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { fits } from "../pages/fit.ts";
import type { VersionDocument } from "../publish/documents.ts";
import { bearer, makePackage, policyFor, publish, startRegistry } from "./material.ts";
import { everyPage, showcase } from "./showcase.ts";

const get = async (at: { origin: string }, path: string, token?: string) => {
  const answer = await fetch(at.origin + path, token === undefined ? {} : { headers: bearer(token) });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
};

test("every page has the strict policy and no script", async () => {
  const at = await showcase();
  for (const path of everyPage) {
    const { status, headers, text } = await get(at, path);
    const refused = path.includes("/no/") || path.endsWith("0.9.0") ? 404 : path.includes("/callback") ? 403 : 200;
    expect(status, path).toBe(refused);
    expect(headers.get("content-security-policy"), path).toMatch(/^default-src 'none'; style-src 'self'/);
    expect(text, path).not.toMatch(/<script|style="|\bon[a-z]+=|undefined|\[object/);
    expect(text.match(/ id="[^"]*"/g) ?? [], path).toEqual([...new Set(text.match(/ id="[^"]*"/g))]);
  }
});

test("a machine gets the variant that is made for it, and reasons for the others", async () => {
  const at = await showcase();
  const document = (await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/2.0.0`)).json()) as VersionDocument;
  const verdicts = (gpu: string | null, driver: string | null, cpu: "x86-64-v2" | "x86-64-v3" = "x86-64-v3") =>
    Object.fromEntries(fits(document, { cpu, gpu, driver }).map((f) => [f.variant.slice(13), f.verdict]));
  expect(verdicts("9.0", "12.8")).toEqual({ "cpu-v3": "fits", "cuda-sm80": "no", "cuda-sm90a": "best" });
  expect(verdicts("9.0", "12.2")).toEqual({ "cpu-v3": "best", "cuda-sm80": "no", "cuda-sm90a": "no" });
  // Nobody has run that one: a policy has to permit it.
  expect(verdicts("8.0", "12.8")).toEqual({ "cpu-v3": "best", "cuda-sm80": "asks", "cuda-sm90a": "no" });
  expect(verdicts(null, null, "x86-64-v2")).toEqual({ "cpu-v3": "no", "cuda-sm80": "no", "cuda-sm90a": "no" });
  const { text } = await get(at, "/kernels/acme/norm?cpu=x86-64-v3&gpu=9.0");
  expect(text).toContain("needs a driver for CUDA 12.4; yours was not given");
  expect((await get(at, "/kernels/acme/norm?cpu=%3Cb%3E&gpu=nonsense&driver=x")).text).not.toContain('<b>"');
});

test("versions are marked: yanked, quarantined, and where the signer changed", async () => {
  const at = await showcase();
  const { text } = await get(at, "/kernels/acme/norm/versions");
  expect(text).toContain("Reads past odd row lengths.");
  expect(text).toContain("Its build host was taken over.");
  const row = (version: string) => text.split("<tr>").find((r) => r.includes(`/kernels/acme/norm/${version}"`))!;
  expect(row("2.0.0")).toContain("new signer");
  expect(row("1.1.0")).toContain("as 1.0.0");
  expect((await get(at, "/kernels/acme/norm/2.0.0/provenance")).text).toContain("Trust changed since 1.1.0.");
  expect((await get(at, "/kernels/acme/norm/1.0.0")).text).toContain("1.0.0 was yanked");
});

test("nothing of a quarantined version stands on any page", async () => {
  const at = await showcase();
  for (const path of ["", "/contents", "/provenance", "/evidence"]) {
    const { status, text } = await get(at, `/kernels/acme/norm/0.9.0${path}`);
    expect([status, text.includes("in quarantine"), text.includes("RMS norm")]).toEqual([404, true, false]);
  }
  expect((await get(at, "/kernels/acme/norm/compare?from=0.9.0&to=2.0.0")).status).toBe(404);
});

test("a bundle is downloaded as it was pushed, and only one of that version", async () => {
  const at = await showcase();
  const { text } = await get(at, "/kernels/acme/norm/2.0.0/provenance");
  const [path] = text.match(/\/kernels\/acme\/norm\/2\.0\.0\/bundles\/sha256:[0-9a-f]{64}/) ?? [];
  const answer = await fetch(at.origin + path);
  expect(answer.headers.get("content-disposition")).toMatch(/^attachment; filename="acme-norm-2\.0\.0-/);
  expect(answer.headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
  expect(`${path}`).toContain(digestOf(new Uint8Array(await answer.arrayBuffer())));
  for (const other of [path!.replace("2.0.0", "1.1.0"), path!.replace("2.0.0", "0.9.0"), `${path}0`]) {
    expect((await get(at, other)).status, other).toBe(404);
  }
  const file = digestOf(at.newest.payload);
  expect((await get(at, `/kernels/acme/norm/2.0.0/bundles/${file}`)).status).toBe(404);
});

test("what is said by a key that the namespace does not know is not repeated", async () => {
  const at = await showcase();
  const { text } = await get(at, "/kernels/acme/norm/2.0.0/evidence");
  expect(text).toContain("not verified");
  expect(text).not.toContain("violation");
  expect(text).toContain("4 of 5 passed");
});

test("search is narrowed by what stands in the address", async () => {
  const at = await showcase();
  const names = async (path: string) =>
    [...(await get(at, path)).text.matchAll(/<li><a href="\/kernels\/([^"]+)"/g)].map((m) => m[1]);
  expect(await names("/?backend=cuda")).toEqual(["acme/norm"]);
  expect((await names("/?architecture=x86-64-v3")).sort()).toEqual(["acme/norm", "acme/rope"]);
  expect(await names("/?q=norm&mode=bf16&license=Apache-2.0")).toEqual(["acme/norm"]);
  expect(await names("/?q=norm&license=MIT")).toEqual([]);
  expect(await names("/?backend=%22%3E%3Cscript%3E")).toEqual([]);
});

test("a private namespace's pages are there for its readers alone, and tokens for its admins alone", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  await at.registry.updateNamespace({ namespace: "acme", visibility: "private" });
  const admin = (await at.registry.createToken({ namespace: "acme", role: "admin", label: "Ada" })).token;
  await at.registry.createNamespace({ name: "other", policy: policyFor(at.key) });
  const foreign = (await at.registry.createToken({ namespace: "other", role: "admin" })).token;
  const pages = [
    "/namespaces/acme",
    ...["", "/versions", "/1.0.0/contents", "/1.0.0/provenance", "/1.0.0/evidence"].map(
      (p) => `/kernels/acme/norm${p}`,
    ),
  ];
  for (const path of [...pages, "/kernels/acme/norm/compare?from=1.0.0&to=1.0.0"]) {
    expect((await get(at, path)).status, path).toBe(404);
    expect((await get(at, path, foreign)).status, path).toBe(404);
    expect((await get(at, path, at.read)).status, path).toBe(200);
  }
  expect((await get(at, "/namespaces/acme", at.read)).text).not.toContain("Tokens");
  expect((await get(at, "/namespaces/acme", admin)).text).toContain("Tokens");
  expect((await get(at, "/namespaces/acme/tokens", admin)).text).toContain("Ada");
});
