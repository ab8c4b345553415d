import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, makePackage, publish, pushAll, putTag, refusal, startRegistry, temporaryFolder } from "./material.ts";

test("the same bytes again are fine, other bytes are refused", async () => {
  const at = await startRegistry();
  const first = makePackage();
  await publish(at, first);
  expect((await putTag(at, first)).status).toBe(201);
  const other = makePackage({ card: "# Other bytes\n" });
  await pushAll(at, other);
  expect(await refusal(putTag(at, other))).toEqual([409, "DENIED", "KL_REGISTRY_VERSION_EXISTS"]);
  const answer = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`);
  expect(answer.headers.get("docker-content-digest")).toBe(first.digest);
});

test("versions, manifests and blobs cannot be deleted", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  for (const path of ["manifests/1.0.0", `manifests/${pack.digest}`, `blobs/${digestOf(pack.payload)}`]) {
    const answer = fetch(`${at.origin}/v2/acme/norm/${path}`, { method: "DELETE", headers: bearer(at.write) });
    expect(await refusal(answer)).toEqual([405, "UNSUPPORTED", "KL_REGISTRY_IMMUTABLE"]);
  }
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(200);
});

test("a version outlives the server", async () => {
  const { createRegistry } = await import("../index.ts");
  const folder = temporaryFolder();
  const pack = makePackage();
  const first = await startRegistry({ dataFolder: folder });
  await publish(first, pack);
  await first.registry.close();
  const second = await createRegistry({ dataFolder: folder });
  try {
    const { origin } = await second.listen();
    const answer = await fetch(`${origin}/v2/acme/norm/manifests/1.0.0`);
    expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(pack.digest);
    const other = makePackage({ card: "# Other bytes\n" });
    await pushAll({ ...first, origin }, other);
    expect((await putTag({ ...first, origin }, other)).status).toBe(409);
  } finally {
    await second.close();
  }
});
