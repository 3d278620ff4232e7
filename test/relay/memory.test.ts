/** Nine days without a broker, in a process of its own with the flags of the executable. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { LIMITS } from '../../src/base/limits.ts';
import { freePorts } from '../../scripts/lib/ports.ts';

const FLAGS = ['--max-semi-space-size=1', '--no-opt', '--no-maglev', '--expose-gc'];

test('the memory is flat, however long nobody hears', async (t) => {
  const program = join(import.meta.dirname, 'outage.ts');
  const [port] = await freePorts(1);
  const said = execFileSync(process.execPath, [...FLAGS, program, String(port)]);
  const { dirty, waiting, dropped } = JSON.parse(said.toString()) as {
    readonly dirty: readonly number[];
    readonly waiting: number;
    readonly dropped: number;
  };
  const shown = dirty.map((bytes) => (bytes / 1e6).toFixed(1)).join(', ');
  t.diagnostic(`private dirty memory: ${shown} MB; ${dropped} rows were dropped`);
  // The outbox is full before half of it.
  assert.equal(waiting, LIMITS.outboxRows);
  const [, half = 0, , end = 0] = dirty;
  assert.ok(end - half <= 2e6, `${shown} MB`);
});
