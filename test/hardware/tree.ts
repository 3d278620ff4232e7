/** Trees of the kernel's files, made of a table. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { filesBelow } from '../../src/hardware/files.ts';
import type { HardwareSource, Reading, Sample, Sight } from '../../src/hardware/source.ts';
import type { Verdict } from '../../src/node/board.ts';

/** Paths without the first slash, and what is in them. */
export type Tree = Readonly<Record<string, string | Uint8Array>>;

export function makeTree(t: TestContext, tree: Tree): string {
  const root = mkdtempSync(join(tmpdir(), 'limpet-board-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(tree)) {
    const full = join(root, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, content);
  }
  mkdirSync(join(root, 'var/lib/limpet'), { recursive: true });
  return root;
}

export const REAL: Clock = systemClock('boot-1', () => 0);

export function sightOf(root: string, over: Partial<Sight> = {}): Sight {
  return {
    files: filesBelow(root, REAL)(),
    isSynchronized: () => true,
    clockSetter: () => 'systemd-timesyncd',
    driveLogs: () => ({}),
    rootDirectory: '/var/lib/limpet',
    earliestWallMs: 0,
    ...over,
  };
}

/** Judges readings one after another, as the agent does. */
export function judgeAll(
  source: HardwareSource,
  readings: readonly Reading[],
): readonly Verdict[][] {
  let samples: readonly Sample[] = [];
  let before: readonly Verdict[] = [];
  return readings.map((reading, index) => {
    const at = { monoMs: index * source.everyMs, wallMs: 1_800_000_000_000, boot: 'boot-1' };
    samples = [...samples, { ...reading, at }].slice(-source.keep);
    before = source.judge({ samples, before }, at);
    return [...before];
  });
}

/** `True TooHot` of each judgement, for one type. */
export function turnsOf(
  source: HardwareSource,
  type: string,
  readings: readonly Reading[],
): readonly string[] {
  return judgeAll(source, readings).map((verdicts) => {
    const found = verdicts.find((one) => one.type === type);
    return found === undefined ? '-' : `${found.status} ${found.reason}`;
  });
}

export function reading(over: Partial<Reading>): Reading {
  return { figures: [], facts: {}, troubles: [], ...over };
}

/** Big-endian, as in a device tree. */
export function word(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** The auxiliary vector of a process with pages of this size. */
export function auxv(pageBytes: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(33n, 4n, 6n, BigInt(pageBytes), 0n, 0n).buffer);
}
