/** What a report measured, as it stands in a signed test result: the registry's pages draw it. */
import { fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import type { Subject } from "./attest.ts";

/** The member `measured` of a test result's predicate. */
export interface Measured {
  /** Of the device, where it has one: as it names itself. */
  readonly driver: string | null;
  /** Row-wise ‖out - ref‖₂ / ‖ref‖₂ against a double-precision reference; the worst of all cases of an op. */
  readonly errors: readonly { op: string; cases: number; failed: number; worst: number }[];
  /** `launch` says of what size; `ceiling` is what the device reaches at most, in the same unit. */
  readonly speeds: readonly {
    op: string;
    launch: string;
    unit: "GB/s" | "TFLOP/s" | "tokens/s";
    value: number;
    ceiling: number | null;
  }[];
}

const maxRows = 400;
const kernel = z.looseObject({ name: z.string(), version: z.string(), variant: z.string(), digest: z.string() });
const driverSchema = z.looseObject({ path: z.string(), cuda: z.string() }).nullable();
const selftest = z.looseObject({
  schema: z.literal("kernlock.selftest/v1"),
  driver: driverSchema,
  kernels: z.array(kernel),
  ops: z.array(
    z.looseObject({
      kernel: z.string(),
      op: z.string(),
      cases: z.number(),
      failed: z.number(),
      worst_error: z.number(),
    }),
  ),
});
const rate = z.number().positive().nullable();
const benchOp = z.looseObject({
  schema: z.literal("kernlock.bench.op/v1"),
  device: z.looseObject({ driver: driverSchema }),
  ceiling: z.looseObject({ bytes_per_second: rate, operations_per_second: rate }),
  rows: z.array(
    z.looseObject({
      kernel: z.string(),
      version: z.string(),
      digest: z.string(),
      op: z.string(),
      label: z.string(),
      tokens: z.number(),
      bytes_per_second: z.number().nullable(),
      operations_per_second: z.number().nullable(),
    }),
  ),
});

/** Undefined for a report of another kind. KL_ATTEST_SUBJECT for one that did not measure what the statement is about. */
export function measuredIn(report: Uint8Array, subject: Subject): Measured | undefined {
  let given: unknown;
  try {
    given = parseStrictJson(report, { maxBytes: 8 << 20, maxDepth: 32, what: "The report" });
  } catch (error) {
    if (error instanceof KernlockError) return undefined;
    throw error;
  }
  const { schema } = (given ?? {}) as { schema?: unknown };
  if (schema === "kernlock.selftest/v1") return fromSelftest(readAs(selftest, given), subject);
  if (schema === "kernlock.bench.op/v1") return fromBench(readAs(benchOp, given), subject);
  return undefined;
}

function fromSelftest(found: z.infer<typeof selftest>, subject: Subject): Measured {
  const tested = found.kernels.some((one) => isAbout(subject, one.name, one.digest));
  if (!tested) notMeasured(subject);
  const errors = found.ops
    .filter((one) => one.kernel === subject.index.name)
    .map(({ op, cases, failed, worst_error }) => ({ op, cases, failed, worst: worst_error }));
  return { driver: driverName(found.driver), errors: errors.slice(0, maxRows), speeds: [] };
}

function fromBench(found: z.infer<typeof benchOp>, subject: Subject): Measured {
  const rows = found.rows.filter((row) => isAbout(subject, row.kernel, row.digest));
  if (rows.length === 0) notMeasured(subject);
  const { bytes_per_second: bytes, operations_per_second: operations } = found.ceiling;
  const speeds = rows.flatMap((row): Measured["speeds"] => {
    const { op, label, tokens, bytes_per_second: moved, operations_per_second: done } = row;
    if (moved === null) return [];
    const launch = [tokens === 0 ? "" : `${tokens} ${tokens === 1 ? "row" : "rows"}`, label].filter(Boolean).join(", ");
    // What holds it back is what it comes nearer to.
    const computes = done !== null && operations !== null && bytes !== null && done / operations > moved / bytes;
    return computes
      ? [{ op, launch, unit: "TFLOP/s", value: done / 1e12, ceiling: operations / 1e12 }]
      : [{ op, launch, unit: "GB/s", value: moved / 1e9, ceiling: bytes === null ? null : bytes / 1e9 }];
  });
  return { driver: driverName(found.device.driver), errors: [], speeds: speeds.slice(0, maxRows) };
}

/** By digest, so that figures of another build say nothing here. */
function isAbout({ index, variant }: Subject, name: string, digest: string): boolean {
  const meant = index.variants.filter((entry) => variant === null || entry.variant === variant);
  return name === index.name && meant.some(({ manifest }) => manifest.digest === digest);
}

function notMeasured({ index, variant }: Subject): never {
  return fail(
    "KL_ATTEST_SUBJECT",
    `The report measured no ${variant ?? "variant"} of ${index.name} ${index.version} by its digest.`,
    { remedy: "Measure with a lock that pins this version, or name the variant that was measured." },
  );
}

/** The library's own version stands in its file's name: libcuda.so.580.65.06. */
function driverName(driver: z.infer<typeof driverSchema>): string | null {
  if (driver === null) return null;
  const version = /libcuda\.so\.(\d+(?:\.\d+)+)$/.exec(driver.path)?.[1];
  return version === undefined ? `CUDA ${driver.cuda}` : `${version} (CUDA ${driver.cuda})`;
}

function readAs<T>(shape: z.ZodType<T>, given: unknown): T {
  const read = shape.safeParse(given);
  if (read.success) return read.data;
  return fail("KL_ATTEST_SUBJECT", "The report is not whole.", {
    remedy: "Give the file as `kernlock selftest --evidence` or `kernlock bench op --json` wrote it.",
  });
}
