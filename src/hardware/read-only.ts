/**
 * File systems that were writable and are not any more: the kernel does that to one with errors.
 * Source: proc(5), mountinfo. What counts are the options of the file system, since a mount that
 * only shows it read-only is nothing unusual.
 */
import { parseMountInfo } from '../linux/proc.ts';
import { draftReading } from './draft.ts';
import { beforeOf, figuresOf, withoutValue, type HardwareSource, type Sample } from './source.ts';

const TYPE = 'StorageReadOnly';
const WRITABLE = 'file_system_writable';
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
      draft.add(WRITABLE, isWritable ? 1 : 0, `${mountPoint} (${mount.source})`);
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
      .filter(({ value, of = '' }) => value === 0 && (wasLost(of) || wasWritable(earlier, of)))
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

function wasWritable(sample: Sample | undefined, of: string): boolean {
  return sample?.figures.some((one) => one.of === of && one.value === 1) === true;
}
