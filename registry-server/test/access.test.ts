/** Who may do what: every kind of token against every kind of request, on a public and on a private namespace. */
import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { bearer, makePackage, pushAll, putTag, refusal, startRegistry, type TestRegistry } from "./material.ts";

async function twoNamespaces(): Promise<{ at: TestRegistry; tokens: Record<string, string | undefined> }> {
  const at = await startRegistry();
  const { policy } = (await at.registry.getNamespace("acme"))!;
  await at.registry.createNamespace({ name: "secret", visibility: "private", policy });
  const make = async (namespace: string, role: "reader" | "publisher") =>
    (await at.registry.createToken({ namespace, role })).token;
  const tokens = {
    nobody: undefined,
    "reader of acme": await make("acme", "reader"),
    "writer of acme": await make("acme", "publisher"),
    "reader of secret": await make("secret", "reader"),
    "writer of secret": await make("secret", "publisher"),
  };
  for (const name of ["acme/norm", "secret/norm"]) {
    const pack = makePackage({ name });
    const token = tokens[`writer of ${name.split("/")[0] as "acme" | "secret"}`];
    await pushAll(at, pack, { token });
    const answer = await putTag(at, pack, token);
    expect(answer.status, await answer.text()).toBe(201);
  }
  return { at, tokens };
}

const expected: Record<string, Record<string, [read: number, write: number]>> = {
  acme: {
    nobody: [200, 401],
    "reader of acme": [200, 403],
    "writer of acme": [200, 202],
    "reader of secret": [200, 403],
    "writer of secret": [200, 403],
  },
  secret: {
    nobody: [401, 401],
    "reader of acme": [403, 403],
    "writer of acme": [403, 403],
    "reader of secret": [200, 403],
    "writer of secret": [200, 202],
  },
  absent: {
    nobody: [401, 401],
    "reader of acme": [403, 403],
    "writer of acme": [403, 403],
    "reader of secret": [403, 403],
    "writer of secret": [403, 403],
  },
};

test("every principal gets what is its own, on every route, and nothing else", async () => {
  const { at, tokens } = await twoNamespaces();
  const payload = digestOf(makePackage().payload);
  for (const [namespace, row] of Object.entries(expected)) {
    const pack = makePackage({ name: `${namespace}/norm` });
    const reads = [
      `/v2/${namespace}/norm/manifests/1.0.0`,
      `/v2/${namespace}/norm/manifests/${pack.digest}`,
      `/v2/${namespace}/norm/blobs/${payload}`,
      `/v2/${namespace}/norm/tags/list`,
      `/v2/${namespace}/norm/referrers/${pack.digest}`,
      `/api/v1/kernels/${namespace}/norm`,
      `/api/v1/kernels/${namespace}/norm/1.0.0`,
    ];
    for (const [who, [read, write]] of Object.entries(row)) {
      const token = tokens[who];
      const headers = token === undefined ? {} : bearer(token);
      for (const path of reads) {
        expect((await fetch(at.origin + path, { headers })).status, `${who} reads ${path}`).toBe(read);
      }
      const post = await fetch(`${at.origin}/v2/${namespace}/norm/blobs/uploads/`, { method: "POST", headers });
      expect(post.status, `${who} writes to ${namespace}`).toBe(write);
      for (const [method, path] of [
        ["PUT", `manifests/${pack.digest}`],
        ["PUT", "manifests/2.0.0"],
        ["DELETE", "manifests/1.0.0"],
        ["DELETE", `blobs/${payload}`],
        ["PATCH", "blobs/uploads/0123"],
        ["PUT", `blobs/uploads/0123?digest=${payload}`],
        ["GET", "blobs/uploads/0123"],
        ["DELETE", "blobs/uploads/0123"],
      ] as const) {
        const { status } = await fetch(`${at.origin}/v2/${namespace}/norm/${path}`, { method, headers });
        if (write === 202) expect([400, 404, 405], `${who}: ${method} ${path}`).toContain(status);
        else expect(status, `${who}: ${method} ${path}`).toBe(write);
      }
    }
  }
});

test("private kernels stay out of search and pages of those who may not read them", async () => {
  const { at, tokens } = await twoNamespaces();
  for (const [who, token] of Object.entries(tokens)) {
    const headers: Record<string, string> = token === undefined ? {} : bearer(token);
    const may = who.endsWith("of secret");
    for (const query of ["", "norm"]) {
      const answer = await fetch(`${at.origin}/api/v1/search?q=${query}`, { headers });
      const names = ((await answer.json()) as { kernels: { name: string }[] }).kernels.map((k) => k.name).sort();
      expect(names, who).toEqual(may ? ["acme/norm", "secret/norm"] : ["acme/norm"]);
      const home = await (await fetch(`${at.origin}/?q=${query}`, { headers })).text();
      expect(home.includes("secret/norm"), who).toBe(may);
    }
    expect((await fetch(`${at.origin}/kernels/secret/norm`, { headers })).status, who).toBe(may ? 200 : 404);
  }
});

test("a private and an absent namespace look the same", async () => {
  const { at, tokens } = await twoNamespaces();
  for (const token of [undefined, tokens["reader of acme"]]) {
    const headers = token === undefined ? {} : bearer(token);
    const [first, second] = await Promise.all(
      ["secret", "absent"].map(async (namespace) => {
        const answer = await fetch(`${at.origin}/v2/${namespace}/norm/manifests/1.0.0`, { headers });
        return [answer.status, await answer.text()];
      }),
    );
    expect(first).toEqual(second);
  }
});

test("a token of the wrong scope is told so", async () => {
  const at = await startRegistry();
  const answer = fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers: bearer(at.read) });
  expect(await refusal(answer)).toEqual([403, "DENIED", "KL_REGISTRY_TOKEN_SCOPE"]);
});

test("a page of another site cannot write with the credentials that a browser holds", async () => {
  const at = await startRegistry();
  const authorization = `Basic ${Buffer.from(`me:${at.write}`).toString("base64")}`;
  for (const site of ["cross-site", "same-site"]) {
    // What a browser adds by itself; undici's fetch would strip it.
    const { statusCode, body } = await at.registry.app.inject({
      method: "POST",
      url: "/v2/acme/norm/blobs/uploads/",
      headers: { authorization, "sec-fetch-site": site },
    });
    expect([statusCode, JSON.parse(body).errors[0].detail.code]).toEqual([403, "KL_REGISTRY_CROSS_SITE"]);
  }
});
