/** What the store does to the card, as the kernel sees it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { place } from './world.ts';

const IDLE_MS = Number(process.env['LIMPET_TEST_IDLE_MS'] ?? 3000);
const CALLS =
  'write,writev,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,unlink,unlinkat,rename,' +
  'renameat,renameat2,mkdir,openat';
const WRITING = /^(write|writev|pwrite64|pwritev|ftruncate|fallocate|unlink|rename|mkdir)/;
const strace = spawnSync('strace', ['-V']).status === 0;

type Phase = { syncs: number; writes: number; bytes: number };

test(
  'syncs and writes are few, and none while nothing changes',
  strace ? {} : { skip: 'needs strace' },
  (t) => {
    const where = place(t, 'disk');
    const trace = join(where.directory, '..', 'trace');
    const writer = join(import.meta.dirname, 'quiet-writer.ts');
    const run = spawnSync(
      'strace',
      [
        ...['-f', '-y', '-s', '40', '-e', `trace=${CALLS}`, '-o', trace],
        ...[process.execPath, writer, where.directory, where.podsDirectory, String(IDLE_MS)],
      ],
      { encoding: 'utf8' },
    );
    const phases = phasesOf(readFileSync(trace, 'utf8'), join(where.directory, '..'));
    assert.match(run.stdout, /MARK end/, run.stderr);
    for (const [name, { syncs, writes, bytes }] of phases) {
      if (/ (1?[1-9]|10)$/.test(name)) continue;
      t.diagnostic(`${name}: ${syncs} syncs, ${writes} writes, ${bytes} bytes`);
    }
    const of = (name: string): Phase => phases.get(name) ?? assert.fail(`no phase ${name}`);
    for (let n = 0; n < 20; n++) assert.equal(of(`ledger ${n}`).syncs, 1, `ledger ${n}`);
    assert.equal(of('batch 0').syncs, 1);
    assert.ok(of('ledger 0').bytes <= 2 * 4200, 'one or two pages');
    assert.ok(of('events').syncs <= 2, 'only the beginning of a log is synced');
    assert.equal(of('more events').syncs, 0, 'events wait for nothing');
    assert.ok(of('more events').bytes > 0);
    assert.deepEqual(of('idle'), { syncs: 0, writes: 0, bytes: 0 });
  },
);

/** Counts what happens below `root` between marks. */
function phasesOf(trace: string, root: string): ReadonlyMap<string, Phase> {
  const phases = new Map<string, Phase>();
  let phase: Phase = { syncs: 0, writes: 0, bytes: 0 };
  for (const line of trace.split('\n')) {
    const marked = /write\(1<[^>]*>, "MARK ([^\\]*)/.exec(line);
    if (marked !== null) {
      phase = { syncs: 0, writes: 0, bytes: 0 };
      phases.set(marked[1]!, phase);
      continue;
    }
    const call = line.replace(/^\d+ +/, '');
    if (!call.includes(root)) continue;
    if (/^f(data)?sync/.test(call)) phase.syncs++;
    if (WRITING.test(call) || /O_CREAT/.test(call)) phase.writes++;
    if (/^p?write/.test(call)) phase.bytes += Number(/= (\d+)$/.exec(call)?.[1] ?? 0);
  }
  return phases;
}
