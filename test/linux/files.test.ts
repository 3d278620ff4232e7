import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { readdirSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

import { Failure, type FailureCode } from '../../src/base/failure.ts';
import { readCapped, writeDurable, writeIfChanged } from '../../src/linux/files.ts';

let dir: string;
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'limpet-files-'))));
afterEach(() => rmSync(dir, { recursive: true }));

const fails = (code: FailureCode, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, text);
  return true;
};

test('a durable write replaces the file, its mode, and what a power cut left', async () => {
  const path = join(dir, 'a');
  writeFileSync(path, 'old', { mode: 0o644 });
  writeFileSync(join(dir, '.a.new'), 'half');
  await writeDurable(path, 'new', 0o666);
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.equal(statSync(path).mode & 0o777, 0o666, 'not cut by the umask');
  assert.deepEqual(readdirSync(dir), ['a']);
});

test('a durable write through a planted link replaces the link, not what it names', async () => {
  writeFileSync(join(dir, 'victim'), 'untouched');
  symlinkSync('victim', join(dir, 'a'));
  symlinkSync('victim', join(dir, '.a.new'));
  await writeDurable(join(dir, 'a'), 'new', 0o600);
  assert.equal(readFileSync(join(dir, 'victim'), 'utf8'), 'untouched');
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), 'new');
});

test('a write into no directory says so', async () => {
  await assert.rejects(
    writeDurable(join(dir, 'none/a'), '', 0o600),
    fails('NotFound', /^can't write .*none\/a: ENOENT: no such file or directory$/),
  );
});

test('an unchanged file is not written again', async () => {
  const path = join(dir, 'a');
  assert.equal(await writeIfChanged(path, 'one', 0o600), true);
  const before = statSync(path, { bigint: true });
  assert.equal(await writeIfChanged(path, 'one', 0o600), false);
  assert.equal(statSync(path, { bigint: true }).ctimeNs, before.ctimeNs);
  assert.equal(await writeIfChanged(path, 'on', 0o600), true);
  assert.equal(readFileSync(path, 'utf8'), 'on');
});

test('reading is capped, and only plain files are read', async () => {
  writeFileSync(join(dir, 'a'), 'x'.repeat(100_000));
  assert.equal((await readCapped(join(dir, 'a'), 100_000)).length, 100_000);
  await assert.rejects(
    readCapped(join(dir, 'a'), 99_999),
    fails('InvalidArgument', /it has 100000 bytes, allowed are 99999/),
  );
  symlinkSync('a', join(dir, 'link'));
  await assert.rejects(
    readCapped(join(dir, 'link'), 10),
    fails('InvalidArgument', /symbolic link/),
  );
  mkdirSync(join(dir, 'dir'));
  await assert.rejects(readCapped(join(dir, 'dir'), 10), fails('InvalidArgument', /not a plain/));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  await assert.rejects(readCapped(join(dir, 'fifo'), 10), fails('InvalidArgument', /not a plain/));
  await assert.rejects(readCapped(join(dir, 'none'), 10), fails('NotFound', /no such file/));
  // procfs says that its files have no bytes.
  assert.match((await readCapped('/proc/self/status', 100_000)).toString(), /^Name:/);
  await assert.rejects(readCapped('/dev/zero', 10), fails('InvalidArgument', /not a plain file/));
});
