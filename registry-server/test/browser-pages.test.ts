/** Every kind of page in Chromium: both themes, a phone's and a desk's width, with axe and without scripts. */
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { everyPage, insidePages, password, showcase } from "./showcase.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
/** Set to a folder to look at the pages. */
const pictures = process.env.KERNLOCK_SCREENSHOTS;

describe.skipIf(executablePath === undefined)("every page (needs chromium)", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: executablePath!,
      headless: true,
      args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    });
  });
  afterAll(() => browser?.close());

  test.each([
    ["light", 320],
    ["light", 1280],
    ["dark", 320],
    ["dark", 1280],
  ] as const)(
    "%s, %i px wide: no axe violation, no complaint, nothing over the edge, no foreign request",
    {
      timeout: 400_000,
    },
    async (colorScheme, width) => {
      const at = await showcase();
      const found: string[] = [];
      // The page's own policy lets no script in; only the test's axe comes past it.
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
      const page = await context.newPage();
      const note = (text: string) => found.push(`${new URL(page.url()).pathname}: ${text}`);
      page.on("console", (message) => {
        if (!/status of 40[34]/.test(message.text())) note(message.text());
      });
      page.on("request", (request) => {
        if (!request.url().startsWith(at.origin)) note(`asks ${request.url()}`);
      });
      const look = async (name: string) => {
        const wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        if (await page.evaluate<boolean>(wide)) note("runs over the edge");
        if (pictures !== undefined) {
          mkdirSync(pictures, { recursive: true });
          await page.screenshot({ path: join(pictures, `${name}-${colorScheme}-${width}.png`), fullPage: true });
        }
        await page.addScriptTag({ path: axePath });
        const violations = await page.evaluate<string[]>(
          `axe.run().then(({ violations }) => violations.flatMap((v) => v.nodes.map((n) => v.id + " " + n.html.slice(0, 120))))`,
        );
        for (const violation of violations) note(violation);
      };
      for (const [i, path] of everyPage.entries()) {
        await page.goto(at.origin + path);
        await look(String(i).padStart(2, "0"));
      }
      await signIn(page, at.origin);
      for (const [i, path] of insidePages.entries()) {
        await page.goto(at.origin + path);
        await look(`in-${String(i).padStart(2, "0")}`);
      }
      await page.goto(`${at.origin}/namespaces/acme/tokens`);
      await page.getByLabel("Label").fill("laptop");
      await page.getByRole("button", { name: "Make token" }).click();
      await look("in-token");
      await context.close();
      expect(found).toEqual([]);
    },
  );

  test("works with JavaScript off: sign in at the issuer, add a member, revoke a token, sign out", {
    timeout: 120_000,
  }, async () => {
    const at = await showcase();
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(`${at.origin}/namespaces/acme/members`);
    await page.getByRole("link", { name: "Sign in with Example SSO" }).click();
    expect(new URL(page.url()).pathname).toBe("/namespaces/acme/members");
    await page.getByLabel("Known by").selectOption("group");
    await page.getByLabel("Exact value").fill("auditors");
    await page.getByRole("button", { name: "Add" }).click();
    expect(await page.getByRole("row", { name: /auditors/ }).count()).toBe(1);
    await page.getByRole("button", { name: "Remove auditors" }).click();
    expect(await page.getByRole("row", { name: /auditors/ }).count()).toBe(0);
    await page.getByRole("link", { name: "Tokens" }).click();
    await page.getByRole("button", { name: "Revoke ci" }).click();
    expect(await page.getByRole("row", { name: /^ci / }).count()).toBe(0);
    await page.getByRole("button", { name: "Sign out" }).click();
    expect(await page.getByRole("link", { name: "Sign in" }).count()).toBe(1);
    await context.close();
  });

  test("works with JavaScript off: search, narrow, check a machine, compare", { timeout: 300_000 }, async () => {
    const at = await showcase();
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(at.origin);
    await page.getByRole("link", { name: /^cuda/ }).click();
    expect(new URL(page.url()).search).toBe("?backend=cuda");
    await page.getByRole("link", { name: /acme\/norm/ }).click();
    await page.getByLabel("GPU").selectOption("9.0");
    await page.getByLabel("Driver’s CUDA").fill("12.8");
    await page.getByRole("button", { name: "Check" }).click();
    expect(await page.getByRole("status").textContent()).toBe("Yes: linux-x86_64-cuda-sm90a.");
    await page.getByRole("link", { name: "Versions", exact: true }).click();
    await page.locator("select[name=from]").selectOption("1.1.0");
    await page.locator("select[name=to]").selectOption("2.0.0");
    await page.getByRole("button", { name: "Compare" }).click();
    expect(await page.title()).toBe("acme/norm: 1.1.0 to 2.0.0 · Kernlock");
    await context.close();
  });
});

async function signIn(page: Page, origin: string): Promise<void> {
  await page.goto(`${origin}/signin`);
  await page.getByLabel("Account", { exact: true }).fill("ada");
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}
