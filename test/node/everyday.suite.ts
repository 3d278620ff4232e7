/**
 * limpet on a board, day by day: the real binary, systemd, containerd with its CNI, and the kernel's
 * cgroups, in a virtual node for each containerd. After each case nothing of its pods may be left.
 *
 *   LIMPET_CONTAINERD=2      only this containerd
 *   LIMPET_CASES=regex       only these cases; without it, a share of them with containerd 2
 *   LIMPET_BATCH, LIMPET_KILLS, LIMPET_RUNTIME_KILLS, LIMPET_PODS   see cases/
 *   LIMPET_BOARD=name        a machine to be kept between runs, for work on the cases
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Containerd } from '../../scripts/lib/virtual-node.ts';
import { clear, openBoard, type Board } from './board.ts';
import { badInputCases } from './cases/bad-input.ts';
import type { Cases } from './cases/case.ts';
import { contentCases } from './cases/contents.ts';
import { healthCases } from './cases/health.ts';
import { killCases } from './cases/kills.ts';
import { lifeCases } from './cases/life.ts';
import { mainJobCases } from './cases/main-job.ts';
import { otherDriverCases } from './cases/other-driver.ts';
import { probeCases } from './cases/probes.ts';
import { storageCases } from './cases/storage.ts';
import { usageCases } from './cases/usage.ts';

/** A campaign takes its time: LIMPET_KILLS=50 and the like. */
const CASE_TIMEOUT_MS = process.env['LIMPET_CASES'] === undefined ? 900_000 : 3_600_000;
const BOOT_TIMEOUT_MS = 900_000;

const everywhere: Cases = {
  ...mainJobCases,
  ...contentCases,
  ...lifeCases,
  ...probeCases,
  ...badInputCases,
  ...killCases,
};

const cases = process.env['LIMPET_CASES'];
const wanted = new RegExp(cases ?? '');

/** What does not depend on the runtime's version is shown with one of them, unless it is asked for. */
const versions: Readonly<Record<Containerd, Cases>> = {
  '1.7': { ...everywhere, ...healthCases, ...storageCases, ...usageCases, ...otherDriverCases },
  '2': cases === undefined ? { ...mainJobCases, ...contentCases } : everywhere,
};

const only = process.env['LIMPET_CONTAINERD'];

for (const [containerd, its] of Object.entries(versions) as [Containerd, Cases][]) {
  if (only !== undefined && only !== containerd) continue;
  describe(`containerd ${containerd}`, () => {
    let board: Board;
    let clean: readonly string[] = [];

    before(
      async () => {
        const forwards = [{ host: 0, guest: 8080 }];
        const suite = `everyday-${containerd.replace('.', '-')}`;
        board = await openBoard({ suite, containerd, forwards });
        await clear(board);
        clean = await board.traces();
        assert.deepEqual(clean, []);
      },
      { timeout: BOOT_TIMEOUT_MS },
    );

    after(async () => await board[Symbol.asyncDispose](), { timeout: 60_000 });

    afterEach(
      async () => {
        await clear(board);
        assert.deepEqual(await board.traces(), clean, 'nothing of the pods is left');
      },
      { timeout: 300_000 },
    );

    for (const [name, run] of Object.entries(its)) {
      if (!wanted.test(name)) continue;
      test(name, { timeout: CASE_TIMEOUT_MS }, async () => {
        board.note(name);
        await run(board).catch((error: unknown) => {
          // The runner tells of it only at the end.
          board.note(`FAILED ${name}: ${error instanceof Error ? error.message : String(error)}`);
          throw error;
        });
        board.note(`passed ${name}`);
      });
    }
  });
}
