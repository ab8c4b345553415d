/** Which versions of a package a mirror brings when somebody lists it. */
import { isVersion } from "@kernlock/kernels/format";
import semver from "semver";

const maxLines = 10;

/**
 * The lines of a package that ranges such as `^1.2.0` choose from (a major version, or a minor one below 1.0.0), newest
 * first, each from its highest version down. Prereleases are a line of their own where there is nothing else.
 */
export function linesOf(tags: readonly string[]): readonly (readonly string[])[] {
  const versions = semver.rsort(tags.filter(isVersion));
  const releases = versions.filter((version) => semver.prerelease(version) === null);
  if (releases.length === 0) return versions.length === 0 ? [] : [versions];
  const lines = new Map<string, string[]>();
  for (const version of releases) {
    const { major, minor } = semver.parse(version)!;
    const line = major > 0 ? `${major}` : `0.${minor}`;
    lines.set(line, [...(lines.get(line) ?? []), version]);
  }
  return [...lines.values()].slice(0, maxLines);
}
