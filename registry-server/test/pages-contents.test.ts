/** What the page says lies in a variant: binaries, symbols, bill of materials, licence. */
import { expect, test } from "vitest";
import { readBill } from "../pages/bill.ts";
import { makePackage, publish, startRegistry } from "./material.ts";

const evil = "<script>alert(1)</script>";

async function contentsOf(bill: unknown, at: Awaited<ReturnType<typeof startRegistry>>) {
  const bytes = Buffer.from(typeof bill === "string" ? bill : JSON.stringify(bill));
  const extra = [
    { path: "LICENSE", kind: "license", bytes: Buffer.from(`Do as you like. ${evil}`) },
    { path: "sbom.cdx.json", kind: "sbom", bytes },
  ] as const;
  await publish(at, makePackage({ extra }));
  return { bytes, page: await (await fetch(`${at.origin}/kernels/acme/norm/1.0.0/contents`)).text() };
}

test("parts with versions, licences and origins; the file itself; the licence's text", async () => {
  const at = await startRegistry();
  const { page, bytes } = await contentsOf(
    {
      bomFormat: "CycloneDX",
      specVersion: "1.6",
      components: [
        {
          type: "library",
          name: "triton",
          version: "3.4.0",
          purl: "pkg:pypi/triton@3.4.0",
          licenses: [{ license: { id: "MIT" } }],
        },
        {
          type: "file",
          name: evil,
          licenses: [{ expression: "Apache-2.0" }],
          hashes: [{ alg: "SHA-256", content: "ab" }],
        },
      ],
    },
    at,
  );
  for (const text of ["CycloneDX 1.6", "triton", "3.4.0", "MIT", "pkg:pypi/triton@3.4.0", "Apache-2.0", "kl_get_api"]) {
    expect(page).toContain(text);
  }
  expect(page).toContain("Do as you like. &lt;script&gt;");
  expect(page).not.toContain("<script");
  const [, address] = /<a href="(\/kernels\/acme\/norm\/1\.0\.0\/files\/sha256:[0-9a-f]{64})" download>sbom/.exec(
    page,
  )!;
  const raw = await fetch(at.origin + address);
  expect(Buffer.from(await raw.arrayBuffer()).equals(bytes)).toBe(true);
  expect(raw.headers.get("content-disposition")).toBe('attachment; filename="acme-norm-1.0.0-sbom.cdx.json"');
  expect(raw.headers.get("content-type")).toBe("application/octet-stream");
});

test("payload files are not handed out by pages, nor files of another version", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const { variants } = (await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/1.0.0`)).json()) as {
    variants: { files: { kind: string; digest: string }[] }[];
  };
  const statusOf = async (digest: string) =>
    (await fetch(`${at.origin}/kernels/acme/norm/1.0.0/files/${digest}`)).status;
  for (const { kind, digest } of variants[0]!.files) {
    expect(await statusOf(digest), kind).toBe(kind === "card" ? 200 : 404);
  }
  expect(await statusOf(`sha256:${"0".repeat(64)}`)).toBe(404);
  expect(await statusOf("..%2f..%2fregistry.sqlite")).toBe(404);
});

test.each([
  ["no JSON", "{"],
  ["another format", { spdxVersion: "SPDX-2.3" }],
  ["no list of parts", { bomFormat: "CycloneDX", specVersion: "1.6", components: {} }],
  ["a part without a name", { bomFormat: "CycloneDX", specVersion: "1.6", components: [{ type: "library" }] }],
  ["a name that is no text", { bomFormat: "CycloneDX", specVersion: "1.6", components: [{ name: 1 }] }],
])("a bill of materials with %s is offered, not shown", async (_what, bill) => {
  const at = await startRegistry();
  const { page } = await contentsOf(bill, at);
  expect(page).toContain("is no CycloneDX document that can be shown here");
});

test("a long bill is cut, and says so", () => {
  const components = Array.from({ length: 1000 }, (_, i) => ({ type: "file", name: `part-${i}` }));
  const bill = readBill(Buffer.from(JSON.stringify({ bomFormat: "CycloneDX", specVersion: "1.6", components })));
  expect([bill!.parts.length, bill!.more]).toEqual([300, 700]);
});
