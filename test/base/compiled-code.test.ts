import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Script } from 'node:vm';
import { withCompiledCode } from '../../src/base/compiled-code.ts';

const SOURCE = '(function () { const f = (n) => n + 41; return f(1); })';
/** Another program of the same length, which is all that V8 itself looks at. */
const OTHER = '(function () { const f = (n) => n + 66; return f(1); })';

function rig(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'limpet-compiled-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const place = { directory: join(root, 'state'), runDirectory: join(root, 'run') };
  for (const directory of Object.values(place)) mkdirSync(directory);
  /** One start of a program, to the end of what it calls. */
  const start = (source = SOURCE, program = 'a') => {
    const compile = (cachedData: Buffer | undefined) =>
      new Script(source, { filename: 'p.js', ...(cachedData && { cachedData }) });
    const { script, code } = withCompiledCode({ ...place, program }, compile);
    const value = (script.runInThisContext() as () => number)();
    return { code, value };
  };
  const kept = () => readdirSync(place.directory);
  return { ...place, start, kept };
}

test('what one start has compiled the next one uses, and writes nothing', (t) => {
  const { start, kept } = rig(t);
  const first = start();
  assert.equal(first.code.state, 'none');
  assert.ok(first.code.settled(true) > 100);
  assert.equal(first.code.settled(true), 0, 'once only');
  first.code.works();
  const second = start();
  assert.deepEqual([second.code.state, second.value], ['used', 42]);
  assert.equal(second.code.settled(true), 0);
  assert.deepEqual(kept(), ['compiled-a']);
});

test('a start without pods keeps nothing, until there are some', (t) => {
  const { start, kept } = rig(t);
  const { code } = start();
  assert.equal(code.settled(false), 0);
  assert.deepEqual(kept(), []);
  assert.ok(code.settled(true) > 100);
});

test('another program takes nothing over, and the old code goes when its own is kept', (t) => {
  const { start, kept } = rig(t);
  start().code.settled(true);
  const other = start(OTHER, 'b');
  assert.deepEqual([other.code.state, other.value], ['none', 67]);
  other.code.settled(true);
  assert.deepEqual(kept(), ['compiled-b']);
});

for (const [damage, change] of [
  ['a changed bit', (file: Buffer) => file.fill(file[99]! ^ 1, 99, 100)],
  ['a missing end', (file: Buffer) => file.subarray(0, -100)],
  ['nothing in it', () => Buffer.alloc(0)],
  ['zeros in it', (file: Buffer) => Buffer.alloc(file.length)],
] as const) {
  test(`a file with ${damage} is not used, and made anew`, (t) => {
    const { directory, start } = rig(t);
    start().code.settled(true);
    const path = join(directory, 'compiled-a');
    writeFileSync(path, change(readFileSync(path)));
    const { code, value } = start();
    assert.deepEqual([code.state, value], ['refused', 42]);
    code.settled(true);
    assert.equal(start().code.state, 'used');
  });
}

test('code that V8 refuses is made anew', (t) => {
  const { start } = rig(t);
  start(`${SOURCE} // of another length`).code.settled(true);
  // What has been compiled in this process already would not be compiled again.
  const { code, value } = start(`${SOURCE} // new here`);
  assert.deepEqual([code.state, value], ['refused', 42]);
  code.works();
  code.settled(true);
  assert.equal(start(`${SOURCE} // new here`).code.state, 'used');
});

test('when the last start with kept code came to nothing, the next one does without', (t) => {
  const { runDirectory, start } = rig(t);
  start().code.settled(true);
  assert.equal(start().code.state, 'used');
  const after = start();
  assert.equal(after.code.state, 'refused');
  after.code.works();
  assert.deepEqual(readdirSync(runDirectory), []);
  assert.equal(start().code.state, 'used');
});

test('a directory that is not there fails no start', (t) => {
  const { directory, runDirectory, start } = rig(t);
  start().code.settled(true);
  rmSync(runDirectory, { recursive: true });
  assert.equal(start().value, 42);
  rmSync(directory, { recursive: true });
  const { code, value } = start();
  assert.equal(value, 42);
  assert.throws(() => code.settled(true), { code: 'ENOENT' });
  assert.equal(existsSync(directory), false);
});
