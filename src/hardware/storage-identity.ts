/**
 * Which disks these are: a card that was swapped, or sold under a false name, is told by this.
 * Source: Linux Documentation/driver-api/mmc/mmc-dev-attrs.rst; nvme's sysfs attributes.
 */
import { disks } from './disks.ts';
import { draftReading } from './draft.ts';
import type { HardwareSource } from './source.ts';

const SECTOR_BYTES = 512;
const MAX_BYTES = 2 ** 53;
const FIELDS = ['type', 'name', 'manfid', 'oemid', 'date', 'fwrev', 'hwrev', 'serial', 'model'];

export const storageIdentity: HardwareSource = {
  name: 'storage-identity',
  everyMs: 3_600_000,
  keep: 1,
  types: [],
  async read({ files }) {
    const draft = draftReading(files);
    for (const disk of await disks(draft)) {
      const sectors = { min: 0, max: MAX_BYTES, scale: SECTOR_BYTES };
      draft.add('disk_size_bytes', await draft.number(`/sys/block/${disk}/size`, sectors), disk);
      for (const field of FIELDS) {
        await draft.factIn(`${disk}.${field}`, `/sys/block/${disk}/device/${field}`);
      }
    }
    return draft.done();
  },
  judge: () => [],
};
