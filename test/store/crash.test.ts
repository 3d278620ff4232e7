import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { seededRandom } from '../../src/base/random.ts';
import { modelOf, replay } from './crash-script.ts';
import { open, place } from './world.ts';

const KILLS = Number(process.env['LIMPET_TEST_KILLS'] ?? 50);

test(`killed ${KILLS} times at a random moment, no acknowledged write is lost`, async (t) => {
  const where = place(t, 'disk');
  const random = seededRandom(7);
  let steps = 0;
  let inDoubt = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const acked = await writeUntilKilled(
      where.directory,
      where.podsDirectory,
      steps,
      random.next(),
    );
    using store = open(where);
    assert.ok(['new', 'unclean', 'clean'].includes(store.opening.state), store.opening.message);
    const seen = JSON.stringify(modelOf(store));
    // The step that was under way may have become durable without having been acknowledged.
    const done = [acked, acked + 1].find((n) => seen === JSON.stringify(replay(n).pods));
    assert.ok(
      done !== undefined,
      `kill ${kill}: ${acked} steps were acknowledged, but the store holds ${seen} and not ` +
        JSON.stringify(replay(acked).pods),
    );
    inDoubt += done - acked;
    steps = done;
  }
  t.diagnostic(`${steps} steps, ${inDoubt} kills between commit and acknowledgement`);
  assert.ok(steps > KILLS, 'the writers did something');
});

/** How many steps are acknowledged in all when the writer is dead. */
async function writeUntilKilled(
  directory: string,
  podsDirectory: string,
  from: number,
  moment: number,
): Promise<number> {
  const writer = join(import.meta.dirname, 'crash-writer.ts');
  const child = spawn(process.execPath, [writer, directory, podsDirectory, String(from)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const closed = once(child, 'close');
  // Every fourth one is killed while it opens the store.
  if (moment > 0.25) await once(child.stdout, 'data');
  await sleep(moment * 160);
  child.kill('SIGKILL');
  await closed;
  return from + said.split('\n').filter((line) => line !== '').length;
}
