/**
 * File systems that were writable and are not any more: the kernel does that to one with errors.
 * Source: proc(5), mountinfo. What counts are the options of the file system, since a mount that
 * only shows it read-only is nothing unusual. Linux 6.12 and others show `rw` all the same after ext4
 * has stopped for an error, so where it is told to stop (`errors=remount-ro`) an error says it too.
 */
import { basename } from 'node:path';
import { parseMountInfo } from '../linux/proc.ts';
import { draftReading } from './draft.ts';
import {
  beforeOf,
  figureOf,
  figuresOf,
  withoutValue,
  type HardwareSource,
  type Sample,
} from './source.ts';

const TYPE = 'StorageReadOnly';
const WRITABLE = 'file_system_writable';
/** Errors of a file system that takes no writes after one. */
const STOPPING = 'file_system_stopping_errors';
const MOUNTS = '/proc/self/mountinfo';

export const readOnly: HardwareSource = {
  name: 'read-only',
  everyMs: 30_000,
  keep: 2,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
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
      const errors = `/sys/fs/ext4/${basename(mount.source)}/errors_count`;
      draft.add(STOPPING, await draft.number(errors, { min: 0, max: 2 ** 32 - 1 }), of);
    }
    if (seen.size === 0 && !/^\d+ \d+ \d+:\d+ /m.test(text))
      draft.trouble(`${MOUNTS} has no mounts`);
    return draft.done();
  },
  judge(history) {
    const mounts = figuresOf(history, WRITABLE);
    const last = history.samples.at(-1);
    const old = beforeOf(history, TYPE);
    if (mounts.length === 0) return withoutValue(history, TYPE);
    const wasLost = (of: string) => old?.subjects?.includes(of) === true;
    const earlier = history.samples.at(-2);
    const lost = mounts
      .filter(({ value, of = '' }) =>
        value === 0
          ? wasLost(of) || wasWritable(earlier, of)
          : hasStopped(last, earlier, of, wasLost(of)),
      )
      .map(({ of = '' }) => of)
      .toSorted();
    // A look that did not see all can't take back what was seen.
    if (last !== undefined && last.troubles.length > 0 && old !== undefined) return [old];
    if (lost.length === 0) {
      const message = 'what was writable is';
      return [{ type: TYPE, status: 'False', reason: 'Writable', message }];
    }
    const message =
      `${lost.join(', ')} can't be written to any more: see dmesg for the reason; after a reboot it is ` +
      'checked; a card that does this again is to be replaced';
    return [{ type: TYPE, status: 'True', reason: 'TurnedReadOnly', message, subjects: lost }];
  },
};

/** It has new errors; or it had, and nobody has mended them. */
function hasStopped(
  last: Sample | undefined,
  earlier: Sample | undefined,
  of: string,
  before: boolean,
): boolean {
  const errors = figureOf(last, STOPPING, of) ?? 0;
  return before ? errors > 0 : errors > (figureOf(earlier, STOPPING, of) ?? errors);
}

function wasWritable(sample: Sample | undefined, of: string): boolean {
  return sample?.figures.some((one) => one.of === of && one.value === 1) === true;
}
