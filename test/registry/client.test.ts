/** Our own OCI client against our own registry: everything it can do, over real sockets. */
import { createHash } from "node:crypto";
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { RegistryClient } from "@kernlock/kernels/oci";
import { expect, onTestFinished, test } from "vitest";
import { makePackage, publish, startRegistry } from "../../registry-server/test/material.ts";

function clientOf(origin: string, token?: string): RegistryClient {
  const client = new RegistryClient({ origin, token });
  onTestFinished(() => client.close());
  return client;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "no refusal";
  } catch (error) {
    return (error as { code?: string }).code ?? `untyped: ${String(error)}`;
  }
}

test("pushes streams and reads everything back, by tag and by digest", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const reader = clientOf(at.origin);
  expect(await reader.tags("acme/norm")).toEqual(["1.0.0"]);
  for (const reference of ["1.0.0", pack.digest]) {
    expect(await reader.getManifest("acme/norm", reference)).toMatchObject({
      digest: pack.digest,
      mediaType: mediaTypes.index,
    });
  }
  expect(await reader.referrers("acme/norm", pack.digest, mediaTypes.bundle)).toHaveLength(1);
  const digest = digestOf(pack.payload);
  expect(digestOf(await reader.getBlob("acme/norm", digest))).toBe(digest);

  const writer = clientOf(at.origin, at.write);
  const large = Buffer.alloc(3 << 20, "kernlock");
  async function* chunks() {
    for (let i = 0; i < large.byteLength; i += 100_000) yield large.subarray(i, i + 100_000);
  }
  await writer.putBlob("acme/norm", digestOf(large), { stream: chunks(), size: large.byteLength });
  expect(await writer.hasBlob("acme/norm", digestOf(large))).toBe(true);
  expect(await clientOf(at.origin, at.read).hasBlob("acme/norm", digestOf(large))).toBe(false);
});

test("goes on with a download where it stopped", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const offset = 1234;
  const hash = createHash("sha256").update(pack.payload.subarray(0, offset));
  const parts = [pack.payload.subarray(0, offset)];
  const stream = clientOf(at.origin).blobStream("acme/norm", digestOf(pack.payload), {
    offset,
    hash,
    size: pack.payload.byteLength,
  });
  for await (const chunk of stream) parts.push(Buffer.from(chunk));
  expect(Buffer.concat(parts).equals(pack.payload)).toBe(true);
});

test("the registry's own codes come through the client", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const other = makePackage({ card: "# Other\n" });
  const writer = clientOf(at.origin, at.write);
  expect(await codeOf(writer.putManifest("acme/norm", "1.0.0", other.index, mediaTypes.index))).toBe(
    "KL_REGISTRY_VERSION_EXISTS",
  );
  expect(await codeOf(clientOf(at.origin, at.read).putBlob("acme/norm", digestOf("x"), Buffer.from("x")))).toBe(
    "KL_REGISTRY_TOKEN_SCOPE",
  );
  expect(await codeOf(clientOf(at.origin).getManifest("acme/norm", "2.0.0"))).toMatch(/^KL_(OCI_NOT_FOUND|REGISTRY_)/);
});
