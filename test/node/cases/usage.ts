/** What pods use, as limpet tells it, the kernel's files and the runtime. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { compareUsage, usingPods } from '../../../scripts/lib/usage.ts';
import type { Board } from '../board.ts';
import type { Cases } from './case.ts';

async function figures(board: Board): Promise<void> {
  await board.apply(usingPods('using'));
  await board.untilPods('four pods run', (pods) => {
    return pods.filter(({ summary }) => summary === 'Running').length === 4;
  });
  // What they do at first is done: figures that fall again would be neither before nor after.
  await sleep(10_000);
  const compared = await compareUsage(board.node, 'using');
  const wrong = compared.filter(({ agrees }) => !agrees);
  assert.deepEqual(wrong, []);
  for (const by of ['kernel', 'ctr']) {
    assert.ok(compared.filter((one) => one.by === by).length >= 12, `with ${by}`);
  }
  assert.ok(compared.some(({ figure }) => figure === 'nanoCores'));
  const table = await board.sh('limpet top --containers');
  assert.match(table, /^CPU: .*\n(.*\n)+default +using-busy +\d+m .*\n +main +\d+m/);
}

export const usageCases: Cases = { 'what pods use, by the kernel and the runtime': figures };
