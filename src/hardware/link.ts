/**
 * The board's own network interfaces: whether one has a link, and how good it is.
 * Source: Linux Documentation/ABI/testing/sysfs-class-net; /proc/net/wireless.
 */
import type { Verdict } from '../node/board.ts';
import { draftReading, type Draft } from './draft.ts';
import type { Files } from './files.ts';
import {
  beforeOf,
  figureOf,
  figuresOf,
  isYoung,
  middleOf,
  wasTrue,
  withoutValue,
  type HardwareSource,
  type History,
} from './source.ts';

const DOWN = 'LinkDown';
const POOR = 'LinkPoor';
const EVERY_MS = 30_000;
const WINDOW_MS = 10 * 60_000;
const KEEP = WINDOW_MS / EVERY_MS;
const STATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'];
/** Below this a wireless link is slow and breaks off; the second ends it. */
const WEAK_DBM = -80;
const FAIR_DBM = -74;
const MANY_CHANGES = 6;
const SPEED = 'link_speed_bits_per_second';
const SLOW_BITS = 10e6;
const SLOW = 'SlowLink';
/** Of so many the middle one counts. */
const SIGNALS = 5;
const WEAK = 'WeakSignal';
const FLAPS = 'LinkFlaps';
const IFF_UP = 1;

export const link: HardwareSource = {
  name: 'link',
  everyMs: EVERY_MS,
  keep: KEEP,
  types: [DOWN, POOR],
  async read({ files }) {
    const draft = draftReading(files);
    // Bridges, and a veth for each pod: made of software, with no device behind them.
    const virtual = await draft.names('/sys/devices/virtual/net');
    const all = await draft.names('/sys/class/net');
    const own = all.filter((name) => !virtual.includes(name));
    for (const name of own) await readInterface(draft, files, name);
    if (own.length > 0) await readWireless(draft, own);
    return draft.done();
  },
  judge(history) {
    const links = figuresOf(history, 'link_up');
    if (links.length === 0) {
      return [DOWN, POOR].flatMap((type) => withoutValue(history, type));
    }
    return [judgeDown(history), judgePoor(history)];
  },
};

async function readInterface(draft: Draft, files: Files, name: string): Promise<void> {
  const path = `/sys/class/net/${name}`;
  const state = await draft.text(`${path}/operstate`);
  if (state === undefined) return;
  if (!STATES.includes(state)) return draft.trouble(`${path}/operstate is none that is known`);
  // Some drivers never say.
  const isUp = state === 'up' || state === 'unknown';
  draft.add('link_up', isUp ? 1 : 0, name);
  const flags = await draft.number(`${path}/flags`, { min: 0, max: 0xffff_ffff, base: 16 });
  if (flags !== undefined) draft.add('link_enabled', flags & IFF_UP, name);
  const changes = await draft.number(`${path}/carrier_changes`, { min: 0, max: 2 ** 32 - 1 });
  draft.add('link_changes', changes, name);
  if (!isUp) return;
  // Wireless and virtual ones answer with an error or -1, which says nothing.
  const speed = await files.text(`${path}/speed`);
  if (speed.ok && /^\d{1,7}$/.test(speed.value)) {
    draft.add(SPEED, Number(speed.value) * 1e6, name);
  }
}

/** ` wlan0: 0000   52.  -58.  -256 …`: status, quality, level in dBm, noise. */
async function readWireless(draft: Draft, own: readonly string[]): Promise<void> {
  const path = '/proc/net/wireless';
  for (const line of ((await draft.text(path)) ?? '').split('\n').slice(2)) {
    const [, name, level] = /^\s*(\S+):\s+[\da-f]+\s+-?\d+\.?\s+(-?\d+)\.?\s/.exec(line) ?? [];
    if (name === undefined || level === undefined || !own.includes(name)) continue;
    draft.add('link_signal_dbm', draft.numberIn(level, path, { min: -120, max: 0 }), name);
  }
}

