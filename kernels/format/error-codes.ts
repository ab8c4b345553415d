/** Every error code with one line on what it means. One block per area, sorted inside. */
export const errorCodes = {
  // format: JSON, names, digests, variant.json
  // oci: registry client and layout
  // inspect: ELF, cubin, fatbin
  // build
  KL_ABI_ARGUMENT: "an argument of an op is missing, null or out of its type's range",
  KL_ADDON_BUILD: "a native addon does not compile",
  KL_ADDON_COMPILER: "a native addon has to be built and no C++ compiler was found",
  // bundle, policy, verdict
  // lock, fetch, cache, load
  // plan
  // model folder, tokenizer, template
  // engine
  KL_DEVICE_BUSY: "something was changed or freed that a running program uses",
  KL_DEVICE_CLOSED: "the device, library, program or memory has been closed",
  KL_LOAD_ABI: "a kernel library speaks another version of the ABI",
  KL_LOAD_IDENTITY: "the mapped library is not the file behind the descriptor",
  KL_LOAD_INSTANCE: "a kernel library refused to open an instance on the device",
  KL_LOAD_OPEN: "the system's loader refused a kernel library",
  KL_LOAD_SYMBOL: "a kernel library lacks kl_get_api",
  KL_MEMORY_ALLOCATE: "memory of the wanted size cannot be had",
  KL_MEMORY_MAP: "a file's bytes cannot be mapped",
  KL_MEMORY_RANGE: "a view lies outside its memory",
  KL_OP_FAILED: "an op of a running program reported an error",
  KL_PROGRAM_INVALID: "a program's op index or arguments do not fit the library",
  // registry server
  // command line
} as const satisfies Record<`KL_${string}`, string>;
