import { mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openModel } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";
import { copyOf, refusal, temporaryFolder } from "./checkpoints.ts";

const commit = "0123456789abcdef0123456789abcdef01234567";

/** A cache as huggingface_hub lays it out: blobs, and snapshots of links into them. Returns its root. */
function cacheWith(name: string, linkTo = (blob: string): string => `../../blobs/${blob}`): string {
  const hub = temporaryFolder();
  const repo = join(hub, `models--${name.replace("/", "--")}`);
  const snapshot = join(repo, "snapshots", commit);
  for (const folder of [join(repo, "blobs"), join(repo, "refs"), snapshot]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(repo, "refs/main"), commit);
  const source = copyOf("tiny-mxfp4-sharded");
  for (const [i, file] of readdirSync(source).entries()) {
    renameSync(join(source, file), join(repo, "blobs", `blob${i}`));
    symlinkSync(linkTo(`blob${i}`), join(snapshot, file));
  }
  return hub;
}

function opens(name: string, env: Record<string, string>): string {
  const model = openModel(name, env);
  model.close();
  return model.name;
}

describe("a model by name", () => {
  it("is found by HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or HOME", () => {
    const hub = cacheWith("acme/tiny");
    expect(opens("acme/tiny", { HF_HUB_CACHE: hub })).toBe("acme/tiny");
    const home = temporaryFolder();
    mkdirSync(join(home, ".cache/huggingface"), { recursive: true });
    symlinkSync(hub, join(home, ".cache/huggingface/hub"));
    expect(opens("acme/tiny", { HF_HOME: join(home, ".cache/huggingface") })).toBe("acme/tiny");
    expect(opens("acme/tiny", { XDG_CACHE_HOME: join(home, ".cache") })).toBe("acme/tiny");
    expect(opens("acme/tiny", { HOME: home })).toBe("acme/tiny");
  });

  it("is found by revision, name or commit", () => {
    const hub = cacheWith("acme/tiny");
    expect(opens("acme/tiny@main", { HF_HUB_CACHE: hub })).toBe("acme/tiny");
    expect(opens(`acme/tiny@${commit}`, { HF_HUB_CACHE: hub })).toBe("acme/tiny");
    expect(refusal("acme/tiny@other", { HF_HUB_CACHE: hub }).code).toBe("KL_MODEL_NOT_FOUND");
  });

  it("is found by the snapshot's path as well", () => {
    const hub = cacheWith("acme/tiny");
    expect(opens(join(hub, "models--acme--tiny/snapshots", commit), {})).toBe(commit);
  });

  it.each(["acme/other", "acme", "../tiny", "acme/../tiny", "acme/tiny/more", ""])("%j is not found", (name) => {
    const hub = cacheWith("acme/tiny");
    const error = refusal(name === "" ? join(hub, "none") : name, { HF_HUB_CACHE: hub });
    expect(error.code).toBe("KL_MODEL_NOT_FOUND");
  });

  it.each(["../../../escape", "", "deadbeef", "x".repeat(200)])("a reference to %j is none", (text) => {
    const hub = cacheWith("acme/tiny");
    writeFileSync(join(hub, "models--acme--tiny/refs/main"), text);
    expect(refusal("acme/tiny", { HF_HUB_CACHE: hub }).code).toBe("KL_MODEL_NOT_FOUND");
  });
});

describe("links of a snapshot", () => {
  it("must not lead out of the blobs of the same repository", () => {
    const hub = cacheWith("acme/other");
    const outside = join(hub, "models--acme--other/blobs");
    const linked = cacheWith("acme/tiny", (blob) => join(outside, blob));
    expect(refusal("acme/tiny", { HF_HUB_CACHE: linked }).code).toBe("KL_MODEL_SYMLINK");
  });

  it("must lead somewhere", () => {
    const hub = cacheWith("acme/tiny", (blob) => `../../blobs/none-${blob}`);
    expect(refusal("acme/tiny", { HF_HUB_CACHE: hub }).code).toBe("KL_MODEL_FILE");
  });
});
