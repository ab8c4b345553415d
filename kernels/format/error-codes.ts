/** Every error code with one line on what it means. One block per area, sorted inside. */
export const errorCodes = {
  // format: JSON, names, digests, variant.json
  // oci: registry client and layout
  // inspect: ELF, cubin, fatbin
  // build
  // bundle, policy, verdict
  // lock, fetch, cache, load
  // plan
  // model folder, tokenizer, template
  // engine
  // registry server
  // command line
} as const satisfies Record<`KL_${string}`, string>;
