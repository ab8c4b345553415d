import { defineConfig } from "vitest/config";

/** Long experiments, one after the other, with their figures on stdout: `npm run chaos`, `npm run soak`. */
export default defineConfig({
  test: {
    include: [process.env.KERNLOCK_SOAK === "1" ? "test/registry/chaos/*.soak.ts" : "test/registry/chaos/*.chaos.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 4 * 3600_000,
    // A folder of an hour takes a while to remove.
    hookTimeout: 600_000,
    reporters: ["verbose"],
  },
});
