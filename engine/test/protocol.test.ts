import { KernlockError } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { startHost } from "../client/host.ts";
import { type FromHost, frame, frameReader, fromWireError, parseFromHost, wireError } from "../client/protocol.ts";
import { toWire } from "../client/wire.ts";

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof KernlockError ? error.code : String(error);
  }
  return "nothing";
};

describe("frames", () => {
  const messages: [FromHost, Uint8Array][] = [
    [{ type: "ready", driver: null, timeline: [] }, new Uint8Array(0)],
    [{ type: "logits", id: 3, rows: 2 }, Uint8Array.of(1, 2, 3, 4, 5)],
    [{ type: "progress", done: 1, total: 2 }, new Uint8Array(0)],
  ];
  const bytes = Buffer.concat(messages.flatMap(([message, tail]) => frame(message, tail)));

  test.each([1, 3, 8, 1000])("survive any cutting of the stream: %i bytes at a time", (size) => {
    const seen: unknown[] = [];
    const read = frameReader((json, tail) => seen.push([json, tail]));
    for (let i = 0; i < bytes.length; i += size) read(bytes.subarray(i, i + size));
    expect(seen).toEqual(messages);
  });

  test("the tail is a copy", () => {
    const tail = Uint8Array.of(1);
    const parts = frame({ type: "logits", id: 0, rows: 1 }, tail);
    tail[0] = 9;
    expect(parts[2]).toEqual(Uint8Array.of(1));
  });

  test("a length that lies, and what is not JSON, are refused", () => {
    const read = frameReader(() => {});
    expect(code(() => read(Buffer.alloc(8, 255)))).toBe("KL_ENGINE_PROTOCOL");
    expect(code(() => frameReader(() => {})(Buffer.from("\u0001\0\0\0\0\0\0\0x")))).toBe("KL_ENGINE_PROTOCOL");
  });
});

test("what the host says is parsed before it is believed", () => {
  expect(
    parseFromHost({ type: "token", id: 0, token: 5, logprob: null, text: "", channel: null, content: null }),
  ).toEqual({
    type: "token",
    id: 0,
    token: 5,
    logprob: Number.NEGATIVE_INFINITY,
    text: "",
    channel: null,
    content: null,
  });
  for (const wrong of [null, {}, { type: "other" }, { type: "ready", more: 1 }, { type: "logits", id: -1, rows: 1 }]) {
    expect(code(() => parseFromHost(wrong))).toBe("KL_ENGINE_PROTOCOL");
  }
});

test("errors keep code, remedy, row and details on their way", () => {
  const error = new KernlockError("KL_MODEL_SCALE", "m", { remedy: "r", row: "S1", details: { index: 3 } });
  expect(fromWireError(JSON.parse(JSON.stringify(wireError(error))))).toEqual(error);
  expect(wireError(new TypeError("x"))).toEqual({ code: "KL_ENGINE_INTERNAL", message: "x" });
});

test("requests are checked before they go out", () => {
  const prompt = { tokenIds: [1] };
  expect(toWire({ prompt, seed: 2n ** 64n - 1n })).toMatchObject({ seed: "18446744073709551615", sampling: "model" });
  expect(toWire({ prompt }).seed).not.toBe(toWire({ prompt }).seed);
  for (const wrong of [
    { maxNewTokens: -1 },
    { maxNewTokens: 1.5 },
    { seed: 2n ** 64n },
    { sampling: { kind: "sample", temperature: Number.NaN } as const },
    { sampling: { kind: "sample", topP: 2 } as const },
  ]) {
    expect(code(() => toWire({ prompt, ...wrong }))).toBe("KL_ENGINE_REQUEST");
  }
  expect(code(() => toWire({ prompt: {} as typeof prompt }))).toBe("KL_ENGINE_REQUEST");
  expect(code(() => toWire({ prompt: { tokenIds: [1], prompt: "x" } }))).toBe("KL_ENGINE_REQUEST");
});

describe("the host process", () => {
  test("has nothing of the caller's environment, and its death is told with the reason", async () => {
    process.env.KERNLOCK_TEST_SECRET = "x";
    const ended = Promise.withResolvers<KernlockError>();
    const host = startHost({ onMessage: () => {}, onEnd: ended.resolve });
    const { readFileSync } = await import("node:fs");
    expect(readFileSync(`/proc/${host.pid}/environ`, "utf8")).not.toContain("KERNLOCK_TEST_SECRET");
    process.kill(host.pid, "SIGSEGV");
    const reason = await ended.promise;
    expect(reason.code).toBe("KL_ENGINE_DIED");
    expect(reason.message).toContain("SIGSEGV");
  });

  test("ends when the caller closes the channel", async () => {
    const ended = Promise.withResolvers<KernlockError>();
    const host = startHost({ onMessage: () => {}, onEnd: ended.resolve });
    await host.close();
    expect((await ended.promise).code).toBe("KL_ENGINE_CLOSED");
  });
});
