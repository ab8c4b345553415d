/** Stable error codes: `KL_` and an area. What each means stands in `error-codes.ts`. */
export type ErrorCode = `KL_${string}`;

export interface ErrorOptions {
  /** One sentence on what to do about it. */
  readonly remedy?: string;
  readonly cause?: unknown;
  /** The row of the compatibility matrix that spoke. */
  readonly row?: string;
  /** Facts for machines: numbers, digests, names. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The one error class. `message` says what happened in one sentence; it never holds a secret. */
export class KernlockError extends Error {
  override readonly name = "KernlockError";
  readonly code: ErrorCode;
  readonly remedy: string | undefined;
  readonly row: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
    this.row = options.row;
    this.details = options.details ?? {};
  }

  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      ...(this.remedy === undefined ? {} : { remedy: this.remedy }),
      ...(this.row === undefined ? {} : { row: this.row }),
      ...(Object.keys(this.details).length === 0 ? {} : { details: this.details }),
    };
  }
}

export function fail(code: ErrorCode, message: string, options?: ErrorOptions): never {
  throw new KernlockError(code, message, options);
}
