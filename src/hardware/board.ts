/**
 * Which board this is.
 * Source: Raspberry Pi documentation, "Raspberry Pi revision codes"; Linux
 * Documentation/ABI/testing/sysfs-firmware-dmi-tables and sysfs-class-dmi.
 */
import { pageBytesOf } from '../linux/proc.ts';
import { draftReading } from './draft.ts';
import type { HardwareSource } from './source.ts';

const PROCESSORS = ['BCM2835', 'BCM2836', 'BCM2837', 'BCM2711', 'BCM2712'];
const NEW_STYLE = 0x80_0000;

export const board: HardwareSource = {
  name: 'board',
  everyMs: 24 * 3_600_000,
  keep: 1,
  types: [],
  async read({ files }) {
    const draft = draftReading(files);
    const tree = '/proc/device-tree';
    const dmi = '/sys/class/dmi/id';
    const made = [await draft.label(`${dmi}/sys_vendor`), await draft.label(`${dmi}/product_name`)];
    draft.fact('model', made.filter((one) => one !== undefined).join(' '));
    await draft.factIn('model', `${tree}/model`);
    await draft.factIn('serial', `${dmi}/product_serial`);
    await draft.factIn('serial', `${tree}/serial-number`);
    const path = `${tree}/system/linux,revision`;
    const revision = await draft.bytes(path);
    if (revision?.length === 4) {
      const code = revision.readUInt32BE();
      draft.fact('revision', code.toString(16));
      if ((code & NEW_STYLE) !== 0) {
        draft.fact('processor', PROCESSORS[(code >>> 12) & 0xf]);
        draft.fact('memory', `${256 << ((code >>> 20) & 0x7)} MiB`);
      }
    } else if (revision !== undefined) {
      draft.trouble(`${path} has ${revision.length} bytes and not 4`);
    }
    await draft.factIn('kernel', '/proc/sys/kernel/osrelease');
    const auxv = await draft.bytes('/proc/self/auxv');
    draft.add('page_size_bytes', pageBytesOf(auxv));
    return draft.done();
  },
  judge: () => [],
};
