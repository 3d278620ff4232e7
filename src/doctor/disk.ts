/** The disk that holds limpet's state: room, and how long it takes to make a write last. */
import { closeSync, fdatasyncSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf, faultOf } from '../base/failure.ts';
import { ROOM_REMEDY, spaceStanding, spaceText } from '../node/space.ts';
import type { Finding } from '../server/api.ts';
import { reporter, type Check, type Machine } from './machine.ts';

const SYNC_ROUNDS = 5;
const SYNC_BYTES = 4096;
const SLOW_MS = 100;

export const spaceCheck: Check = {
  name: 'disk-space',
  run(machine) {
    const path = existing(machine);
    try {
      const { bsize, bavail, blocks, ffree, files } = statfsSync(path);
      return [judgeSpace(path, bavail * bsize, blocks * bsize, ffree, files)];
    } catch (error) {
      return [reporter('disk-space').failed(`cannot look at ${path}: ${faultOf(error).message}`)];
    }
  },
};

/** Judges a file system by what is free for root's programs and what there is in all. */
export function judgeSpace(
  path: string,
  freeBytes: number,
  totalBytes: number,
  freeInodes: number,
  inodes: number,
): Finding {
  const { ok, degraded, failed } = reporter('disk-space');
  const space = { freeBytes, totalBytes, freeInodes, inodes };
  const free = spaceText(space);
  switch (spaceStanding(space)) {
    case 'full':
      return failed(`${path} is full: ${free}`, ROOM_REMEDY);
    case 'few-inodes':
      return degraded(`${path}: ${freeInodes} of ${inodes} inodes left`, ROOM_REMEDY);
    case 'low':
      return degraded(`${path} is nearly full: ${free}`, ROOM_REMEDY);
    case 'ok':
      return ok(`${path}: ${free}`);
  }
}

export const speedCheck: Check = {
  name: 'disk-speed',
  run(machine) {
    const { degraded, failed } = reporter('disk-speed');
    const path = existing(machine);
    try {
      return [judgeSpeed(path, measureSync(machine, join(path, `.limpet-doctor-${process.pid}`)))];
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EACCES' || errno === 'EPERM') {
        return [degraded(`${path}: not measured`, 'run it with sudo')];
      }
      if (errno === 'EROFS') {
        const remedy = 'a card that fails often does this: dmesg | grep -i -e mmc -e ext4';
        return [failed(`${path} is read-only: nothing can be stored`, remedy)];
      }
      return [failed(`cannot write to ${path}: ${faultOf(error).message}`, 'df -h; df -i')];
    }
  },
};

/** Judges how long a small write takes to be durable, in milliseconds. */
export function judgeSpeed(path: string, tookMs: readonly number[]): Finding {
  const { ok, degraded } = reporter('disk-speed');
  const sorted = [...tookMs].sort((a, b) => a - b);
  const median = Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0);
  const message = `${path}: a small write lasts after ${median} ms`;
  if (median <= SLOW_MS) return ok(message);
  const remedy =
    'every start of a container waits for it: use an A1/A2 card, eMMC, USB SSD or NVMe';
  return degraded(`${message}, which is slow`, remedy);
}

function measureSync({ clock }: Machine, path: string): readonly number[] {
  const descriptor = openSync(path, 'wx', 0o600);
  try {
    const data = Buffer.alloc(SYNC_BYTES);
    return Array.from({ length: SYNC_ROUNDS }, (_, round) => {
      const begin = clock.now().monoMs;
      writeSync(descriptor, data.fill(round), 0, SYNC_BYTES, round * SYNC_BYTES);
      fdatasyncSync(descriptor);
      return clock.now().monoMs - begin;
    });
  } finally {
    closeSync(descriptor);
    rmSync(path, { force: true });
  }
}

/** The state directory, or the nearest directory above it while there is none. */
function existing(machine: Machine): string {
  let path = join(machine.root, machine.rootDirectory);
  for (;;) {
    try {
      statfsSync(path);
      return path;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || path === '/') return path;
      path = dirname(path);
    }
  }
}
