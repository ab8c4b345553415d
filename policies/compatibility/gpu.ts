/** Which GPU binaries run on which devices, by NVIDIA's rules for compute capabilities. */
import type { Backend } from "@kernlock/kernels/format";

/** "9.0" -> 90. */
export const capabilityNumber = (capability: string): number => {
  const [major = 0, minor = 0] = capability.split(".").map(Number);
  return major * 10 + minor;
};

/**
 * Whether machine code of an architecture runs on a device. `sm_90a` uses what 9.0 alone has and runs on nothing else;
 * `sm_100f` runs on newer devices of its family too; plain code runs on devices of the same major capability, from its own minor one on.
 */
export function runsOn(architecture: string, capability: string): boolean {
  const match = /^sm_(\d+)([af]?)$/.exec(architecture);
  if (match === null) return false;
  const built = Number(match[1]);
  const device = capabilityNumber(capability);
  if (match[2] === "a") return built === device;
  return Math.floor(built / 10) === Math.floor(device / 10) && built <= device;
}

/**
 * Whether a driver could compile PTX of a target for a device: plain PTX runs on its own capability and every newer one,
 * that of `sm_90a` on 9.0 alone, that of `sm_100f` on its family as machine code does.
 */
export function ptxRunsOn(architecture: string, capability: string): boolean {
  const match = /^sm_(\d+)([af]?)$/.exec(architecture);
  if (match === null) return false;
  return match[2] === "" ? Number(match[1]) <= capabilityNumber(capability) : runsOn(architecture, capability);
}

/** What a backend has for a device: machine code, the PTX target that its driver would compile, or nothing. */
export function codeFor(
  backend: Pick<Extract<Backend, { kind: "cuda" }>, "architectures" | "ptx">,
  capability: string,
): { readonly kind: "machine" } | { readonly kind: "ptx"; readonly target: string } | null {
  if (backend.architectures.some((one) => runsOn(one, capability))) return { kind: "machine" };
  const [target] = backend.ptx
    .filter((one) => ptxRunsOn(one, capability))
    .sort((a, b) => specificity([b]) - specificity([a]));
  return target === undefined ? null : { kind: "ptx", target };
}

/** "sm_80, sm_90a, PTX sm_90": all that a backend has. */
export const codeText = (backend: Pick<Extract<Backend, { kind: "cuda" }>, "architectures" | "ptx">): string =>
  [...backend.architectures, ...backend.ptx.map((one) => `PTX ${one}`)].join(", ");

/** Every architecture whose machine code runs on a device, the most specific first: for 9.0 sm_90a, sm_90f, sm_90. */
export function architecturesOf(capability: string): string[] {
  const device = capabilityNumber(capability);
  const first = Math.floor(device / 10) * 10;
  const minors = Array.from({ length: device - first + 1 }, (_, i) => device - i);
  const specific = device >= 90 ? [`sm_${device}a`, ...minors.map((minor) => `sm_${minor}f`)] : [];
  return [...specific, ...minors.map((minor) => `sm_${minor}`)];
}

/** The name that a device's own machine code has: sm_90a for 9.0, sm_89 for 8.9. */
export const architectureOf = (capability: string): string => architecturesOf(capability)[0]!;

/** Order among architectures that run on one device: the newer, then the more specific. */
export const specificity = (architectures: readonly string[]): number =>
  Math.max(
    ...architectures.map(
      (one) => Number(/\d+/.exec(one)?.[0] ?? 0) * 3 + (one.endsWith("a") ? 2 : one.endsWith("f") ? 1 : 0),
    ),
  );
