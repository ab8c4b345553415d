import { expect, test } from "vitest";
import {
  digestOf,
  errorCodes,
  isFilePath,
  parseDigest,
  parsePackageName,
  parseVariantKey,
  parseVersion,
} from "../index.ts";

test.each(["kernlock/mxfp4", "a/b", "my-org/fa3.sinks_2"])("package name %s", (name) => {
  expect(parsePackageName(name).name).toBe(name);
});
test.each([
  "mxfp4",
  "a/b/c",
  "A/b",
  "a/b ",
  "a//b",
  "../b",
  "a/.b",
  "a/b-",
  "a/b--c",
  "a/b:1",
  "a/ß",
  "",
  `a/${"b".repeat(200)}`,
])("no package name: %j", (name) => {
  expect(() => parsePackageName(name)).toThrow(expect.objectContaining({ code: "KL_FORMAT_NAME" }));
});

test.each(["0.1.0", "1.2.3-rc.1", "10.20.30-alpha-x.7"])("version %s", (version) => {
  expect(parseVersion(version)).toBe(version);
});
test.each(["1.2", "1.2.3+build", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3 ", "latest", null, 1])(
  "no version: %j",
  (version) => {
    expect(() => parseVersion(version)).toThrow(expect.objectContaining({ code: "KL_FORMAT_VERSION" }));
  },
);

test("variant keys", () => {
  expect(parseVariantKey("linux-x86_64-cuda-sm90a")).toEqual({
    key: "linux-x86_64-cuda-sm90a",
    os: "linux",
    arch: "x86_64",
    backend: "cuda",
    level: "sm90a",
  });
  expect(parseVariantKey("linux-x86_64-cpu").level).toBeNull();
  for (const key of ["linux", "linux-x86_64", "Linux-x86_64-cpu", "linux-x86_64-cpu-v3-more", "linux-x86_64-cpu/"]) {
    expect(() => parseVariantKey(key)).toThrow(expect.objectContaining({ code: "KL_FORMAT_VARIANT_KEY" }));
  }
});

test("digests", () => {
  expect(digestOf("")).toBe("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  for (const digest of [
    "sha256:abc",
    `sha512:${"a".repeat(64)}`,
    `sha256:${"A".repeat(64)}`,
    `sha256:${"a".repeat(64)}\n`,
  ]) {
    expect(() => parseDigest(digest)).toThrow(expect.objectContaining({ code: "KL_FORMAT_DIGEST" }));
  }
});

test("file paths are plain and relative", () => {
  for (const path of ["a.so", "LICENSE", "lib/a-b_c.1+2.so"]) expect(isFilePath(path)).toBe(true);
  const bad = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "./a",
    ".hidden",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "ä",
    "a/".repeat(9),
  ];
  for (const path of bad) expect(isFilePath(path)).toBe(false);
});

test("every error code has a form and a meaning", () => {
  for (const [code, meaning] of Object.entries(errorCodes)) {
    expect(code).toMatch(/^KL_[A-Z0-9]+(?:_[A-Z0-9]+)*$/);
    expect(meaning.length).toBeGreaterThan(10);
  }
});
