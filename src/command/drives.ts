/** Not in the help: the agent runs it, a few times a day, and leaves it alone when it takes too long. */
import { faultOf } from '../base/failure.ts';
import type { DriveLog } from '../hardware/nvme.ts';
import { openLibc, type Libc } from '../linux/libc.ts';
import { readHealthLog } from '../linux/nvme.ts';
import { defineCommand } from './command.ts';
import { EXIT, usageError } from './exit.ts';

export const command = defineCommand({
  name: 'drives',
  usage: 'DRIVE…',
  summary: 'Print what NVMe drives say of their health, as JSON: the log page 02h as base64.',
  options: {},
  examples: [['sudo limpet drives nvme0', 'the health log of /dev/nvme0']],
  async run({ words }, io) {
    const libc = openLibc();
    const found: Record<string, DriveLog> = {};
    for (const drive of words) {
      if (!/^nvme\d+$/.test(drive)) throw usageError(`${drive} is no NVMe drive such as nvme0`);
      found[drive] = ask(libc, drive);
    }
    await io.out(`${JSON.stringify(found)}\n`);
    return EXIT.ok;
  },
});

function ask(libc: Libc | undefined, drive: string): DriveLog {
  if (libc === undefined) return { error: 'this Node can not call the C library' };
  try {
    return { page: readHealthLog(libc, `/dev/${drive}`).toString('base64') };
  } catch (error) {
    return { error: faultOf(error).message };
  }
}
