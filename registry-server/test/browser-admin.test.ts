/** Pages of administration in Chromium: both themes, a phone's and a desk's width, with axe and without scripts. */
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { governed, password } from "./governance.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
/** Set to a folder to look at the pages. */
const pictures = process.env.KERNLOCK_SCREENSHOTS;

const pages = [
  "/admin",
  "/admin/reviews",
  "/admin/reviews?done=reject",
  "/admin/quarantine",
  "/admin/gc",
  "/admin/gc?grace=1h",
  "/admin/audit",
  "/admin/audit?action=version.&check=1",
  "/admin/audit?actor=nobody",
  "/advisories",
  "/kernels/acme/norm/2.0.0",
  "/kernels/acme/norm/versions",
  "/kernels/acme/norm/1.0.0",
];

async function signIn(page: Page, origin: string, name: string) {
  await page.goto(`${origin}/signin?return=/admin`);
  await page.getByLabel("Account").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { name: "Administration" }).waitFor();
}

describe.skipIf(executablePath === undefined)("administration (needs chromium)", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: executablePath!,
      headless: true,
      args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    });
  });
  afterAll(() => browser?.close());

  test("has no axe violation, no complaint, nothing over the edge, no foreign request", {
    timeout: 900_000,
  }, async () => {
    const at = await governed();
    const found: string[] = [];
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [320, 1280]) {
        // The page's own policy lets no script in; only the test's axe comes past it.
        const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
        const page = await context.newPage();
        const note = (text: string) => found.push(`${colorScheme} ${width} ${new URL(page.url()).pathname}: ${text}`);
        page.on("console", (message) => note(message.text()));
        page.on("request", (request) => {
          if (!request.url().startsWith(at.origin)) note(`asks ${request.url()}`);
        });
        await signIn(page, at.origin, "ada");
        for (const [i, path] of pages.entries()) {
          await page.goto(at.origin + path);
          const wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
          if (await page.evaluate<boolean>(wide)) note("runs over the edge");
          if (pictures !== undefined) {
            mkdirSync(pictures, { recursive: true });
            const name = `admin-${String(i).padStart(2, "0")}-${colorScheme}-${width}.png`;
            await page.screenshot({ path: join(pictures, name), fullPage: true });
          }
          await page.addScriptTag({ path: axePath });
          const violations = await page.evaluate<string[]>(
            `axe.run().then(({ violations }) => violations.flatMap((v) => v.nodes.map((n) => v.id + " " + n.html.slice(0, 120))))`,
          );
          for (const violation of violations) note(violation);
        }
        await context.close();
      }
    }
    expect(found).toEqual([]);
  });

  test("works with JavaScript off: approve, withhold, release, filter", { timeout: 300_000 }, async () => {
    const at = await governed();
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await signIn(page, at.origin, "ada");
    await page.getByRole("link", { name: "Reviews", exact: true }).click();
    await page.getByRole("button", { name: "Approve acme/norm@2.0.0" }).click();
    expect(await page.getByRole("status").textContent()).toBe("It is published.");
    await page
      .getByRole("article", { name: "acme/norm@1.1.0" })
      .getByLabel("Why not")
      .fill("It was built from a branch.");
    await page.getByRole("button", { name: "Reject acme/norm@1.1.0" }).click();
    expect(await page.getByRole("status").textContent()).toBe("It was rejected.");

    await page.getByRole("link", { name: "Quarantine", exact: true }).click();
    await page.getByLabel("Kernel", { exact: true }).fill("acme/norm");
    await page.getByLabel("Version", { exact: true }).fill("2.0.0");
    await page.getByLabel("Reason, shown to everybody").fill("Wrong for odd rows.");
    await page.getByRole("button", { name: "Withhold" }).click();
    expect((await fetch(`${at.origin}/v2/acme/norm/manifests/2.0.0`)).status).toBe(403);
    await page.getByRole("button", { name: "Release acme/norm 2.0.0" }).click();
    expect((await fetch(`${at.origin}/v2/acme/norm/manifests/2.0.0`)).status).toBe(200);

    await page.getByRole("link", { name: "Collection", exact: true }).click();
    await page.getByRole("button", { name: "Try" }).click();
    expect(await page.getByRole("status").textContent()).toContain("Nothing would be removed.");
    await page.getByRole("link", { name: "Audit log", exact: true }).click();
    await page.getByLabel("Action").fill("version.");
    await page.getByRole("button", { name: "Filter" }).click();
    expect(await page.locator("tbody tr").count()).toBe(9);
    await context.close();
  });
});
