import { expect, test, vi } from "vitest";
import { bearer, refusal, startRegistry } from "./material.ts";

test("logs are structured and never hold a token", async () => {
  let text = "";
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  let at: Awaited<ReturnType<typeof startRegistry>>;
  try {
    at = await startRegistry({ log: "debug" });
    await fetch(`${at.origin}/v2/`, { headers: bearer(at.write) });
    await fetch(`${at.origin}/token?password=${at.write}`);
    await fetch(`${at.origin}/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: at.write }),
    });
    await refusal(fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.read) }));
    await fetch(`${at.origin}/v2/`, { headers: bearer(`${at.write.slice(0, -1)}_`) });
  } finally {
    spy.mockRestore();
  }
  const lines = text.trim().split("\n");
  // Which way bytes go here.
  expect(JSON.parse(lines[0]!)).toMatchObject({ transfers: "native" });
  expect(lines.length).toBeGreaterThan(5);
  for (const line of lines) expect(() => JSON.parse(line), line).not.toThrow();
  expect(text).toContain("KL_REGISTRY_TOKEN_SCOPE");
  expect(text).not.toContain("klr_");
});
