/** The addresses of this machine. */
import { existsSync } from 'node:fs';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { join } from 'node:path';
import { namesIn, readTrimmed } from './files.ts';

type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

/** The first address of each family that others can reach, IPv4 before IPv6. */
export function hostIPs(
  interfaces: Interfaces = networkInterfaces(),
  root = '',
): readonly string[] {
  const all = reachable(interfaces, root);
  const found = [
    all.find(({ family }) => family === 'IPv4'),
    all.find(({ family }) => family === 'IPv6'),
  ];
  return found.flatMap((one) => (one === undefined ? [] : [one.address]));
}

const LINK_LOCAL = /^(169\.254\.|fe[89ab])/i;

/**
 * Addresses that others can reach: those of the interface of the default route first, and none of
 * what only this machine's pods are behind. With the cable out that may be all there is, and it
 * stands for no machine.
 */
export function reachable(
  interfaces: Interfaces = networkInterfaces(),
  root = '',
): readonly NetworkInterfaceInfo[] {
  const first = routeInterface(root);
  const names = Object.keys(interfaces).filter((name) => !isOfPods(name, root));
  const sorted = names.toSorted((a, b) => Number(b === first) - Number(a === first));
  return sorted
    .flatMap((name) => interfaces[name] ?? [])
    .filter(({ internal, address }) => !internal && !LINK_LOCAL.test(address));
}

/** A bridge without a card in it, as the CNI's and Docker's are, or an overlay's end. */
function isOfPods(name: string, root: string): boolean {
  const directory = join(root, '/sys/class/net', name);
  if (/^DEVTYPE=vxlan$/m.test(readTrimmed(join(directory, 'uevent')))) return true;
  if (!existsSync(join(directory, 'bridge'))) return false;
  const ports = namesIn(join(directory, 'brif'));
  // A card has a device below it, a VLAN or a bond another interface.
  return !ports.some((port) =>
    namesIn(join(root, '/sys/class/net', port)).some((file) => /^(device$|lower_)/.test(file)),
  );
}

/** The interface that leads out of here, of IPv4. */
export function routeInterface(root = ''): string | undefined {
  return defaultInterface(readTrimmed(`${root}/proc/net/route`));
}

/** The interface of the default route with the least metric, in the text of `/proc/net/route`. */
export function defaultInterface(route: string): string | undefined {
  const routes = route
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [name, destination, , , , , metric, mask] = line.trim().split(/\s+/);
      const isDefault = destination === '00000000' && mask === '00000000';
      return isDefault && name !== undefined ? [{ name, metric: Number(metric) }] : [];
    });
  return routes.toSorted((a, b) => a.metric - b.metric)[0]?.name;
}
