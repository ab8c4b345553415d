import { fail } from "@kernlock/kernels/format";

/** One byte range of a `Range` header against `size`; undefined means the whole. KL_REGISTRY_RANGE_INVALID. */
export function parseRange(header: string | undefined, size: number): { start: number; end: number } | undefined {
  if (header === undefined) return undefined;
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim());
  // Several ranges, or another unit: a server may answer with the whole.
  if (match === null || (match[1] === "" && match[2] === "")) return undefined;
  const [, first = "", last = ""] = match;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (start > end || start >= size) {
    fail("KL_REGISTRY_RANGE_INVALID", `The range "${header}" lies outside the ${size} bytes.`, {
      remedy: "Ask for a range inside the blob.",
      details: { size },
    });
  }
  return { start, end };
}

/**
 * What a chunk says about itself: `Content-Range: 0-99` (of OCI; `bytes 0-99/*` is taken too), or only its length.
 * Undefined when it says nothing. KL_REGISTRY_UPLOAD_RANGE when it cannot be read, KL_REGISTRY_LENGTH_MISMATCH when
 * range and length disagree.
 */
export function parseContentRange(
  range: string | undefined,
  contentLength: string | undefined,
): { start: number; length: number } | undefined {
  if (range === undefined) return undefined;
  const match = /^(?:bytes )?(\d{1,15})-(\d{1,15})(?:\/(?:\d{1,15}|\*))?$/.exec(range.trim());
  if (match === null || Number(match[2]) < Number(match[1])) {
    return fail("KL_REGISTRY_UPLOAD_RANGE", `The Content-Range "${range}" cannot be read.`, {
      remedy: "Send `Content-Range: <first>-<last>`.",
    });
  }
  const start = Number(match[1]);
  const length = Number(match[2]) - start + 1;
  if (contentLength !== undefined && Number(contentLength) !== length) {
    fail("KL_REGISTRY_LENGTH_MISMATCH", `Content-Range announces ${length} bytes, Content-Length ${contentLength}.`, {
      remedy: "Announce the length that is sent.",
      details: { range: length, contentLength: Number(contentLength) },
    });
  }
  return { start, length };
}
