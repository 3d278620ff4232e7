/**
 * Errors that file systems and disks have found in themselves. ext4 keeps its count until a check
 * has mended it. Source: Linux Documentation/ABI/testing/sysfs-fs-ext4; nvme's `state`.
 */
import type { Verdict } from '../node/board.ts';
import { draftReading } from './draft.ts';
import { figuresOf, unlessBlind, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'StorageErrors';
const ERRORS = 'file_system_errors';
const DEAD = 'disk_dead';
const NVME_STATES = [
  'new',
  'live',
  'resetting',
  'connecting',
  'deleting',
  'deleting (no IO)',
  'dead',
];

export const fileSystemErrors: HardwareSource = {
  name: 'file-system-errors',
  everyMs: 60_000,
  keep: 3,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    for (const partition of await draft.names('/sys/fs/ext4')) {
      if (partition === 'features') continue;
      const path = `/sys/fs/ext4/${partition}/errors_count`;
      draft.add(ERRORS, await draft.number(path, { min: 0, max: 2 ** 32 - 1 }), partition);
    }
    for (const disk of await draft.names('/sys/class/nvme')) {
      const path = `/sys/class/nvme/${disk}/state`;
      const state = await draft.text(path);
      if (state === undefined) continue;
      if (NVME_STATES.includes(state)) draft.add(DEAD, state === 'dead' ? 1 : 0, disk);
      else draft.trouble(`${path} is none that is known`);
    }
    return draft.done();
  },
  judge(history) {
    const errors = figuresOf(history, ERRORS);
    const dead = figuresOf(history, DEAD);
    if (errors.length + dead.length === 0) return withoutValue(history, TYPE);
    const faulty = errors.filter(({ value }) => value > 0);
    const gone = dead.filter(({ value }) => value > 0);
    const subjects = [...faulty, ...gone].map(({ of = '' }) => of).toSorted();
    if (subjects.length === 0) {
      const message = 'no file system has found errors';
      const well: Verdict = { type: TYPE, status: 'False', reason: 'NoErrors', message };
      return unlessBlind(history, well, [ERRORS, DEAD]);
    }
    const counts = faulty.map(({ of, value }) => `${of ?? ''}: ${value} errors`);
    const lost = gone.map(({ of }) => `${of ?? ''} does not answer`);
    const message =
      `${[...counts, ...lost].join(', ')}: see dmesg; have it checked at the next boot ` +
      '(fsck.mode=force on the kernel command line), and replace the disk if they come again';
    return [{ type: TYPE, status: 'True', reason: 'ErrorsFound', message, subjects }];
  },
};
