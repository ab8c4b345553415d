/** Which addresses the registry connects to on behalf of a mirror. */
import { lookup as systemLookup } from "node:dns";
import { BlockList, isIPv6, type LookupFunction } from "node:net";
import { KernlockError } from "@kernlock/kernels/format";

const subnets = (list: readonly string[]): BlockList => {
  const block = new BlockList();
  for (const subnet of list) {
    const [address = "", bits] = subnet.split("/");
    block.addSubnet(address, Number(bits), isIPv6(address) ? "ipv6" : "ipv4");
  }
  return block;
};

/** Where nobody's registry is: this host, the link (and with it the metadata of clouds), groups, what is reserved. */
const never = subnets([
  ...["0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"],
  ...["::/128", "fe80::/10", "fec0::/10", "ff00::/8"],
]);
/** Where an operator's own registry may be. 64:ff9b:: and 2002:: hide an IPv4 address. */
const inside = subnets([
  ...["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
  ...["::1/128", "fc00::/7", "64:ff9b::/96", "2002::/16"],
]);

export function isReachable(address: string, privateAddresses: boolean): boolean {
  const family = isIPv6(address) ? "ipv6" : "ipv4";
  // IPv4 inside of IPv6 is checked as IPv4.
  if (never.check(address, family)) return false;
  return privateAddresses || !inside.check(address, family);
}

/**
 * Looks a name up at the moment of connecting and keeps only the addresses that may be connected to, so that a name
 * whose address changes leads nowhere new. A literal address in the declaration is the operator's word and comes by
 * here not at all.
 */
export function guardedLookup(privateAddresses: boolean, lookup: typeof systemLookup = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, "", 0);
      const addresses = found.filter(({ address }) => isReachable(address, privateAddresses));
      const [first] = addresses;
      if (first === undefined) {
        const refusal = new KernlockError("KL_MIRROR_ADDRESS", `"${hostname}" leads to an address that is not asked.`, {
          remedy: "If the upstream is in your own network, declare the mirror with --private-addresses.",
        });
        return callback(refusal as NodeJS.ErrnoException, "", 0);
      }
      if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
