// What the build changes in Node, tried on the Node that runs this test.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  neededLibraries,
  withoutHugePages,
  withoutLibatomic,
  withoutSymbols,
} from '../../scripts/lib/elf.ts';

const ATOMIC = 'libatomic.so.1';

test('Node runs without symbols and without libatomic', (t) => {
  const original = readFileSync(process.execPath);
  assert.ok(neededLibraries(original).includes(ATOMIC), 'else the change is not needed any more');
  const stripped = withoutSymbols(original);
  assert.ok(stripped.length < original.length - 10e6);
  const image = withoutLibatomic(stripped);
  assert.deepEqual(
    neededLibraries(image),
    neededLibraries(original).filter((name) => name !== ATOMIC),
  );
  assert.ok(withoutLibatomic(image).equals(image), 'nothing to do the second time');
  assert.ok(withoutLibatomic(withoutSymbols(original)).equals(image), 'the same bytes each time');

  const directory = mkdtempSync(join(tmpdir(), 'limpet-elf-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'node');
  writeFileSync(path, image, { mode: 0o755 });
  // V8 takes entries of its dispatch tables with the replaced function: many functions, in several
  // threads, and WebAssembly, which has tables of its own.
  const program = `
    const { Worker, isMainThread } = require('node:worker_threads');
    for (let i = 0; i < 20000; i++) new Function('return ' + i)();
    const bytes = [0,97,115,109,1,0,0,0,1,5,1,96,0,1,127,3,2,1,0,7,5,1,1,102,0,0,10,6,1,4,0,65,7,11];
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports;
    if (f() !== 7) throw new Error('wasm');
    if (isMainThread) for (let i = 0; i < 3; i++) new Worker(__filename);
    console.log('done');
  `;
  const script = join(directory, 'program.cjs');
  writeFileSync(script, program);
  for (const bind of ['', '1']) {
    const env = { ...process.env, LD_BIND_NOW: bind };
    const out = execFileSync(path, [script], { encoding: 'utf8', env });
    assert.equal(out, 'done\n'.repeat(4));
  }
});

test('Node refuses huge pages before its first line, and starts as before', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-elf-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'node');
  const original = readFileSync(process.execPath);
  const program = `
    const status = require('node:fs').readFileSync('/proc/self/status', 'latin1');
    console.log(/^THP_enabled:.*(\\d)$/m.exec(status)[1], ...process.argv.slice(1));`;
  const ask = () =>
    execFileSync(path, ['--eval', program, '--', 'a', 'b'], { encoding: 'utf8' }).trim();
  writeFileSync(path, original, { mode: 0o755 });
  assert.equal(ask(), '1 a b');
  rmSync(path);
  writeFileSync(path, withoutHugePages(withoutLibatomic(withoutSymbols(original))), {
    mode: 0o755,
  });
  assert.equal(ask(), '0 a b');
});

test('what is no such file is refused', () => {
  assert.throws(() => withoutLibatomic(Buffer.alloc(64)), /not a 64-bit/);
  assert.throws(() => withoutHugePages(Buffer.alloc(64)), /not a 64-bit/);
  assert.throws(() => withoutSymbols(Buffer.from('#!/bin/sh\n'.padEnd(64))), /not a 64-bit/);
});
