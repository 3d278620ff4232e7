/**
 * What the firmware of a Raspberry Pi says of power and heat: bits that hold now, and the same since
 * they were asked last. Source: Raspberry Pi documentation, `vcgencmd get_throttled`; Linux of
 * Raspberry Pi, drivers/firmware/raspberrypi.c (hexadecimal, without 0x). Newer ones of its
 * kernels call the file deprecated, once a boot in dmesg, but nothing else there tells of throttling.
 */
import type { Draft } from './draft.ts';
import type { Files } from './files.ts';

const DRIVER = '/sys/bus/platform/drivers/raspberrypi-firmware';
/** Bits 0 to 3 and 16 to 19; newer firmware may set others. */
const ALL_BITS = { min: 0, max: 0xffff_ffff, base: 16 } as const;

export const UNDER_VOLTAGE = 0x1;
export const FREQUENCY_CAPPED = 0x2;
export const THROTTLED = 0x4;
export const SOFT_LIMIT = 0x8;

/** Has it held since it was asked last, if it does not now? */
export function since(bit: number): number {
  return bit * 0x1_0000;
}

/** Undefined where the kernel does not tell. */
export async function readThrottled(draft: Draft): Promise<number | undefined> {
  for (const device of await draft.names(DRIVER)) {
    const value = await draft.number(`${DRIVER}/${device}/get_throttled`, ALL_BITS);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** Whether this is a Raspberry Pi, so that what its kernel does not tell is worth a word. */
export async function isRaspberryPi(files: Files): Promise<boolean> {
  const model = await files.text('/proc/device-tree/model');
  return model.ok && model.value.startsWith('Raspberry Pi');
}
