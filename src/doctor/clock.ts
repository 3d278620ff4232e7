/** The wall clock: boards without a battery start in the past. */
import { clockSetter } from '../linux/clock-setter.ts';
import { reporter, type Check } from './machine.ts';

const { ok, degraded, failed } = reporter('clock');
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
    const setter = clockSetter(machine.root);
    if (setter === 'systemd-timesyncd') return [ok(`${shown}, set by ${setter}`)];
    if (setter !== undefined) return [ok(`${shown}, left to ${setter}`)];
    return [
      degraded(
        `${shown}, but nobody has set the clock since the boot`,
        'without network that is how it is; else: timedatectl set-ntp true',
      ),
    ];
  },
};
