/** The wall clock: boards without a battery start in the past. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reporter, type Check, type Machine } from './machine.ts';

const { ok, degraded, failed } = reporter('clock');
/** systemd-timesyncd makes this file when it has set the clock. */
const SYNCHRONIZED = '/run/systemd/timesync/synchronized';
/** Other programs that set the clock, by their pid files. */
const OTHERS: readonly (readonly [name: string, path: string])[] = [
  ['chrony', '/run/chrony/chronyd.pid'],
  ['chrony', '/run/chronyd.pid'],
  ['ntpsec', '/run/ntpd.pid'],
];

export const clockCheck: Check = {
  name: 'clock',
  run(machine) {
    const { wallMs } = machine.clock.now();
    const shown = new Date(wallMs).toISOString();
    if (wallMs < machine.earliestWallMs) {
      return [
        failed(
          `the clock says ${shown}, which is before limpet was made`,
          'pods start all the same, but certificates of registries look invalid: ' +
            'wait for the network, or sudo date -s "YYYY-MM-DD hh:mm", or add a clock with a battery',
        ),
      ];
    }
    if (has(machine, SYNCHRONIZED)) return [ok(`${shown}, set by systemd-timesyncd`)];
    const other = OTHERS.find(([, path]) => has(machine, path));
    if (other !== undefined) return [ok(`${shown}, left to ${other[0]}`)];
    return [
      degraded(
        `${shown}, but nobody has set the clock since the boot`,
        'without network that is how it is; else: timedatectl set-ntp true',
      ),
    ];
  },
};

function has(machine: Machine, path: string): boolean {
  return existsSync(join(machine.root, path));
}
