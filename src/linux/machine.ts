/** What the Node object tells of this machine, from /etc, /proc, /sys and the network. */
import { statfsSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';

import { Failure } from '../base/failure.ts';
import type { MachineFacts } from '../node/status.ts';
import { reachable, routeInterface } from './addresses.ts';
import { namesIn, readTrimmed } from './files.ts';
import { bootId, cpuCount, kernelVersion, memTotalBytes } from './proc.ts';

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
const PAGE_KIB: Readonly<Record<string, string>> = {
  64: '64Ki',
  2048: '2Mi',
  32768: '32Mi',
  1048576: '1Gi',
};

/** @throws Failure when the kernel does not tell of the memory */
export function machineFacts(): MachineFacts {
  const machineId = readTrimmed('/etc/machine-id') || readTrimmed('/var/lib/dbus/machine-id');
  return {
    machineId,
    systemUuid: readTrimmed('/sys/class/dmi/id/product_uuid') || machineId,
    bootId: bootId(),
    kernelVersion: kernelVersion(),
    osImage: osImageOf(readTrimmed('/etc/os-release') || readTrimmed('/usr/lib/os-release')),
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    cpus: cpuCount(),
    memoryBytes: memTotalBytes(),
    swapBytes: swapBytesOf(readTrimmed('/proc/meminfo')),
    hugepages: hugepagesOf('/sys/kernel/mm/hugepages'),
  };
}

/** PRETTY_NAME in the text of `os-release`. Source: os-release(5) */
export function osImageOf(release: string): string {
  const quoted = /^PRETTY_NAME=(.*)$/m.exec(release)?.[1] ?? '';
  const name = quoted.trim().replace(/^(["'])(.*)\1$/, '$2');
  return name === '' ? 'Linux' : name;
}

export function swapBytesOf(meminfo: string): number {
  return Number(/^SwapTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? 0) * 1024;
}

/** Bytes set aside, by page size. */
export function hugepagesOf(directory: string): Readonly<Record<string, number>> {
  // A kernel without them has no such directory.
  return Object.fromEntries(
    namesIn(directory)
      .toSorted()
      .flatMap((name) => {
        const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
        if (kib === undefined) return [];
        const pages = Number(readTrimmed(join(directory, name, 'nr_hugepages')) || 0);
        return [[PAGE_KIB[kib] ?? `${kib}Ki`, pages * Number(kib) * 1024]];
      }),
  );
}

/** Size of the file system that `path` is on, in bytes; undefined when it can't be read. */
export function fileSystemBytes(path: string): number | undefined {
  try {
    const { blocks, bsize } = statfsSync(path);
    return blocks * bsize;
  } catch {
    return undefined;
  }
}

/**
 * The addresses that the node tells of.
 *
 * @param wanted Of `--node-ip`, one of a family each.
 * @throws Failure InvalidArgument when no interface has a wanted one; NotFound without any
 */
export function nodeAddresses(wanted: readonly string[]): readonly string[] {
  const interfaces = os.networkInterfaces();
  const all = Object.values(interfaces).flatMap((of) => of ?? []);
  for (const address of wanted) {
    if (all.some((one) => one.address === address && !one.internal)) continue;
    const has = all.filter(({ internal }) => !internal).map((one) => one.address);
    throw new Failure(
      'InvalidArgument',
      `no interface has the address ${address} of --node-ip: this machine has ${has.join(', ') || 'none'}`,
    );
  }
  if (wanted.length > 0) return wanted;
  const usable = reachable(interfaces);
  const found = usable.find(({ family }) => family === 'IPv4') ?? usable[0];
  if (found === undefined) {
    const remedy = 'connect the network, or give one with --node-ip';
    throw new Failure('NotFound', `this machine has no address that others can reach: ${remedy}`);
  }
  return [found.address];
}

/** The same, and none instead of a failure: before there is a network there are none. */
export function addressesNow(wanted: readonly string[]): readonly string[] {
  try {
    return nodeAddresses(wanted);
  } catch (error) {
    if (error instanceof Failure) return [];
    throw error;
  }
}

/**
 * Whether what leads out of here is a mobile network, by its interface: a modem's (`wwan`), or one
 * whose name says so. A telephone on a cable is a network card like any other.
 */
export function leadsOverMobile(root = ''): boolean {
  const name = routeInterface(root);
  if (name === undefined || name.includes('/')) return false;
  return (
    /^(wwan|ppp|rmnet)/.test(name) ||
    /^DEVTYPE=wwan$/m.test(readTrimmed(`${root}/sys/class/net/${name}/uevent`))
  );
}
