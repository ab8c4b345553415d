import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["**/*.test.ts"],
    exclude: ["**/node_modules/**", "quickstart/**", ".build/**"],
    expect: { poll: { timeout: 60_000 } },
    pool: "forks",
    maxWorkers: 2,
    // No test is about time: these end what hangs, on a machine that is busy with other things too.
    testTimeout: 240_000,
    hookTimeout: 400_000,
  },
});
