/** Not in the help: the agent runs it, once a boot, and ends it when it takes too long. */
import { constants, setPriority } from 'node:os';
import { defineCommand } from './command.ts';
import { EXIT } from './exit.ts';

/** Flags of a processor are many, and doctor tells of those that matter. */
const WITHOUT = 'flags';

export const command = defineCommand({
  name: 'inventory',
  usage: '',
  summary: 'Print what the machine is made of, as JSON. It runs tools of the system.',
  options: {},
  examples: [['sudo limpet inventory', 'names of processor, memory, disks and USB devices']],
  async run(_arguments, io) {
    setPriority(constants.priority.PRIORITY_LOW);
    const { default: ask } = await import('systeminformation');
    const found: Record<string, unknown> = {};
    for (const what of [
      'system',
      'baseboard',
      'bios',
      'cpu',
      'memLayout',
      'diskLayout',
      'usb',
    ] as const) {
      found[what] = await ask[what]();
    }
    const leaveOut = (key: string, value: unknown) => (key === WITHOUT ? undefined : value);
    await io.out(`${JSON.stringify(found, leaveOut)}\n`);
    return EXIT.ok;
  },
});
