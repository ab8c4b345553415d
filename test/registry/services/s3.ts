/** An S3-compatible server of its own for a test: versitygw over a folder. `npm run tools:registry` builds it. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { DataOptions } from "@kernlock/registry-server";
import { freePort } from "./postgres.ts";
import { toolsFolder } from "./tools.ts";

const program = [toolsFolder, ...(process.env.PATH ?? "").split(delimiter)]
  .map((folder) => join(folder, "versitygw"))
  .find((path) => existsSync(path));

export const hasS3 = program !== undefined;

export type S3 = NonNullable<DataOptions["s3"]>;

export interface TestS3 {
  /** A new, empty bucket. */
  bucket(): S3;
  stop(): Promise<void>;
}

export async function startS3(): Promise<TestS3> {
  const folder = mkdtempSync(join(tmpdir(), "kls3-"));
  const port = await freePort();
  const keys = { accessKey: "kernlock", secretKey: "a secret for tests" };
  const child = spawn(program!, ["--port", `127.0.0.1:${port}`, "posix", folder], {
    env: { ...process.env, ROOT_ACCESS_KEY: keys.accessKey, ROOT_SECRET_KEY: keys.secretKey },
    stdio: "ignore",
  });
  const ended = new Promise<void>((done) => child.on("close", () => done()));
  await answers(port);
  let count = 0;
  return {
    bucket() {
      const bucket = `bucket-${++count}`;
      mkdirSync(join(folder, bucket));
      return { endpoint: `http://127.0.0.1:${port}`, region: "us-east-1", bucket, prefix: "kernels/", ...keys };
    },
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function answers(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const open = await new Promise<boolean>((done) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        done(true);
      }).on("error", () => done(false));
    });
    if (open) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("the S3 server did not start");
}
