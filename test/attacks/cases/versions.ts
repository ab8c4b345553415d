import { digestOf } from "@kernlock/kernels/format";
import { type Attack, everywhere, inspected, type Loose, type Twist } from "../attack.ts";
import { libraries, sizeAndDigest, v4 } from "../pack.ts";

type Row = [number: Attack["number"], name: string, refused: `KL_${string}` | Attack["refused"], twist: Twist];

const text = (document: Loose, from: string | RegExp, to: string) =>
  Buffer.from(JSON.stringify(document).replace(from, to));
const path = (value: string): Twist => ({
  config: (v) => {
    v.files[1].path = value;
    v.ops[0].file = value;
  },
});
const title = (value: string): Twist => ({
  manifest: (m) => (m.layers[1].annotations["org.opencontainers.image.title"] = value),
});
const annotation = (key: string, value: string): Twist => ({ index: (i) => (i.annotations[key] = value) });
const file = (n: number) => ({ path: `z${n}.txt`, kind: "license", ...sizeAndDigest(Buffer.from(`${n}`)) });
const layer = (n: number, of: { digest: string; size: number }) => ({
  mediaType: "application/vnd.kernlock.file.v1",
  digest: of.digest,
  size: of.size,
  annotations: { "org.opencontainers.image.title": `z${n}.txt` },
});
const shape = "KL_VARIANT_SHAPE";

const nameRows: Row[] = [
  [1, "a path that climbs", shape, path("../x.so")],
  [2, "an absolute path", shape, path("/etc/ld.so.preload")],
  [3, "a path that climbs in its middle", shape, path("a/../../x.so")],
  [4, "a path with backslashes", shape, path("..\\x.so")],
  [
    9,
    "one path twice, of which the last would win",
    "KL_VARIANT_FILE_ORDER",
    { config: (v) => v.files.push({ ...v.files[1], ...sizeAndDigest(libraries().other) }) },
  ],
  [9, "one path twice in the manifest", "KL_OCI_MANIFEST", { manifest: (m) => m.layers.push(m.layers[1]) }],
  [10, "a path in letters that normalise", shape, path("caf\u00e9.so")],
  [16, "a path with a newline", shape, path("norm.so\nx")],
  [16, "a path with a NUL", shape, path("norm.so\u0000.txt")],
  [
    19,
    "more files than a variant may have",
    shape,
    { config: (v) => v.files.push(...Array.from({ length: 300 }, (_, n) => file(n))) },
  ],
  [20, "a path that is very long", shape, path(`${"a".repeat(300)}.so`)],
  [20, "a path that is very deep", shape, path(`${"a/".repeat(20)}x.so`)],
  [20, "a hidden file's name", shape, path(".bashrc")],
  [20, "an empty part in a path", shape, path("a//x.so")],
  ["own", "a climbing title of a layer", "KL_OCI_MANIFEST", title("../norm.so")],
  ["own", "a title that looks like a home folder", "KL_OCI_MANIFEST", title("~/norm.so")],
  [
    78,
    "a name in capitals",
    everywhereBut("KL_OCI_INDEX", { lock: "KL_OCI_INDEX" }),
    annotation("dev.kernlock.name", "Acme/norm"),
  ],
  [78, "a name with a Cyrillic letter", "KL_OCI_INDEX", annotation("dev.kernlock.name", "\u0430cme/norm")],
  [78, "a variant.json for a name with a Cyrillic letter", shape, { config: (v) => (v.package = "acme/n\u043erm") }],
];

