import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const SOURCE = join(import.meta.dirname, '../src');

test('all that the agent takes from Node is loaded before the flags of V8 change', () => {
  const start = readFileSync(join(SOURCE, 'start.ts'), 'utf8');
  const needed = /const NEEDED = \[([^;]*)\];/.exec(start)?.[1] ?? '';
  const loaded = new Set(needed.match(/[\w/]+/g));
  // There from the beginning in every Node, or loaded by start.ts itself.
  for (const name of ['fs', 'path', 'url', 'vm', 'sea', 'timers/promises']) loaded.add(name);
  const late = globSync('{base,kube,linux,store,cri,cgroup,agent,server,probe,volume}/*.ts', {
    cwd: SOURCE,
  }).flatMap((file) =>
    [...readFileSync(join(SOURCE, file), 'utf8').matchAll(/^import (?!type).* from 'node:(.*)';/gm)]
      .map(([, name = '']) => name)
      .filter((name) => !loaded.has(name))
      .map((name) => `${file}: ${name}`),
  );
  assert.deepEqual(late, []);
});
