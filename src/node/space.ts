/** How a file system stands by what is free on it. */

const MIB = 1024 * 1024;
const FULL_BYTES = 64 * MIB;
/** The kubelet's eviction threshold nodefs.available. */
const LOW_SHARE = 0.1;
const LOW_INODE_SHARE = 0.05;

export type Space = {
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly freeInodes: number;
  /** 0 where there is no such number (btrfs). */
  readonly inodes: number;
};

export const ROOM_REMEDY =
  'make room: sudo journalctl --vacuum-size=50M; sudo apt clean; and remove images that no pod ' +
  'needs: sudo ctr -n k8s.io images ls';

/** `slack`: 1; or more than that for the way back, so that it does not flap. */
export function spaceStanding(
  { freeBytes, totalBytes, freeInodes, inodes }: Space,
  slack = 1,
): 'full' | 'few-inodes' | 'low' | 'ok' {
  if (freeBytes < FULL_BYTES * slack) return 'full';
  if (inodes > 0 && freeInodes / inodes < LOW_INODE_SHARE * slack) return 'few-inodes';
  return freeBytes / totalBytes < LOW_SHARE * slack ? 'low' : 'ok';
}

/** `63 MiB of 29000 MiB free`. */
export function spaceText({ freeBytes, totalBytes }: Space): string {
  return `${Math.floor(freeBytes / MIB)} MiB of ${Math.floor(totalBytes / MIB)} MiB free`;
}