const versionRows: Row[] = [
  [
    24,
    "a file in the manifest that variant.json does not name",
    "KL_OCI_FILE_UNLISTED",
    { manifest: (m) => m.layers.push(layer(1, m.layers[0])) },
  ],
  [
    24,
    "a file of variant.json that the manifest does not hold",
    "KL_OCI_FILE_MISSING",
    { manifest: (m) => m.layers.shift() },
  ],
  [
    25,
    "the same variant.json in another spelling, under the old digest",
    {
      publish: "KL_REGISTRY_MANIFEST_INCOMPLETE",
      lock: "KL_OCI_NOT_FOUND",
      verify: "KL_LOCK_CONFIG",
      load: "KL_LOCK_CONFIG",
    },
    { manifest: (m) => Object.assign(m.config, { digest: digestOf("another spelling"), size: m.config.size + 1 }) },
  ],
  [
    73,
    "a layer of the other variant",
    "KL_OCI_FILE_DIFFERS",
    { manifest: (m) => Object.assign(m.layers[1], sizeAndDigest(libraries().other)) },
  ],
  [
    73,
    "manifests swapped between variants in the index",
    everywhereBut("KL_OCI_CONFIG_DIFFERS", { verify: "KL_LOCK_VARIANT", load: "KL_LOCK_VARIANT" }),
    { index: swapManifests },
  ],
  [
    73,
    "manifests swapped between variants in index and lock",
    { verify: "KL_OCI_CONFIG_DIFFERS", load: "KL_OCI_CONFIG_DIFFERS" },
    { index: swapManifests, lock: swapLocked },
  ],
  [
    73,
    "a variant.json for the other variant",
    "KL_OCI_CONFIG_DIFFERS",
    { config: (v) => Object.assign(v, { variant: v4, backend: { kind: "cpu", level: "x86-64-v4" } }) },
  ],
  ["own", "a variant.json of another package", "KL_OCI_CONFIG_DIFFERS", { config: (v) => (v.package = "acme/other") }],
  ["own", "a variant.json of another version", "KL_OCI_CONFIG_DIFFERS", { config: (v) => (v.version = "0.9.0") }],
  [
    "own",
    "a key that says another level than the backend",
    "KL_VARIANT_KEY",
    { config: (v) => (v.backend.level = "x86-64-v2") },
  ],
  [
    "own",
    "a key that says CPU over a GPU backend",
    "KL_VARIANT_KEY",
    { config: (v) => (v.backend = { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" }) },
  ],
  [37, "a variant.json with one key twice", "KL_JSON_DUPLICATE_KEY", { config: (v) => text(v, "{", '{"abi":1,') }],
  [
    37,
    "a manifest with one key twice",
    "KL_JSON_DUPLICATE_KEY",
    { manifest: (m) => text(m, "{", '{"schemaVersion":1,') },
  ],
  [37, "an index with one key twice", "KL_JSON_DUPLICATE_KEY", { index: (i) => text(i, "{", '{"schemaVersion":1,') }],
  [
    "own",
    "a key spelt with an escape, to be there twice",
    "KL_JSON_DUPLICATE_KEY",
    { config: (v) => text(v, "{", '{"\\u0061bi":1,') },
  ],
  ["own", "a key __proto__", "KL_JSON_KEY", { config: (v) => text(v, "{", '{"__proto__":{"abi":0},') }],
  [
    "own",
    "a variant.json nested too deeply",
    "KL_JSON_DEPTH",
    { config: (v) => text(v, '"license":', `"x":${"[".repeat(5000)}${"]".repeat(5000)},"license":`) },
  ],
  ["own", "a number that no double holds", "KL_JSON_NUMBER", { config: (v) => text(v, '"abi":0', '"abi":1e999') }],
  [
    "own",
    "a size that a double rounds",
    "KL_JSON_NUMBER",
    { config: (v) => text(v, /"size":[0-9]+/, '"size":9007199254740993') },
  ],
  ["own", "bytes after variant.json", "KL_JSON_TRAILING", { config: (v) => Buffer.from(`${JSON.stringify(v)}{}`) }],
  ["own", "a lone surrogate", "KL_JSON_UTF8", { config: (v) => text(v, '"license":"', '"license":"\\ud800') }],
  [
    "own",
    "bytes that are no UTF-8",
    "KL_JSON_UTF8",
    { config: (v) => Buffer.concat([Buffer.from(JSON.stringify(v)), Buffer.from([0xff])]) },
  ],
  ["own", "an unknown field of variant.json", shape, { config: (v) => (v.postinstall = "x") }],
  ["own", "a file of a kind that is not known", shape, { config: (v) => (v.files[1].kind = "script") }],
  ["own", "a size below zero", shape, { config: (v) => (v.files[1].size = -1) }],
  [
    "own",
    "an op of a file that is no payload",
    "KL_VARIANT_FILE_UNKNOWN",
    { config: (v) => (v.ops[0].file = "README.md") },
  ],
  ["own", "an op that says it covers more", "KL_VARIANT_COVERS", { config: (v) => (v.ops[0].covers = ["norm"]) }],
  ["own", "an op declared twice", "KL_VARIANT_OP_DUPLICATE", { config: (v) => v.ops.push(v.ops[0]) }],
  [
    "own",
    "an op with facts that its arguments cannot have",
    "KL_VARIANT_OP_FACTS",
    { config: (v) => (v.ops[0].layouts = ["bf16.rows"]) },
  ],
  [
    "own",
    "a workspace of more than a machine has",
    shape,
    { config: (v) => (v.ops[0].workspace.scratch = [{ bytes: 2 ** 50, dims: [] }]) },
  ],
  [
    "own",
    "launch data for a shared object",
    "KL_VARIANT_LAUNCH",
    { config: (v) => (v.ops[0].launch = { absent_rows: "untouched", steps: [step()] }) },
  ],
  [
    "own",
    "a device image in a CPU variant",
    "KL_VARIANT_LAUNCH",
    { config: (v) => (v.files[1].kind = "device-image") },
  ],
  [
    "own",
    "a layer that is an archive",
    "KL_OCI_MEDIA_TYPE",
    { manifest: (m) => (m.layers[1].mediaType = "application/vnd.oci.image.layer.v1.tar+gzip") },
  ],
  [
    "own",
    "a manifest that says it is a container image",
    "KL_OCI_MEDIA_TYPE",
    { manifest: (m) => (m.artifactType = "application/vnd.oci.image.config.v1+json") },
  ],
  [
    "own",
    "an index that says it is something else",
    "KL_OCI_MEDIA_TYPE",
    { index: (i) => (i.artifactType = "application/vnd.example") },
  ],
  ["own", "an unknown field of the index", "KL_OCI_INDEX", { index: (i) => (i.urls = ["https://evil.example"]) }],
  [
    "own",
    "an address in a descriptor",
    "KL_OCI_MANIFEST",
    { manifest: (m) => (m.layers[1].urls = ["https://evil.example/x.so"]) },
  ],
  ["own", "data inside of a descriptor", "KL_OCI_MANIFEST", { manifest: (m) => (m.layers[1].data = "AAAA") }],
  ["own", "one variant twice in the index", "KL_OCI_INDEX", { index: (i) => i.manifests.push(i.manifests[0]) }],
  ["own", "an index without variants", "KL_OCI_INDEX", { index: (i) => (i.manifests = []) }],
  [
    "own",
    "an index with the size of a manifest wrong",
    {
      publish: "KL_REGISTRY_MANIFEST_INCOMPLETE",
      lock: "KL_LOCK_VARIANT",
      verify: "KL_LOCK_VARIANT",
      load: "KL_LOCK_VARIANT",
    },
    { index: (i) => i.manifests[0].size++ },
  ],
  [
    "own",
    "a manifest with the size of a layer wrong",
    {
      publish: "KL_REGISTRY_MANIFEST_INCOMPLETE",
      lock: "KL_OCI_FILE_DIFFERS",
      verify: "KL_OCI_FILE_DIFFERS",
      load: "KL_OCI_FILE_DIFFERS",
    },
    { manifest: (m) => m.layers[1].size++ },
  ],
  [
    "own",
    "the index of another package under this one's tag",
    { publish: "KL_REGISTRY_MANIFEST_INVALID", lock: "KL_LOCK_INDEX", verify: "KL_LOCK_INDEX", load: "KL_LOCK_INDEX" },
    annotation("dev.kernlock.name", "acme/other"),
  ],
  [
    70,
    "the index of an older version under a newer tag",
    { publish: "KL_REGISTRY_VERSION_INVALID", lock: "KL_LOCK_INDEX", verify: "KL_LOCK_INDEX", load: "KL_LOCK_INDEX" },
    annotation("org.opencontainers.image.version", "0.9.0"),
  ],
  [
    "own",
    "another source than was locked",
    { publish: "KL_VERDICT_SOURCE", lock: "KL_VERDICT_SOURCE", verify: "KL_LOCK_SOURCE", load: "KL_LOCK_SOURCE" },
    annotation("org.opencontainers.image.source", "https://git.example/fork"),
  ],
  [
    104,
    "an ABI that is newer than this program's",
    { load: "KL_LOAD_ABI_VERSION" },
    { config: (v, _at) => (v.abi = 1), lock: (l) => (l.kernels["acme/norm"].abi = 1) },
  ],
  [
    104,
    "an ABI that differs from the lock's",
    { lock: "KL_LOCK_ABI", verify: "KL_LOCK_ABI", load: "KL_LOCK_ABI" },
    { config: (v) => (v.abi = 1) },
  ],
  [
    104,
    "a kernel compiled against another header",
    { load: "KL_LOAD_ABI_BUILD" },
    { config: (v) => (v.abi_build = digestOf("another header")) },
  ],
  [
    "own",
    "a CPU level that this machine has not",
    { load: "KL_LOAD_NO_VARIANT" },
    { machine: { cpu: { level: "x86-64-v2" } } },
  ],
  [
    "own",
    "another C library on this machine",
    { load: "KL_LOAD_NO_VARIANT" },
    { machine: { libc: { family: "musl", version: "1.2" } } },
  ],
  [
    "own",
    "an older C library on this machine",
    { load: "KL_LOAD_NO_VARIANT" },
    { machine: { libc: { family: "glibc", version: "2.36" } } },
  ],
];

function everywhereBut(code: `KL_${string}`, others: Attack["refused"]): Attack["refused"] {
  return { ...everywhere(code), ...others };
}

function swapManifests(index: Loose): void {
  const [a, b] = index.manifests;
  for (const field of ["digest", "size"]) [a[field], b[field]] = [b[field], a[field]];
}

function swapLocked(lock: Loose): void {
  const [a, b] = lock.kernels["acme/norm"].variants;
  for (const field of ["manifest", "config"]) [a[field], b[field]] = [b[field], a[field]];
}

function step() {
  return { file: "norm.so", entry: "copy", grid: [[], [], []], block: [32, 1, 1], shared_bytes: 0, params: [] };
}

const toAttacks = (area: Attack["area"], rows: readonly Row[]): Attack[] =>
  rows.map(([number, name, refused, twist]) => ({
    number,
    name,
    area,
    refused: typeof refused === "string" ? everywhere(refused) : refused,
    how: () => twist,
  }));

const python: Attack = {
  number: 108,
  name: "Python among the files that are loaded",
  area: "versions",
  refused: inspected("KL_ELF_MAGIC"),
  how: () => ({ payload: Buffer.from(`import os\n${"# ".repeat(100)}`) }),
};

export const nameAttacks: readonly Attack[] = toAttacks("names", nameRows);
export const versionAttacks: readonly Attack[] = [...toAttacks("versions", versionRows), python];
