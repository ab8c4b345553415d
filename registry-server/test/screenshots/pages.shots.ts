/** Takes the pictures of the registry's pages that the README shows, of made-up kernels, in real Chromium. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { expect, test } from "vitest";
import { showcase } from "../showcase.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const folder = join(import.meta.dirname, "../../../docs/screenshots");

const pictures: readonly [file: string, path: string, height: number, theme: "light" | "dark"][] = [
  ["home.png", "/", 900, "light"],
  ["kernel.png", "/kernels/acme/norm?cpu=x86-64-v3&gpu=9.0&driver=12.8", 960, "light"],
  ["provenance-dark.png", "/kernels/acme/norm/2.0.0/provenance", 900, "dark"],
  ["versions-dark.png", "/kernels/acme/norm/versions", 620, "dark"],
  ["tests.png", "/kernels/acme/norm/2.0.0/evidence", 1000, "light"],
  ["compare.png", "/kernels/acme/norm/compare?from=1.1.0&to=2.0.0", 900, "light"],
];

test("pictures of the pages", async () => {
  const at = await showcase();
  const browser = await chromium.launch({
    executablePath: executablePath ?? expect.fail("There is no Chromium here."),
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
  try {
    for (const [file, path, height, colorScheme] of pictures) {
      const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height } });
      await page.goto(at.origin + path);
      await page.screenshot({ path: join(folder, file) });
      await page.close();
    }
  } finally {
    await browser.close();
  }
});
