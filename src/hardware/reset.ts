/**
 * Why the board started: after a watchdog's bite there is something to look for. The watchdog of a
 * Raspberry Pi also carries out each reboot, so there it says no more than what it was not.
 * Source: Linux Documentation/watchdog/watchdog-api.rst and ABI/testing/sysfs-class-watchdog;
 * Raspberry Pi documentation, device tree `chosen/bootloader`; BCM2835 PM_RSTS.
 */
import { draftReading } from './draft.ts';
import { figureOf, SILENT, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'WatchdogReset';
const WATCHDOGS = '/sys/class/watchdog';
/** WDIOF_CARDRESET, both of what a watchdog can tell and of what it tells. */
const CARD_RESET = 0x20;
const WORD = { min: 0, max: 0xffff_ffff };
const HAD_POWER_ON = 0x1000;
const HAD_WATCHDOG = 0x70;

export const reset: HardwareSource = {
  name: 'reset',
  everyMs: 24 * 3_600_000,
  keep: 1,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    for (const name of await draft.names(WATCHDOGS)) {
      if (!/^watchdog\d+$/.test(name)) continue;
      const at = `${WATCHDOGS}/${name}`;
      await draft.factIn('watchdog', `${at}/identity`);
      const seconds = { min: 0, max: 1e6 };
      draft.add('watchdog_timeout_seconds', await draft.number(`${at}/timeout`, seconds), name);
      const options = await draft.number(`${at}/options`, { ...WORD, base: 16 });
      const status = await draft.number(`${at}/bootstatus`, WORD);
      if (status === undefined) continue;
      const tells = status !== 0 || ((options ?? 0) & CARD_RESET) !== 0;
      if (tells) draft.add('watchdog_reset', (status & CARD_RESET) === 0 ? 0 : 1, name);
    }
    const path = '/proc/device-tree/chosen/bootloader/pm_rsts';
    const bytes = await draft.bytes(path);
    if (bytes?.length === 4) draft.fact('last-reset', resetOf(bytes.readUInt32BE()));
    else if (bytes !== undefined) draft.trouble(`${path} has ${bytes.length} bytes and not 4`);
    return draft.done();
  },
  judge(history) {
    const sample = history.samples.at(-1);
    const bites = sample?.figures.filter(({ name }) => name === 'watchdog_reset') ?? [];
    const cause = sample?.facts['last-reset'];
    if (bites.some(({ value }) => value === 1)) {
      const message =
        'the watchdog has reset this board, so it had hung: see journalctl -b -1, and its power supply';
      return [{ type: TYPE, status: 'True', reason: 'ResetByWatchdog', message }];
    }
    if (cause === 'power-on' || bites.length > 0) {
      const message = `the last start was ${cause ?? 'none of the watchdog'}`;
      return [{ type: TYPE, status: 'False', reason: 'NoWatchdogReset', message }];
    }
    if (cause !== undefined) {
      const message = `the last start was ${cause}, and the firmware does not tell which`;
      return [{ type: TYPE, status: 'Unknown', reason: SILENT, message }];
    }
    if (figureOf(sample, 'watchdog_timeout_seconds', 'watchdog0') !== undefined) return [];
    return withoutValue(history, TYPE);
  },
};

function resetOf(word: number): string {
  if ((word & HAD_POWER_ON) !== 0) return 'power-on';
  return (word & HAD_WATCHDOG) !== 0 ? 'a reboot or the watchdog' : 'another reset';
}
