/**
 * File systems that were writable and are not any more: the kernel does that to one with errors.
 * Source: proc(5), mountinfo. What counts are the options of the file system, since a mount that
 * only shows it read-only is nothing unusual. Linux 6.12 and others show `rw` all the same after ext4
 * has stopped for an error, so where it is told to stop (`errors=remount-ro`) an error says it too. An
 * NVMe drive that takes no writes any more says so itself.
 */
import { basename } from 'node:path';
import { parseMountInfo, type MountEntry } from '../linux/proc.ts';
import type { Verdict } from '../node/board.ts';
import { draftReading, type Draft } from './draft.ts';
import { driveHealth, READ_ONLY } from './nvme.ts';
import {
  beforeOf,
  figureOf,
  figuresOf,
  unlessBlind,
  withoutValue,
  type HardwareSource,
  type History,
} from './source.ts';

const TYPE = 'StorageReadOnly';
const WRITABLE = 'file_system_writable';
const DRIVE_WRITABLE = 'drive_writable';
/** Errors of a file system that takes no writes after one. */
const STOPPING = 'file_system_stopping_errors';
const MOUNTS = '/proc/self/mountinfo';

export const readOnly: HardwareSource = {
  name: 'read-only',
  everyMs: 60_000,
  // A few, since a look that fails between two that don't may not hide what turned meanwhile.
  keep: 6,
  types: [TYPE],
  async read({ files, driveLogs }) {
    const draft = draftReading(files);
    for (const [drive, log] of Object.entries(driveLogs())) {
      const health = driveHealth(draft, drive, log);
      if (health === undefined) continue;
      draft.add(DRIVE_WRITABLE, (health.warningBits & READ_ONLY) === 0 ? 1 : 0, drive);
    }
    const text = await draft.text(MOUNTS);
    if (text === undefined) return draft.done();
    const seen = new Set<string>();
    for (const mount of parseMountInfo(text)) {
      const { device, mountPoint, fsType, superOptions } = mount;
      if (!mount.source.startsWith('/dev/') || seen.has(device)) continue;
      if (!/^\d+:\d+$/.test(device) || /^(squashfs|erofs|iso9660)$/.test(fsType)) continue;
      seen.add(device);
      const isWritable = superOptions.includes('rw') && !superOptions.includes('emergency_ro');
      const of = `${mountPoint} (${mount.source})`;
      draft.add(WRITABLE, isWritable ? 1 : 0, of);
      if (fsType !== 'ext4' || !superOptions.includes('errors=remount-ro')) continue;
      const name = await deviceName(draft, mount);
      const errors = `/sys/fs/ext4/${name}/errors_count`;
      draft.add(STOPPING, await draft.number(errors, { min: 0, max: 2 ** 32 - 1 }), of);
    }
    if (seen.size === 0 && !/^\d+ \d+ \d+:\d+ /m.test(text))
      draft.trouble(`${MOUNTS} has no mounts`);
    return draft.done();
  },
  judge(history) {
    const mounts = figuresOf(history, WRITABLE);
    const drives = figuresOf(history, DRIVE_WRITABLE);
    const old = beforeOf(history, TYPE);
    if (mounts.length + drives.length === 0) return withoutValue(history, TYPE);
    const wasLost = (of: string) => old?.subjects?.includes(of) === true;
    const lost = mounts
      .filter(({ value, of = '' }) =>
        value === 0
          ? wasLost(of) || wasWritable(history, of)
          : hasStopped(history, of, wasLost(of)),
      )
      .map(({ of = '' }) => of)
      .toSorted();
    const ended = drives.flatMap(({ value, of = '' }) => (value === 0 ? of : [])).toSorted();
    if (ended.length > 0) {
      const message =
        `${ended.join(', ')} takes no writes any more, since too much of it has failed: what is on it ` +
        'can still be read; make a backup and replace it';
      const subjects = [...lost, ...ended];
      return [{ type: TYPE, status: 'True', reason: 'DriveIsReadOnly', message, subjects }];
    }
    if (lost.length === 0) {
      const message = 'what was writable is';
      const well: Verdict = { type: TYPE, status: 'False', reason: 'Writable', message };
      return unlessBlind(history, well, [WRITABLE, STOPPING, DRIVE_WRITABLE]);
    }
    const message =
      `${lost.join(', ')} can't be written to any more: see dmesg for the reason; after a reboot it is ` +
      'checked; a card that does this again is to be replaced';
    return [{ type: TYPE, status: 'True', reason: 'TurnedReadOnly', message, subjects: lost }];
  },
};

/** It has new errors; or it had, and nobody has mended them. */
function hasStopped(history: History, of: string, before: boolean): boolean {
  const errors = figureOf(history.samples.at(-1), STOPPING, of) ?? 0;
  return before ? errors > 0 : errors > (earlier(history, STOPPING, of) ?? errors);
}

function wasWritable(history: History, of: string): boolean {
  return earlier(history, WRITABLE, of) === 1;
}

/** What the last look before this one that told it has told. */
function earlier({ samples }: History, name: string, of: string): number | undefined {
  const before = samples.slice(0, -1);
  return figureOf(
    before.findLast((sample) => figureOf(sample, name, of) !== undefined),
    name,
    of,
  );
}

/** As sysfs calls it: what is mounted may have another name (`/dev/root`, `/dev/mapper/…`). */
async function deviceName(draft: Draft, { device, source }: MountEntry): Promise<string> {
  const uevent = await draft.text(`/sys/dev/block/${device}/uevent`);
  return /^DEVNAME=([\w-]{1,64})$/m.exec(uevent ?? '')?.[1] ?? basename(source);
}
