/**
 * Room on the disk that limpet and the pods write to, and how long programs wait for disks. Not
 * called DiskPressure, since that of a Node keeps pods away and promises evictions.
 */
import { ROOM_REMEDY, spaceStanding, spaceText } from '../node/space.ts';
import { draftReading } from './draft.ts';
import { readPressure } from './pressure.ts';
import { figureOf, wasTrue, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'StorageFull';
/** So much more than the limit has to be free again. */
const SLACK = 1.2;

export const diskSpace: HardwareSource = {
  name: 'disk-space',
  everyMs: 60_000,
  keep: 3,
  types: [TYPE],
  async read({ files, rootDirectory }) {
    const draft = draftReading(files);
    const found = await files.space(rootDirectory);
    if (found.ok) {
      draft.add('storage_free_bytes', found.value.freeBytes);
      draft.add('storage_size_bytes', found.value.totalBytes);
      draft.add('storage_free_inodes', found.value.freeInodes);
      draft.add('storage_inodes', found.value.inodes);
    } else if (!found.missing) {
      draft.trouble(found.why);
    }
    await readPressure(draft, 'io');
    return draft.done();
  },
  judge(history) {
    const sample = history.samples.at(-1);
    const freeBytes = figureOf(sample, 'storage_free_bytes');
    const totalBytes = figureOf(sample, 'storage_size_bytes');
    if (freeBytes === undefined || totalBytes === undefined) return withoutValue(history, TYPE);
    const freeInodes = figureOf(sample, 'storage_free_inodes') ?? 0;
    const inodes = figureOf(sample, 'storage_inodes') ?? 0;
    const space = { freeBytes, totalBytes, freeInodes, inodes };
    const standing = spaceStanding(space, wasTrue(history, TYPE) ? SLACK : 1);
    const figures = spaceText(space);
    if (standing === 'ok') {
      return [{ type: TYPE, status: 'False', reason: 'RoomLeft', message: figures }];
    }
    const few = `${freeInodes} of ${inodes} inodes left`;
    const message = `${standing === 'few-inodes' ? few : figures}: ${ROOM_REMEDY}`;
    return [{ type: TYPE, status: 'True', reason: 'LittleRoom', message }];
  },
};
