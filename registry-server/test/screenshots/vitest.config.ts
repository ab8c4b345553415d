import { defineConfig } from "vitest/config";

/** The pictures of the README: `npm run screenshots`. */
export default defineConfig({
  test: { include: ["registry-server/test/screenshots/*.shots.ts"], pool: "forks", testTimeout: 300_000 },
});
