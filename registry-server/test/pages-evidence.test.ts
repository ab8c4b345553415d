/** Figures of signed tests as plots and tables; and what is not drawn. */
import { digestOf } from "@kernlock/kernels/format";
import { testType } from "@kernlock/policies/trust";
import { expect, test } from "vitest";
import { barPlot, dotPlot, figureText, scientific } from "../pages/plots.ts";
import { attach, makePackage, newKey, publish, startRegistry, type TestKey } from "./material.ts";

async function evidence(measured: unknown, signer?: TestKey) {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const [variant] = pack.variants;
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: pack.name, digest: { sha256: digestOf(variant!.manifest).slice("sha256:".length) } }],
    predicateType: testType,
    predicate: {
      result: "PASSED",
      measured,
      kernlock: { suite: "numerics", device: "H100 <b>", issued: "2026-11-20T10:00:00Z" },
    },
  };
  await attach(at, at.write, pack, Buffer.from(JSON.stringify(statement)), variant, signer ?? at.key);
  return (await fetch(`${at.origin}/kernels/acme/norm/1.0.0/evidence`)).text();
}

const errors = [
  { op: "rmsnorm/cuda", cases: 24, failed: 0, worst: 3.1e-7 },
  { op: "<i>/x", cases: 4, failed: 1, worst: 0 },
];
const speeds = [
  { op: "rmsnorm/cuda", launch: "64 rows", unit: "GB/s", value: 2410.5, ceiling: 3012 },
  { op: "model", launch: "decode", unit: "tokens/s", value: 801.25 },
];

test("numbers stand in the plot and in the table, with device, driver and signer", async () => {
  const page = await evidence({ driver: "580.65.06 (CUDA 13.0)", errors, speeds });
  for (const text of ["3.1e-7", "24 cases", "1 of 4 failed", "2,411", "80 %", "801", "580.65.06 (CUDA 13.0)"]) {
    expect(page).toContain(text);
  }
  expect(page).toMatch(/signed by <b>team<\/b>/);
  const plots = [...page.matchAll(/<svg [^>]*role="img" aria-labelledby="([\w-]+) ([\w-]+)">/g)];
  expect(plots.map(([, title]) => title)).toEqual(["grid-title", "errors-title", "speeds-0-title", "speeds-1-title"]);
  for (const [, title, description] of plots) {
    expect(page).toContain(`<title id="${title}">`);
    expect(page).toContain(`<desc id="${description}">`);
  }
  expect(page).toContain("&lt;i&gt;");
  expect(page).not.toMatch(/<i>|<b>"|style=|<script/);
});

test("figures that somebody unknown signed are not drawn", async () => {
  const page = await evidence({ driver: null, errors, speeds }, newKey());
  expect(page).toContain("not verified");
  expect(page).not.toContain("3.1e-7");
});

test.each([
  ["text for a number", { errors: [{ op: "x", cases: 1, failed: 0, worst: "1e-7" }] }],
  ["a negative error", { errors: [{ op: "x", cases: 1, failed: 0, worst: -1 }] }],
  ["a unit that is not known", { speeds: [{ op: "x", launch: "", unit: "furlongs", value: 1 }] }],
  ["a speed of nothing", { speeds: [{ op: "x", launch: "", unit: "GB/s", value: 0 }] }],
  ["too many", { errors: Array.from({ length: 500 }, () => ({ op: "x", cases: 1, failed: 0, worst: 1 })) }],
  ["no object", 7],
])("figures with %s leave the statement, and draw nothing", async (_what, measured) => {
  const page = await evidence(measured);
  expect(page).toContain("passed");
  expect(page).not.toContain('id="numerics"');
  expect(page).not.toContain('id="speed"');
});

test("plots hold nothing but numbers in their geometry, at the ends of the range too", () => {
  const text = { id: "x", title: "t", description: "d" };
  const series = [{ letter: "A", label: "a" }];
  for (const values of [[0], [5e-324], [1e308], [1], [1e-7, 0, undefined]]) {
    const rows = values.map((value, i) => ({ label: `${i}`, values: [value], ceilings: [null] }));
    for (const plot of [dotPlot(text, series, rows), barPlot(text, series, rows, "GB/s")]) {
      expect(plot.text).not.toMatch(/NaN|Infinity|undefined/);
    }
  }
});

test("numbers are written for people", () => {
  expect([3.14159e-7, 0, 12345].map(scientific)).toEqual(["3.1e-7", "0 (exact)", "1.2e4"]);
  expect([0, 0.5, 12, 99.95, 1234.5].map(figureText)).toEqual(["0", "0.5", "12", "100", "1,235"]);
});
