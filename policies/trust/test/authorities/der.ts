/** A DER writer for test authorities: each function gives the bytes of one value. */
export const tlv = (tag: number, ...parts: Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  const size = body.length < 0x80 ? [] : [...Buffer.from(body.length.toString(16).replace(/^(.(..)*)$/, "0$1"), "hex")];
  return Buffer.concat([
    Buffer.from([tag, ...(size.length > 0 ? [0x80 | size.length, ...size] : [body.length])]),
    body,
  ]);
};
export const seq = (...parts: Uint8Array[]) => tlv(0x30, ...parts);
export const set = (...parts: Uint8Array[]) => tlv(0x31, ...parts);
export const octets = (bytes: Uint8Array) => tlv(0x04, bytes);
export const bits = (bytes: Uint8Array, unused = 0) => tlv(0x03, Buffer.from([unused]), bytes);
export const utf8 = (text: string) => tlv(0x0c, Buffer.from(text));
export const bool = (value: boolean) => tlv(0x01, Buffer.from([value ? 0xff : 0]));
/** Context tag, constructed. */
export const context = (n: number, ...parts: Uint8Array[]) => tlv(0xa0 | n, ...parts);
export const integer = (value: Uint8Array | number) => {
  const bytes = typeof value === "number" ? Buffer.from([value]) : Buffer.from(value);
  return tlv(0x02, bytes[0]! >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
};
const digits = (date: Date): string => date.toISOString().replaceAll(/[-:T]|\.[0-9]+/g, "");
export const generalizedTime = (date: Date) => tlv(0x18, Buffer.from(digits(date)));
/** A time of a certificate: UTCTime until 2049, as RFC 5280 (4.1.2.5) wants it of authorities. */
export const certificateTime = (date: Date) =>
  date.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(digits(date).slice(2))) : generalizedTime(date);
export const oid = (dotted: string) => {
  const [a = 0, b = 0, ...rest] = dotted.split(".").map(Number);
  const arc = (value: number): number[] => {
    const digits = [value & 0x7f];
    for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128))
      digits.unshift((left & 0x7f) | 0x80);
    return digits;
  };
  return tlv(0x06, Buffer.from([a * 40 + b, ...rest.flatMap(arc)]));
};
