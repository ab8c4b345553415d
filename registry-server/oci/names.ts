import { fail, isPackageName } from "@kernlock/kernels/format";

/** A repository is a package: exactly `namespace/name`. KL_REGISTRY_NAME_INVALID. */
export function repositoryOf(params: { namespace: string; name: string }): { repository: string; namespace: string } {
  const repository = `${params.namespace}/${params.name}`;
  if (!isPackageName(repository)) {
    fail("KL_REGISTRY_NAME_INVALID", "The repository is not a package name.", {
      remedy: "Use `namespace/name`: lower case letters and digits, with single dots, dashes or underscores inside.",
    });
  }
  return { repository, namespace: params.namespace };
}
