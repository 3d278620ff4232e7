import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { writeFileDurably } from '../../src/base/durable-file.ts';
import { errnoOf } from '../../src/base/failure.ts';

test('a file is made or replaced as a whole, with the mode that was asked for', (t) => {
  const path = join(folder(t), 'state.json');
  writeFileDurably(path, 'one');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  writeFileSync(`${path}.tmp`, 'left over from a crash', { mode: 0o666 });
  writeFileDurably(path, new Uint8Array([0x74, 0x77, 0x6f]), 0o644);
  assert.equal(readFileSync(path, 'utf8'), 'two');
  assert.equal(statSync(path).mode & 0o777, 0o644);
});

test('a failure leaves the old file and nothing else', (t) => {
  const directory = folder(t);
  const path = join(directory, 'state.json');
  mkdirSync(join(path, 'in the way'), { recursive: true });
  assert.throws(
    () => writeFileDurably(path, 'new'),
    (error) => /EISDIR|ENOTEMPTY/.test(errnoOf(error) ?? ''),
  );
  assert.deepEqual(readdirSync(directory), ['state.json']);
  assert.throws(() => writeFileDurably(join(directory, 'none', 'x'), ''), { code: 'ENOENT' });
});

const strace = spawnSync('strace', ['-V']).status === 0 ? {} : { skip: 'needs strace' };

test('content is synced before the name, and the name before the return', strace, (t) => {
  const directory = folder(t);
  const module = JSON.stringify(join(import.meta.dirname, '../../src/base/durable-file.ts'));
  const script = `
    import { writeFileDurably } from ${module};
    writeFileDurably(${JSON.stringify(join(directory, 'state'))}, 'content');`;
  const calls = 'trace=write,fsync,rename,renameat,renameat2,close';
  const node = [process.execPath, '--input-type=module-typescript', '-e', script];
  const run = spawnSync('strace', ['-f', '-y', '-e', calls, ...node], { encoding: 'utf8' });
  const order = run.stderr
    .split('\n')
    .filter((line) => line.includes(directory))
    .map((line) => /(write|fsync|rename|close)\w*\(/.exec(line)?.[1]);
  assert.deepEqual(order, ['write', 'fsync', 'close', 'rename', 'fsync', 'close']);
});

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'limpet-durable-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
