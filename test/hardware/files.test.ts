// Reads that hang for real: fanotify lets nobody open a file until it is answered, which it is not.
import assert from 'node:assert/strict';
import { closeSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { filesBelow } from '../../src/hardware/files.ts';
import { makeTree, REAL } from './tree.ts';

const FAN_CLASS_CONTENT = 4;
const FAN_MARK_ADD = 1;
const FAN_OPEN_PERM = 0x1_0000n;
const AT_FDCWD = -100;

/** Undefined where the kernel or our rights do not allow it. */
function hangOpens(paths: readonly string[]): (() => void) | undefined {
  const ffi = process.getBuiltinModule('node:ffi') as typeof import('node:ffi') | undefined;
  if (ffi === undefined) return undefined;
  const { functions } = ffi.dlopen('libc.so.6', {
    fanotify_init: { return: 'int32', arguments: ['uint32', 'uint32'] },
    fanotify_mark: {
      return: 'int32',
      arguments: ['int32', 'uint32', 'uint64', 'int32', 'buffer'],
    },
  });
  const fd = functions.fanotify_init(FAN_CLASS_CONTENT, 0);
  if (fd < 0) return undefined;
  for (const path of paths) {
    const name = Buffer.from(`${path}\0`);
    if (functions.fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, name) === 0) continue;
    closeSync(fd);
    return undefined;
  }
  // Closing it lets all go on.
  return () => closeSync(fd);
}

function tree(t: TestContext): { root: string; at: (name: string) => string } {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'well'];
  const root = makeTree(t, Object.fromEntries(names.map((name) => [name, `${name}\n`])));
  return { root, at: (name) => join(root, name) };
}

test('a read that hangs costs its own source only, and is not tried again meanwhile', async (t) => {
  const { root, at } = tree(t);
  const make = filesBelow(root, REAL);
  const release = hangOpens([at('a')]);
  if (release === undefined) return t.skip('opens can not be made to hang here (root, fanotify)');
  try {
    const [ill, well] = [make(), make()];
    const began = performance.now();
    const found = await ill.text('/a');
    assert.ok(!found.ok && !found.missing);
    assert.match(found.why, /^can't read \/a: no answer in 2 s$/);
    assert.ok(performance.now() - began < 3000);
    const again = await ill.text('/b');
    assert.ok(!again.ok && !again.missing);
    assert.match(again.why, /an earlier read still hangs/);
    assert.deepEqual(await well.text('/well'), { ok: true, value: 'well' });
    release();
    await REAL.sleep(100, new AbortController().signal);
    assert.deepEqual(await ill.text('/a'), { ok: true, value: 'a' });
  } catch (error) {
    release();
    throw error;
  }
});

test('however many hang, threads are left for the rest of the process', async (t) => {
  const { root, at } = tree(t);
  const make = filesBelow(root, REAL);
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const release = hangOpens(names.map(at));
  if (release === undefined) return t.skip('opens can not be made to hang here (root, fanotify)');
  try {
    for (const name of names) {
      const found = await make().text(`/${name}`);
      assert.ok(!found.ok && !found.missing);
    }
    // This shares the threads.
    assert.equal(await readFile(at('well'), 'utf8'), 'well\n');
  } finally {
    release();
  }
  await REAL.sleep(100, new AbortController().signal);
  assert.deepEqual(await make().text('/f'), { ok: true, value: 'f' });
});

test('what is missing is an answer, and what is empty is a trouble', async (t) => {
  const { root, at } = tree(t);
  const files = filesBelow(root, REAL)();
  assert.deepEqual(await files.text('/none'), { ok: false, missing: true });
  assert.deepEqual(await files.text('/a/none'), { ok: false, missing: true });
  writeFileSync(at('a'), ' \n');
  const found = await files.text('/a');
  assert.ok(!found.ok && !found.missing && found.why.includes('empty'));
  assert.deepEqual(await files.names('/none'), { ok: false, missing: true });
  assert.deepEqual(await files.names('/a'), { ok: false, missing: true });
});

test('an answer that came while this thread was busy is not late', async (t) => {
  const { root } = tree(t);
  const files = filesBelow(root, REAL)();
  const reading = files.text('/well');
  // Longer than a read may take.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2100);
  assert.deepEqual(await reading, { ok: true, value: 'well' });
});
