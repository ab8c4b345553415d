/**
 * Programs of others, at fixed versions: built once from the Go module proxy and kept, or found on this machine.
 * What cannot be had is null, and its rows of the table say so.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/project.ts";

const folder = join(root, ".build", "peers");

const modules = {
  cosign: "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3",
  oras: "oras.land/oras/cmd/oras@v1.3.6",
  crane: "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
  fulcio: "github.com/sigstore/fulcio@v1.8.8",
  "timestamp-server": "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server@v2.1.3",
  // Rekor v2 on a folder; its program has the name of what it stores on.
  posix: "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix@v2.3.0",
} as const;

export type Tool = keyof typeof modules | "skopeo";

export interface Found {
  readonly path: string;
  readonly version: string;
}

/** With `build`, a program that is missing is built first; cosign takes some minutes. */
export function find(tool: Tool, build: boolean): Found | null {
  if (tool === "skopeo") {
    const asked = spawnSync("skopeo", ["--version"], { encoding: "utf8" });
    return asked.status === 0 ? { path: "skopeo", version: asked.stdout.replace("skopeo version", "").trim() } : null;
  }
  const path = join(folder, tool);
  const [, version = ""] = modules[tool].split("@v");
  if (existsSync(path)) return { path, version };
  if (!build) return null;
  mkdirSync(folder, { recursive: true });
  console.log(`building ${modules[tool]}`);
  const built = spawnSync("go", ["install", "-trimpath", "-ldflags", "-s -w", modules[tool]], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, GOBIN: folder, CGO_ENABLED: "0" },
  });
  return built.status === 0 ? { path, version } : null;
}
