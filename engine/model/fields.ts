import { type ErrorCode, fail } from "@kernlock/kernels/format";

export type Json = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads fields of one JSON object. A field that is absent or null takes the fallback; without a fallback, and for a
 * value of the wrong type or out of range, it fails with `code` and names file and field.
 */
export class Fields {
  readonly #object: Json;
  readonly #where: string;
  readonly #code: ErrorCode;

  constructor(object: unknown, where: string, code: ErrorCode) {
    this.#where = where;
    this.#code = code;
    this.#object = isObject(object) ? object : fail(code, `${where} is not an object.`);
  }

  has(name: string): boolean {
    return this.raw(name) !== null;
  }

  raw(name: string): unknown {
    return Object.hasOwn(this.#object, name) ? (this.#object[name] ?? null) : null;
  }

  number(name: string, range: { min: number; max: number; integer?: boolean }, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    if (value === undefined) return this.refuse(name, "is missing");
    if (typeof value !== "number" || (range.integer === true && !Number.isInteger(value))) {
      return this.refuse(name, `is ${shownValue(value)}, not ${range.integer === true ? "an integer" : "a number"}`);
    }
    if (!(value >= range.min && value <= range.max)) {
      return this.refuse(name, `is ${value}, outside ${range.min} to ${range.max}`);
    }
    return value;
  }

  integer(name: string, min: number, max: number, fallback?: number): number {
    return this.number(name, { min, max, integer: true }, fallback);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    return typeof value === "boolean" ? value : this.refuse(name, `is ${shownValue(value)}, not true or false`);
  }

  string(name: string, fallback?: string): string {
    const value = this.raw(name) ?? fallback;
    if (value === undefined) return this.refuse(name, "is missing");
    return typeof value === "string" ? value : this.refuse(name, `is ${shownValue(value)}, not a string`);
  }

  /** A list of strings; absent is empty. */
  strings(name: string): string[] {
    const value = this.raw(name) ?? [];
    if (!Array.isArray(value) || !value.every((v) => typeof v === "string")) {
      return this.refuse(name, "is not a list of strings");
    }
    return value;
  }

  /** A token id, or several; absent is empty. */
  ids(name: string, limit: number): number[] {
    const value = this.raw(name) ?? [];
    const ids: unknown[] = Array.isArray(value) ? value : [value];
    for (const id of ids) {
      if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= limit) {
        return this.refuse(name, `holds ${shownValue(id)}, which is no token id of a vocabulary of ${limit}`);
      }
    }
    return ids as number[];
  }

  refuse(name: string, problem: string): never {
    return fail(this.#code, `${this.#where}: ${name} ${problem}.`, {
      remedy: "Take an unchanged copy of the model, or correct the file.",
      details: { field: name },
    });
  }
}

/** A value in an error message: short, one line. */
export function shownValue(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
