// A child that tells what the machine is made of, or does not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { takeInventory } from '../../src/agent/inventory.ts';
import { makeTree } from '../hardware/tree.ts';
import { captureLog, handClock, untilWaiting } from '../store/world.ts';

const printing = (script: string) => [process.execPath, '-e', script] as const;

test('the inventory is taken once a boot, and kept', async (t) => {
  const run = makeTree(t, {});
  const signal = new AbortController().signal;
  const take = async (script: string, { hangs = false } = {}) => {
    const clock = handClock();
    const { log, lines } = captureLog();
    const options = { clock, log, runDirectory: run, argv: printing(script) };
    const taking = takeInventory(options, signal);
    await untilWaiting(clock, taking);
    clock.advance(3 * 60_000);
    if (hangs) {
      await untilWaiting(clock, taking);
      clock.advance(60_000);
    }
    return { inventory: await taking, said: JSON.stringify(lines) };
  };
  for (const [script, hangs, said] of [
    ['console.log("no json")', false, /no JSON/],
    ['process.exit(3)', false, /ended with 3/],
    ['setInterval(() => 0, 1000)', true, /longer than 60 s/],
    ['process.stdout.write("x".repeat(1e6)); setInterval(() => 0, 1000)', false, /larger than/],
  ] as const) {
    const bad = await take(script, { hangs });
    assert.equal(bad.inventory, undefined, script);
    assert.match(bad.said, said);
  }
  const good = await take('console.log(JSON.stringify({ cpu: { brand: "A72" } }))');
  assert.deepEqual(good.inventory, { boot: 'boot-1', cpu: { brand: 'A72' } });
  const kept = await take('process.exit(3)');
  assert.deepEqual(kept.inventory, good.inventory);
});
