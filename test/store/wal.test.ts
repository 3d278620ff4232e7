import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { closeQuietly, openDatabase } from '../../src/store/database.ts';
import { judgeWal } from '../../src/store/wal.ts';
import { place } from './world.ts';

const FRAME = 24 + 4096;
const frameAt = (n: number) => 32 + n * FRAME;
const COMMITS = 12;

let wal: Buffer;
/** Number of the frame that ends each commit. */
let ends: readonly number[];

before(() => {
  const ended: (() => void)[] = [];
  const { directory } = place({ after: (end) => ended.push(end) });
  mkdirSync(directory);
  const path = join(directory, 'x.db');
  const database = openDatabase(path, 'full');
  database.exec('CREATE TABLE t (a TEXT)');
  const insert = database.prepare('INSERT INTO t VALUES (?)');
  for (let n = 1; n < COMMITS; n++) insert.run('x'.repeat(n % 3 === 0 ? 9000 : 10));
  wal = readFileSync(`${path}-wal`);
  closeQuietly(database);
  ended.forEach((end) => end());
  const frames = (wal.length - 32) / FRAME;
  ends = Array.from({ length: frames }, (_, n) => n).filter(
    (n) => wal.readUInt32BE(frameAt(n) + 4) !== 0,
  );
});

test('a log as SQLite left it is sound, whole or ended after any frame', () => {
  assert.equal(ends.length, COMMITS);
  assert.ok(ends.at(-1)! > COMMITS, 'some commits have several frames');
  assert.equal(judgeWal(wal), 'sound');
  assert.equal(judgeWal(Buffer.alloc(0)), 'sound');
  for (let n = 0; n <= ends.at(-1)!; n++)
    assert.equal(judgeWal(wal.subarray(0, frameAt(n))), 'sound');
  assert.equal(judgeWal(wal.subarray(0, frameAt(5) + 777)), 'sound');
});

test('frames of an older log behind the end are no loss', () => {
  // After a checkpoint the log begins anew over the old frames, with other salts in its header.
  const old = Buffer.from(wal);
  for (let n = 4; n <= ends.at(-1)!; n++) old.writeUInt32BE(1, frameAt(n) + 8);
  assert.equal(judgeWal(old), 'sound');
});

test('a torn last commit is what a power cut leaves', () => {
  const [secondLast, last] = ends.slice(-2) as [number, number];
  for (let n = secondLast + 1; n <= last; n++) {
    const torn = Buffer.from(wal);
    torn.fill(0, frameAt(n) + 100, frameAt(n) + 612);
    assert.equal(judgeWal(torn), 'sound', `frame ${n}`);
  }
});

test('a wrong byte in any commit but the last one is a loss', () => {
  for (let n = 0; n <= ends.at(-3)!; n++) {
    for (const at of [0, 8, 16, 24, 2000, FRAME - 1]) {
      const broken = Buffer.from(wal);
      broken[frameAt(n) + at] = broken[frameAt(n) + at]! ^ 0x41;
      assert.equal(judgeWal(broken), 'lost', `byte ${at} of frame ${n}`);
    }
  }
  for (let at = 0; at < 32; at++) {
    const broken = Buffer.from(wal);
    broken[at] = broken[at]! ^ 0x41;
    assert.equal(judgeWal(broken), 'lost', `byte ${at} of the header`);
  }
});
