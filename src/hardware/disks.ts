/** Which disks there are, for the sources that tell of them. */
import type { Draft } from './draft.ts';

/** Cards, eMMC, NVMe, USB and SATA disks, disks of virtual machines; not their boot partitions. */
const DISK = /^(mmcblk\d+|nvme\d+n\d+|sd[a-z]+|vd[a-z]+)$/;

export async function disks(draft: Draft): Promise<readonly string[]> {
  return (await draft.names('/sys/block')).filter((name) => DISK.test(name));
}

/** Whether `partition` (`mmcblk0p2`, `sda1`, `sda`) is on this disk. */
export function isOn(disk: string, partition: string): boolean {
  if (!partition.startsWith(disk)) return false;
  return /^(p?\d+)?$/.test(partition.slice(disk.length));
}
