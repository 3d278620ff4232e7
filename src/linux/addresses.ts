/** The addresses of this machine. */
import { networkInterfaces } from 'node:os';

/** The first address of each family that others can reach, IPv4 before IPv6. */
export function hostIPs(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const first = (family: 'IPv4' | 'IPv6', local: RegExp) =>
    all.find((one) => one.family === family && !one.internal && !local.test(one.address));
  const found = [first('IPv4', /^169\.254\./), first('IPv6', /^fe[89ab]/i)];
  return found.flatMap((one) => (one === undefined ? [] : [one.address]));
}
