import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makePackage, publish, startRegistry } from "./material.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const hasChromium = executablePath !== undefined;

describe.skipIf(!hasChromium)("the registry's pages in a real browser (needs chromium)", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: executablePath!,
      headless: true,
      args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    });
  });
  afterAll(() => browser?.close());

  /** A page that notes every complaint of the browser and every request. */
  async function open(options: Parameters<Browser["newPage"]>[0] = {}) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
    const complaints: string[] = [];
    const hosts = new Set<string>();
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("requestfailed", (request) => {
      // Going on to the next page cuts what the last one still loaded; that is no complaint.
      const why = request.failure()?.errorText;
      if (why !== "net::ERR_ABORTED") complaints.push(`${why}: ${request.url()}`);
    });
    page.on("request", (request) => hosts.add(new URL(request.url()).host));
    return { page, complaints, hosts };
  }

  const overflows = (page: Page) =>
    page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth");

  test("title, content, no complaint, and no request to another host", async () => {
    const at = await startRegistry();
    const card = "# Norm\n\nIt *normalises*.\n\n![spy](https://evil.example/x.png)\n\n<script>alert(1)</script>\n";
    const pack = makePackage({ card, variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"] });
    await publish(at, pack);
    const { page, complaints, hosts } = await open();

    await page.goto(at.origin);
    expect(await page.title()).toBe("Kernlock: signed compute kernels");
    await page.locator(".hero input").fill("norm");
    await page.locator(".hero button").click();
    expect(await page.title()).toBe("norm · Kernlock");
    await page.getByRole("link", { name: /acme\/norm/ }).click();
    expect(await page.title()).toBe("acme/norm 1.0.0 · Kernlock");
    expect(await page.locator("h1").textContent()).toBe("acme/norm 1.0.0");
    expect(await page.locator(".card em").textContent()).toBe("normalises");
    expect(await page.locator("tbody").first().locator("tr").count()).toBe(2);
    const text = await page.locator("main").textContent();
    for (const part of ["https://builder.example/one", "git.example/norm", "Apache-2.0"]) expect(text).toContain(part);
    expect(await page.locator(".digest").allTextContents()).toContain(pack.digest);
    await page.getByRole("link", { name: "Provenance" }).click();
    expect(await page.locator(".verdict").textContent()).toContain("provenance of the index");

    expect(complaints).toEqual([]);
    expect([...hosts]).toEqual([new URL(at.origin).host]);
    await page.close();
  });

  test.each(["light", "dark"] as const)("on a phone, %s, nothing runs over the edge", async (colorScheme) => {
    const at = await startRegistry();
    await publish(at, makePackage());
    const { page, complaints } = await open({ colorScheme, viewport: { width: 320, height: 700 } });
    for (const path of ["/", "/?q=norm", "/kernels/acme/norm"]) {
      await page.goto(at.origin + path);
      expect(await overflows(page), path).toBe(false);
    }
    const background = await page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    expect(background).toBe(colorScheme === "light" ? "rgb(251, 250, 247)" : "rgb(19, 20, 22)");
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("text has enough contrast in both themes", async () => {
    const at = await startRegistry();
    await publish(at, makePackage());
    for (const colorScheme of ["light", "dark"] as const) {
      const { page } = await open({ colorScheme });
      await page.goto(`${at.origin}/kernels/acme/norm`);
      expect(await page.evaluate<string[]>(lowContrast), colorScheme).toEqual([]);
      await page.close();
    }
  });
});

/** Texts whose contrast to what lies behind them is below 4.5 (WCAG 2 AA); runs in the page. */
const lowContrast = `(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] === undefined || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    if (!node.textContent.trim()) continue;
    const e = node.parentElement;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(node.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return found;
})()`;
