import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';

import { systemClock } from '../../src/base/clock.ts';
import { comesOrGoes, watchDirectory } from '../../src/linux/inotify.ts';

test(
  'changes are seen, also after the directory went and came back',
  { timeout: 20_000 },
  async () => {
    const dir = mkdtempSync(join(tmpdir(), 'limpet-inotify-'));
    const path = join(dir, 'manifests');
    const clock = systemClock('boot', () => 0);
    let calls = 0;
    const troubles: string[] = [];
    const seen = async (what: string) => {
      const before = calls;
      for (let i = 0; i < 500 && calls === before; i++) await pause(10);
      assert.notEqual(calls, before, `nothing was said of ${what}`);
      await pause(50);
    };
    const watch = watchDirectory(
      path,
      clock,
      () => calls++,
      (error) => troubles.push(error.message),
    );
    try {
      assert.equal(calls, 0, 'there is nothing yet');
      mkdirSync(path);
      await seen('its making');
      const step = async (what: string, act: () => void) => {
        const waiting = seen(what);
        act();
        await waiting;
      };
      await step('a new file', () => writeFileSync(join(path, 'a'), '1'));
      await step('a written file', () => writeFileSync(join(path, 'a'), '2'));
      await step('a renamed file', () => renameSync(join(path, 'a'), join(path, 'b')));
      await step('a removed file', () => rmSync(join(path, 'b')));
      await step('its end', () => rmSync(path, { recursive: true }));
      await step('its return', () => mkdirSync(path));
      await step('a file in the new one', () => writeFileSync(join(path, 'c'), '1'));
      // Replaced in one go, as a tool does that prepares a whole folder.
      mkdirSync(join(dir, 'next'));
      await step('its replacement', () => {
        renameSync(path, join(dir, 'old'));
        renameSync(join(dir, 'next'), path);
      });
      await step('a file in the replacement', () => writeFileSync(join(path, 'd'), '1'));
      assert.deepEqual(troubles, []);
    } finally {
      watch[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    }
    const after = calls;
    await pause(50);
    assert.equal(calls, after, 'it speaks after its end');
  },
);

for (const [what, hasDirectory] of [
  ['a file in a directory that is there', true],
  ['a file in a directory that is made for it', false],
] as const) {
  test(`${what} is told of when it comes`, { timeout: 20_000 }, async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'limpet-comes-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    const directory = join(root, 'run');
    if (hasDirectory) mkdirSync(directory);
    const stop = new AbortController();
    t.after(() => stop.abort());
    const told: string[] = [];
    void comesOrGoes(join(directory, 'socket'), stop.signal).then(() => told.push('came'));
    writeFileSync(join(root, 'other'), '');
    await pause(200);
    assert.deepEqual(told, []);
    if (!hasDirectory) mkdirSync(directory);
    else writeFileSync(join(directory, 'socket'), '');
    for (let i = 0; i < 500 && told.length === 0; i++) await pause(10);
    assert.deepEqual(told, ['came']);
  });
}

test('where nothing can be watched nobody is told, and nothing fails', async () => {
  const stop = new AbortController();
  const told: string[] = [];
  void comesOrGoes('/nowhere/at/all/socket', stop.signal).then(() => told.push('came'));
  await pause(50);
  stop.abort();
  await pause(50);
  assert.deepEqual(told, []);
});
