/**
 * Which disks there are, for the sources that tell of them, and what lies on them.
 * Source: Linux Documentation/ABI/stable/sysfs-block, `slaves`.
 */
import type { Draft } from './draft.ts';

/** Cards, eMMC, NVMe, USB and SATA disks, disks of virtual machines; not their boot partitions. */
const DISK = /^(mmcblk\d+|nvme\d+n\d+|sd[a-z]+|vd[a-z]+)$/;

export async function disks(draft: Draft): Promise<readonly string[]> {
  return (await draft.names('/sys/block')).filter((name) => DISK.test(name));
}

/** Devices between a file system and its disks: RAID of LVM of LUKS of … */
const MAX_BELOW = 64;

/** Those of `all` that a block device (`mmcblk0p2`, `sda`, `dm-0`, `md0`) lies on, or a part of it. */
export async function disksBelow(
  draft: Draft,
  device: string,
  all: readonly string[],
): Promise<readonly string[]> {
  const seen = new Set([device]);
  for (const name of seen) {
    if (seen.size > MAX_BELOW || all.some((disk) => isOn(disk, name))) continue;
    for (const below of await draft.names(`/sys/class/block/${name}/slaves`)) seen.add(below);
  }
  return all.filter((disk) => [...seen].some((name) => isOn(disk, name)));
}

/** Whether `partition` (`mmcblk0p2`, `sda1`, `sda`) is on this disk. */
function isOn(disk: string, partition: string): boolean {
  if (!partition.startsWith(disk)) return false;
  return /^(p?\d+)?$/.test(partition.slice(disk.length));
}