/**
 * No link at all, or none any more where there was one. Two looks in a row, since a cable that is
 * plugged over is no news; an interface that was turned off is not missed.
 */
function judgeDown(history: History): Verdict {
  const type = DOWN;
  const links = figuresOf(history, 'link_up');
  const up = links.flatMap(({ value, of = '' }) => (value === 1 ? of : []));
  const recent = history.samples.slice(-2);
  const isDown = (of: string) =>
    recent.length === 2 && recent.every((sample) => figureOf(sample, 'link_up', of) !== 1);
  const lost = links
    .map(({ of = '' }) => of)
    .filter((of) => isDown(of) && wasUp(history, of) && !isTurnedOff(history, of))
    .toSorted();
  if (up.length === 0 && links.every(({ of = '' }) => isDown(of))) {
    const names = links.map(({ of = '' }) => of).join(', ');
    const message = `no link on ${names}: see to the cable, or to the Wi-Fi`;
    return { type, status: 'True', reason: 'NoLink', message, subjects: lost };
  }
  if (lost.length > 0) {
    const message = `${lost.join(', ')} lost its link: see to the cable, or to the Wi-Fi`;
    return { type, status: 'True', reason: 'LinkLost', message, subjects: lost };
  }
  const old = beforeOf(history, type);
  if (up.length === 0 && old !== undefined) return old;
  const message = up.length === 0 ? 'not known yet' : `${up.join(', ')} up`;
  const reason = up.length === 0 ? 'NotKnownYet' : 'LinkUp';
  return { type, status: up.length === 0 ? 'Unknown' : 'False', reason, message };
}

function wasUp(history: History, of: string): boolean {
  const known = beforeOf(history, DOWN)?.subjects?.includes(of) === true;
  return known || history.samples.some((sample) => figureOf(sample, 'link_up', of) === 1);
}

function isTurnedOff({ samples }: History, of: string): boolean {
  return figureOf(samples.at(-1), 'link_enabled', of) === 0;
}

function judgePoor(history: History): Verdict {
  const type = POOR;
  const was = wasTrue(history, type) ? beforeOf(history, type)?.reason : undefined;
  const sample = history.samples.at(-1);
  const poor = (reason: string, message: string): Verdict => ({
    ...{ type, status: 'True', reason, message },
  });
  for (const { of = '', value: newest } of figuresOf(history, 'link_signal_dbm')) {
    const value = middleOf(history, 'link_signal_dbm', of, SIGNALS) ?? newest;
    if (value > (was === WEAK ? FAIR_DBM : WEAK_DBM)) continue;
    return poor(WEAK, `${of} hears its access point at ${value} dBm: bring them closer`);
  }
  for (const { of = '', value } of figuresOf(history, 'link_changes')) {
    const first = history.samples.map((one) => figureOf(one, 'link_changes', of));
    const changes = value - (first.find((one) => one !== undefined) ?? value);
    const isCalm = was !== FLAPS || !isYoung(history, KEEP);
    if (isCalm && changes < (was === FLAPS ? MANY_CHANGES / 3 : MANY_CHANGES)) continue;
    return poor(FLAPS, `${of} came and went often in the last 10 minutes: see to its cable`);
  }
  for (const { of = '' } of figuresOf(history, SPEED)) {
    const recent = history.samples.slice(-2).flatMap((one) => figureOf(one, SPEED, of) ?? []);
    const isSlow = (speed: number) => speed > 0 && speed <= SLOW_BITS;
    if (!(was === SLOW ? recent.some(isSlow) : recent.every(isSlow))) continue;
    return poor(SLOW, `${of} runs at 10 Mb/s: its cable or its socket is damaged`);
  }
  const shown = (sample?.figures ?? []).flatMap(({ name, of = '', value }) =>
    name === 'link_signal_dbm' ? `${of} ${value} dBm` : [],
  );
  const message = shown.length > 0 ? shown.join(', ') : 'nothing is wrong with it';
  return { type, status: 'False', reason: 'LinkIsGood', message };
}
